"""Translate the library's messages for the command line: fields become flags."""

import re

FIELDS = frozenset(
    {
        "allow_gaps",
        "assume_hu",
        "dask",
        "hu_offset",
        "hu_scale",
        "jobs",
        "out_dir",
        "patch_size",
        "scale",
        "seed",
        "split_json",
        "target_spacing",
        "window_center",
        "window_width",
    }
)
"""Arguments of library functions that errors name in backticks, and that have a flag of the same name."""


def with_flags(message: str) -> str:
    """Write `` `assume_hu` `` as ``--assume_hu``; other words in backticks stay as they are."""
    return re.sub(r"`(\w+)`", lambda match: f"--{match[1]}" if match[1] in FIELDS else match[0], message)
