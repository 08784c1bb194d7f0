"""One row for each slice and method, and the CSV file they are kept in while an evaluation runs."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ctsr.errors import ReadError
from ctsr.evaluate.window import MetricWindow
from ctsr.files import write_atomically
from ctsr.hu import HURange
from ctsr.metrics import METRICS, MetricValue

__all__ = ["COLUMNS", "Row", "RowFile", "SliceRef", "read_rows", "to_csv"]

KEY_COLUMNS = ("patient_id", "series_uid", "deg_seed", "slice_index", "sop_instance_uid", "z_mm", "method")
DOMAIN_COLUMNS = ("pi_kind", "window_center", "window_width", "data_range", "hu_low", "hu_high", "not_computed")
COLUMNS = (*KEY_COLUMNS, *METRICS, *DOMAIN_COLUMNS)
"""Of `metrics.csv`. The last ones say what the numbers mean and, for each that is missing, why."""


@dataclass(frozen=True)
class SliceRef:
    """Which slice a row is about."""

    patient_id: str
    series_uid: str
    """With ``/number`` behind it where several of the patient's series have this UID."""
    deg_seed: int
    """The seed that the patient's degradations are drawn from."""
    slice_index: int
    """Within its series, in order along the normal."""
    sop_instance_uid: str
    """With ``#frame`` behind it in a multi-frame object; the index in NIfTI."""
    z_mm: float


@dataclass(frozen=True)
class Row:
    """The metrics of one method on one slice, in the order of the columns."""

    slice: SliceRef
    method: str
    metrics: Mapping[str, MetricValue]


class RowFile:
    """`metrics.csv`, grown slice by slice: after a crash, every slice but the last one is whole."""

    def __init__(self, path: Path, window: MetricWindow, hu_range: HURange, kept: Iterable[Row] = ()) -> None:
        """Begin the file with the rows that are `kept` from an interrupted run."""
        self._path, self._window, self._hu_range = path, window, hu_range
        self._kept = tuple(kept)
        self._file: TextIO | None = None

    def __enter__(self) -> "RowFile":
        write_atomically(self._path, to_csv(self._kept, self._window, self._hu_range))
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Write one slice's rows and hand them to the operating system."""
        assert self._file is not None, "rows are added inside `with`"
        self._file.write(to_csv(rows, self._window, self._hu_range, header=False))
        self._file.flush()


def to_csv(rows: Iterable[Row], window: MetricWindow, hu_range: HURange, *, header: bool = True) -> str:
    """Rows as CSV lines; floats in the shortest form that reads back to the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        ref, missing = row.slice, {name: v.reason for name, v in row.metrics.items() if v.value is None}
        writer.writerow(
            (
                *(ref.patient_id, ref.series_uid, ref.deg_seed, ref.slice_index, ref.sop_instance_uid, ref.z_mm),
                row.method,
                *("" if row.metrics[name].value is None else row.metrics[name].value for name in METRICS),
                "",  # no PI is computed yet, so it is of no kind
                *(window.window.center, window.window.width, 1.0, hu_range.low, hu_range.high),
                "; ".join(f"{name}: {reason}" for name, reason in missing.items()),
            )
        )
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`; a last line that was cut off in the middle is left out.

    Raises:
        ReadError: the columns are not ours.
    """
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    if whole and tuple(reader.fieldnames or ()) != COLUMNS:
        raise ReadError(f"{path}: these are not the columns of a metrics.csv; remove the folder to evaluate anew")
    return list(_parsed(reader))


def _parsed(lines: Iterable[dict[str, str]]) -> Iterator[Row]:
    for line in lines:
        reasons = dict(item.split(": ", 1) for item in line["not_computed"].split("; ") if item)
        ref = SliceRef(
            patient_id=line["patient_id"],
            series_uid=line["series_uid"],
            deg_seed=int(line["deg_seed"]),
            slice_index=int(line["slice_index"]),
            sop_instance_uid=line["sop_instance_uid"],
            z_mm=float(line["z_mm"]),
        )
        metrics = {
            name: MetricValue(float(line[name])) if line[name] else MetricValue(None, reasons[name]) for name in METRICS
        }
        yield Row(ref, line["method"], metrics)
