"""One row for each slice, domain and method, and the CSV file they are kept in while an evaluation runs."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ctsr.errors import ReadError
from ctsr.evaluate.judge import Domain
from ctsr.files import write_atomically
from ctsr.hu import HURange
from ctsr.metrics import METRICS, MetricValue

__all__ = ["Columns", "Row", "RowFile", "SliceRef", "on_domain", "read_rows", "to_csv"]

KEY_COLUMNS = ("patient_id", "series_uid", "deg_seed", "slice_index", "sop_instance_uid", "z_mm", "method")
DOMAIN_COLUMNS = (
    *("pi_kind", "window", "mask", "window_center", "window_width", "data_range"),
    *("hu_low", "hu_high", "not_computed"),
)


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
    window: str = "globalHU_-1000_2000"
    """Tag of the window that the metrics on it were taken in."""
    mask: str = "none"
    """`none`, or `body`."""


def on_domain(rows: Iterable[Row], domain: Domain) -> list[Row]:
    """Those of one domain."""
    return [row for row in rows if row.window == domain.window.tag and row.mask == domain.mask]


@dataclass(frozen=True)
class Columns:
    """What the columns of a `metrics.csv` mean: the same in all its rows."""

    metrics: Sequence[str]
    domains: Sequence[Domain]
    hu_range: HURange
    pi_kind: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The first line. The last ones say what the numbers mean and, for each that is missing, why."""
        return (*KEY_COLUMNS, *self.metrics, *DOMAIN_COLUMNS)

    def cells(self, row: Row) -> tuple[object, ...]:
        """One line; floats in the shortest form that reads back to the same bits."""
        ref, values = row.slice, [row.metrics[name] for name in self.metrics]
        missing = {name: v.reason for name, v in zip(self.metrics, values, strict=True) if v.value is None}
        has_index = "PI" in row.metrics and row.metrics["PI"].value is not None
        window = next(d.window for d in self.domains if d.window.tag == row.window).window
        return (
            *(ref.patient_id, ref.series_uid, ref.deg_seed, ref.slice_index, ref.sop_instance_uid, ref.z_mm),
            row.method,
            *("" if v.value is None else v.value for v in values),
            (self.pi_kind or "") if has_index else "",
            *(row.window, row.mask, window.center, window.width, 1.0, self.hu_range.low, self.hu_range.high),
            "; ".join(f"{name}: {reason}" for name, reason in missing.items()),
        )


class RowFile:
    """`metrics.csv`, grown slice by slice: after a crash, every slice but the last one is whole."""

    def __init__(self, path: Path, columns: Columns, kept: Iterable[Row] = ()) -> None:
        """Begin the file with the rows that are `kept` from an interrupted run."""
        self._path, self._columns = path, columns
        self._kept = tuple(kept)
        self._file: TextIO | None = None

    def __enter__(self) -> "RowFile":
        write_atomically(self._path, to_csv(self._kept, self._columns))
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Write one slice's rows and hand them to the operating system."""
        assert self._file is not None, "rows are added inside `with`"
        self._file.write(to_csv(rows, self._columns, header=False))
        self._file.flush()


def to_csv(rows: Iterable[Row], columns: Columns, *, header: bool = True) -> str:
    """Rows as CSV lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(columns.names)
    writer.writerows(columns.cells(row) for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`; a last line that was cut off in the middle is left out.

    Raises:
        ReadError: the columns are not ours.
    """
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    names = tuple(reader.fieldnames or ())
    metrics = names[len(KEY_COLUMNS) : -len(DOMAIN_COLUMNS)]
    if whole and (names != (*KEY_COLUMNS, *metrics, *DOMAIN_COLUMNS) or not set(metrics) <= set(METRICS)):
        raise ReadError(f"{path}: these are not the columns of a metrics.csv; remove the folder to evaluate anew")
    return list(_parsed(reader, metrics))


def _parsed(lines: Iterable[dict[str, str]], metrics: Sequence[str]) -> Iterator[Row]:
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
        values = {
            name: MetricValue(float(line[name])) if line[name] else MetricValue(None, reasons[name]) for name in metrics
        }
        yield Row(ref, line["method"], values, line["window"], line["mask"])
