"""The two logs in the output folder: one row per series, the same rows as CSV and as JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ctsr.data.roots import PREPROCESSING_LOG
from ctsr.errors import ReadError
from ctsr.files import to_json, write_atomically
from ctsr.series import Excluded
from ctsr.text import one_line, printable

__all__ = ["CSV_LOG", "JSON_LOG", "SeriesRow", "read_log", "write_log"]

CSV_LOG = PREPROCESSING_LOG
JSON_LOG = "preprocessing_log.json"


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """What became of one series; the field names are the columns. Sizes are in pixels, lengths in mm."""

    patient_id: str
    """The source's folder name."""
    series_uid: str
    num_slices: int
    """Slices that are in the output; of a skipped series, slices that were left out."""
    orig_row_mm: float | None = None
    orig_col_mm: float | None = None
    slice_thickness_mm: float | None = None
    new_row_mm: float | None = None
    new_col_mm: float | None = None
    orig_rows: int | None = None
    orig_cols: int | None = None
    new_rows: int | None = None
    new_cols: int | None = None
    upsampled: bool | None = None
    """True where the source was coarser than the target along either axis."""
    skipped: bool
    reason: str = ""
    """Why it was skipped, or what of it is missing."""
    new_series_uid: str = ""
    source: str
    """Folder or file below the root, with forward slashes."""
    output: str = ""
    """Folder below the output folder, with forward slashes."""

    @property
    def key(self) -> tuple[str, str]:
        """What a row is about: later rows replace earlier ones of the same key."""
        return self.patient_id, self.series_uid or self.source

    @classmethod
    def of_excluded(cls, patient_id: str, excluded: Excluded, root: Path) -> "SeriesRow":
        """The row of something that was looked at and left out."""
        return cls(
            patient_id=patient_id,
            series_uid=excluded.series_uid,
            num_slices=excluded.num_slices,
            skipped=True,
            reason=one_line(excluded.reason),
            source=printable(excluded.path.relative_to(root).as_posix()),
        )


def read_log(out_dir: Path) -> tuple[SeriesRow, ...]:
    """The rows in an output folder; none where nothing was ever written.

    Raises:
        ReadError: the JSON log is there but is not one of ours.
    """
    path = out_dir / JSON_LOG
    if not path.is_file():
        return ()
    try:
        rows = cast("list[dict[str, Any]]", json.loads(path.read_text(encoding="utf-8")))
        return tuple(SeriesRow(**row) for row in rows)
    except (ValueError, TypeError) as error:
        raise ReadError(f"{path}: not a log of ctsr ({error}); move it away, or choose another --out_dir") from error


def write_log(out_dir: Path, rows: Iterable[SeriesRow]) -> None:
    """Write both logs, sorted by patient, each whole; files that say the same already are left alone."""
    table = [dataclasses.asdict(row) for row in sorted(rows, key=_order)]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    columns = [field.name for field in dataclasses.fields(SeriesRow)]
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in table)
    # JSON first: it is the one that is read back, so an interruption between the two is mended by the next run.
    _update(out_dir / JSON_LOG, to_json(table))
    _update(out_dir / CSV_LOG, lines.getvalue())


def _order(row: SeriesRow) -> tuple[str, str, str, int]:
    return row.patient_id, row.source, row.series_uid, row.orig_rows or 0


def _cell(value: object) -> object:
    """As in JSON: true and false in small letters; empty where JSON has null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def _update(path: Path, content: str) -> None:
    if not path.is_file() or path.read_bytes() != content.encode("utf-8"):
        write_atomically(path, content)
