"""When a file was written, as its text says."""

import re

MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T[\d:+-]+)?")
"""Of reports, the day alone: an evaluation may begin before midnight and end after it."""
