"""The logs that preprocessing leaves."""

import csv
import json
from pathlib import Path

from ctsr.preprocess.manifest import CSV_LOG, JSON_LOG


def rows_of(out: Path) -> list[dict[str, object]]:
    """The JSON log, after making sure that the CSV says the same."""
    rows = json.loads((out / JSON_LOG).read_text(encoding="utf-8"))
    with (out / CSV_LOG).open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    words = {None: "", True: "true", False: "false"}
    assert table == [
        {k: words[v] if v is None or isinstance(v, bool) else str(v) for k, v in row.items()} for row in rows
    ]
    return rows
