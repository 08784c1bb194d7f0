"""The output folder of an evaluation: its rows in `metrics.csv`, and the lock file by which it is continued."""

import csv
import io
import os
import re
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, fields
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, NamedTuple, Protocol, TextIO, TypeAlias, TypeVar, cast

import psutil

from ctsr.documents import as_type, parse_json
from ctsr.errors import DomainError, ReadError
from ctsr.evaluate.slice_metrics import Domain
from ctsr.evaluate.statistics import ImageRef, MeasuredImage, RowT
from ctsr.files import new_folder, write_atomically, write_json
from ctsr.hu import HURange
from ctsr.metrics import METRICS, MetricValue

LOCK_FILE = ".unfinished.json"
STALE_SECONDS = 600.0
"""A run on another computer that has written nothing for this long is taken to have ended."""
KEY_COLUMNS = ("patient_id", "series_uid", "deg_seed", "slice_index", "sop_instance_uid", "z_mm", "method")
TOLD_COLUMNS = ("told_blur_sigma", "told_noise_hu")
"""In evaluations of a conditional model: what it was told of the slice."""
DOMAIN_COLUMNS = (
    *("pi_kind", "window", "mask", "window_center", "window_width", "data_range"),
    *("hu_low", "hu_high", "not_computed"),
)


@dataclass
class OutputFolder:
    """``eval_results/<stem>__<timestamp>/``; unfinished as long as it holds a lock file."""

    path: Path
    continued: bool
    """It holds rows of an interrupted evaluation of the same models, settings and slices."""
    finished: bool = True
    """Whether nothing is left to compute when the block ends without an error; to be set to False where rows miss."""

    @property
    def metrics_csv(self) -> Path:
        """One row for each slice, domain and method."""
        return self.path / "metrics.csv"

    @property
    def summary_json(self) -> Path:
        """Statistics, settings and the degradations that were drawn."""
        return self.path / "summary.json"

    @property
    def config_json(self) -> Path:
        """The settings, in the form of a configuration file."""
        return self.path / "config.json"

    @property
    def report_html(self) -> Path:
        """The report, as one page."""
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        """Folder of the plots."""
        return self.path / "plots"


@dataclass(frozen=True)
class LockFile:
    """Marks a folder as unfinished: for which evaluation, and by which process."""

    fingerprint: str
    host: str = ""
    pid: int = 0
    started: float = 0.0
    """Start time of the process, as process ids are reused."""

    @classmethod
    def of_this_process(cls, fingerprint: str) -> "LockFile":
        """A lock held by this process."""
        return cls(fingerprint, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, folder: Path) -> "LockFile | None":
        """The lock file in `folder`; None where there is none that can be read."""
        try:
            return as_type(parse_json((folder / LOCK_FILE).read_bytes()), cls)
        except (OSError, ReadError):
            return None

    def write(self, folder: Path) -> None:
        """Write it into `folder`."""
        write_json(folder / LOCK_FILE, asdict(self))

    def is_held(self, folder: Path) -> bool:
        """Whether a process is writing into the folder at this moment."""
        if not self.pid:
            return False
        if self.host != socket.gethostname():
            return time.time() - max(file.stat().st_mtime for file in folder.iterdir()) < STALE_SECONDS
        try:
            return psutil.Process(self.pid).create_time() == self.started
        except psutil.Error:
            return False


@contextmanager
def output_folder(parent: Path, stem: str, fingerprint: str) -> Generator[OutputFolder]:
    """Lock an unfinished folder with the same fingerprint, or a new one, until the block ends.

    A block that ends without an error finishes the folder, unless `finished` was set to False. The next evaluation with
    the same fingerprint continues an unfinished one.
    """
    folder = _unfinished(parent, stem, fingerprint)
    if folder is None:
        folder = OutputFolder(new_folder(parent, f"{stem}__"), continued=False)
    LockFile.of_this_process(fingerprint).write(folder.path)
    try:
        yield folder
    finally:
        LockFile(fingerprint).write(folder.path)
    if folder.finished:
        (folder.path / LOCK_FILE).unlink()


def _unfinished(parent: Path, stem: str, fingerprint: str) -> OutputFolder | None:
    for path in sorted(parent.glob(f"{stem}__*"), reverse=True):
        lock = LockFile.read(path)
        if lock and lock.fingerprint == fingerprint and not lock.is_held(path):
            return OutputFolder(path, continued=(path / "metrics.csv").is_file())
    return None


@dataclass(frozen=True)
class SliceRef(ImageRef):
    """Identifies the slice of a row."""

    series_uid: str
    """Followed by ``/number`` where several series of the patient have this UID."""
    deg_seed: int
    """Seed of the patient's degradations."""
    slice_index: int
    """Within its series, in order along the normal."""
    sop_instance_uid: str
    """Followed by ``#frame`` in a multi-frame object; the index in NIfTI."""
    z_mm: float


class Told(NamedTuple):
    """What a conditional model was told of a slice."""

    blur_sigma: float
    """HR pixels."""
    noise_hu: float


@dataclass(frozen=True)
class Row:
    """The metrics of one method on one slice and domain, in the order of the columns."""

    slice: SliceRef
    method: str
    metrics: Mapping[str, MetricValue]
    window: str = "globalHU_-1000_2000"
    """Tag of the metrics' window."""
    mask: str = "none"
    """`none`, or `body`."""
    told: Told | None = None
    """What a conditional model was told."""


def on_domain(rows: Iterable[RowT], domain: Domain) -> list[RowT]:
    """The rows of one domain."""
    return [row for row in rows if row.window == domain.window.tag and row.mask == domain.mask]


RowT_contra = TypeVar("RowT_contra", bound=MeasuredImage, contravariant=True)
T = TypeVar("T")


class CsvColumns(Protocol[RowT_contra]):
    """The columns of a `metrics.csv`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The header line."""
        ...

    def cells(self, row: RowT_contra) -> tuple[object, ...]:
        """One line."""
        ...


@dataclass(frozen=True)
class MetricColumns:
    """The columns of metrics and domains, and what is the same in all rows."""

    metrics: Sequence[str]
    domains: Sequence[Domain]
    hu_range: HURange
    pi_kind: str | None = None

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Their header. The last columns give window, mask and ranges, and the reason of each missing value."""
        return (*self.metrics, *DOMAIN_COLUMNS)

    def metric_cells(self, row: MeasuredImage) -> tuple[object, ...]:
        """Their cells of one line; floats in the shortest form that reads back to the same bits."""
        values = [row.metrics[name] for name in self.metrics]
        missing = {name: v.reason for name, v in zip(self.metrics, values, strict=True) if v.value is None}
        has_index = "PI" in row.metrics and row.metrics["PI"].value is not None
        window = next(domain.window for domain in self.domains if domain.window.tag == row.window).window
        return (
            *("" if v.value is None else v.value for v in values),
            (self.pi_kind or "") if has_index else "",
            *(row.window, row.mask, window.center, window.width, 1.0, self.hu_range.low, self.hu_range.high),
            "; ".join(f"{name}: {reason}" for name, reason in missing.items()),
        )


@dataclass(frozen=True)
class Columns(MetricColumns):
    """The columns of a `metrics.csv` of slices."""

    told: bool = False
    """Whether there is a conditional model, which was told something."""

    @property
    def names(self) -> tuple[str, ...]:
        """The header line."""
        return (*KEY_COLUMNS, *(TOLD_COLUMNS if self.told else ()), *self.metric_names)

    def cells(self, row: Row) -> tuple[object, ...]:
        """One line."""
        ref = row.slice
        return (
            *(ref.patient_id, ref.series_uid, ref.deg_seed, ref.slice_index, ref.sop_instance_uid, ref.z_mm),
            row.method,
            *((row.told or ("", "")) if self.told else ()),
            *self.metric_cells(row),
        )


class RowWriter(Generic[RowT_contra]):
    """Writes `metrics.csv` slice by slice: after a crash, every slice but the last one is whole.

    Args:
        path: of the file.
        columns: of the file.
        kept: rows of an interrupted run, with which the file begins.
    """

    def __init__(self, path: Path, columns: CsvColumns[RowT_contra], kept: Iterable[RowT_contra] = ()) -> None:
        self._path, self._columns = path, columns
        self._kept = tuple(kept)
        self._file: TextIO | None = None

    def __enter__(self) -> "RowWriter[RowT_contra]":
        write_atomically(self._path, to_csv(self._kept, self._columns))
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def add(self, rows: Iterable[RowT_contra]) -> None:
        """Write the rows of one slice and flush them to the operating system."""
        assert self._file is not None, "rows are added inside `with`"
        self._file.write(to_csv(rows, self._columns, header=False))
        self._file.flush()


def to_csv(rows: Iterable[RowT], columns: CsvColumns[RowT], *, header: bool = True) -> str:
    """Format rows as CSV lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(columns.names)
    writer.writerows(columns.cells(row) for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a `metrics.csv`; a line that was cut off, damaged or edited into something else counts for none.

    Raises:
        ReadError: the columns are not those of `Columns`.
    """
    whole = _whole_lines(path)
    reader = csv.DictReader(io.StringIO(whole))
    try:
        names = tuple(reader.fieldnames or ())
    except csv.Error:
        names = ()
    between = names[len(KEY_COLUMNS) : -len(DOMAIN_COLUMNS)]
    metrics = tuple(name for name in between if name not in TOLD_COLUMNS)
    told = TOLD_COLUMNS if len(metrics) < len(between) else ()
    if whole and (names != (*KEY_COLUMNS, *told, *metrics, *DOMAIN_COLUMNS) or not set(metrics) <= set(METRICS)):
        raise ReadError(f"{path}: these are not the columns of a metrics.csv; remove the folder to evaluate again")
    return list(_parsed(reader, partial(_row, metrics=metrics)))


def _whole_lines(path: Path) -> str:
    """The text of a file up to its last newline; what is no UTF-8 becomes a character that no value has."""
    text = path.read_bytes().decode("utf-8", "replace")
    return text[: text.rfind("\n") + 1]


def _parsed(lines: Iterable[dict[str, str]], parse: Callable[[dict[str, str]], T]) -> Iterator[T]:
    """What the lines hold, without those that hold something else."""
    with suppress(csv.Error):  # a field without end: what follows it is not known either
        for line in lines:
            with suppress(DomainError, KeyError, TypeError, ValueError):
                yield parse(line)


def _row(line: Mapping[str, str], metrics: Sequence[str]) -> Row:
    ref = SliceRef(
        patient_id=line["patient_id"],
        series_uid=line["series_uid"],
        deg_seed=int(line["deg_seed"]),
        slice_index=int(line["slice_index"]),
        sop_instance_uid=line["sop_instance_uid"],
        z_mm=float(line["z_mm"]),
    )
    values = parse_metrics(line, metrics)
    cells = [line.get(name, "") for name in TOLD_COLUMNS]
    told = Told(float(cells[0]), float(cells[1])) if all(cells) else None
    return Row(ref, line["method"], values, line["window"], line["mask"], told)


def parse_metrics(line: Mapping[str, str], metrics: Sequence[str]) -> dict[str, MetricValue]:
    """The values of one line, see `MetricColumns.metric_cells`."""
    # A reason may hold a semicolon itself: only one before a metric's name separates reasons.
    names = "|".join(map(re.escape, metrics))
    items = re.split(rf"; (?=(?:{names}): )", line["not_computed"])
    reasons = dict(item.split(": ", 1) for item in items if item)
    return {
        name: MetricValue(float(line[name])) if line[name] else MetricValue(None, reasons[name]) for name in metrics
    }


# Rows of planes through a volume


Direction: TypeAlias = Literal["axial", "coronal", "sagittal"]
DIRECTIONS: tuple[Direction, ...] = ("axial", "coronal", "sagittal")
"""Directions of planes, by the axis of a volume that they are perpendicular to."""


@dataclass(frozen=True)
class SliceCase:
    """How thick slices are made."""

    thickness_mm: float
    distance_mm: float

    @property
    def text(self) -> str:
        """For readers."""
        return f"slices of {self.thickness_mm:g} mm every {self.distance_mm:g} mm"


@dataclass(frozen=True)
class PlaneRef(ImageRef):
    """Identifies the plane of a row."""

    thickness_mm: float
    distance_mm: float
    plane: Direction
    plane_index: int
    """Within the truth: the thin slices from the first thick one to the last."""
    position_mm: float
    """Along its normal, from the first plane."""

    @property
    def case(self) -> SliceCase:
        """How its thick slices were made."""
        return SliceCase(self.thickness_mm, self.distance_mm)


PLANE_COLUMNS = (*(column.name for column in fields(PlaneRef)), "method")


@dataclass(frozen=True)
class PlaneRow:
    """The metrics of one method on one plane and domain, in the order of the columns."""

    slice: PlaneRef
    method: str
    metrics: Mapping[str, MetricValue]
    window: str
    """Tag of the metrics' window."""
    mask: str
    """`none`, or `body`."""


@dataclass(frozen=True)
class PlaneColumns(MetricColumns):
    """The columns of a `metrics.csv` of planes."""

    @property
    def names(self) -> tuple[str, ...]:
        """The header line."""
        return (*PLANE_COLUMNS, *self.metric_names)

    def cells(self, row: PlaneRow) -> tuple[object, ...]:
        """One line."""
        return (*astuple(row.slice), row.method, *self.metric_cells(row))


def read_plane_rows(path: Path, metrics: Sequence[str]) -> list[PlaneRow]:
    """Read the rows of a `metrics.csv` of planes, as `read_rows` those of slices; of other columns, none."""
    lines = csv.DictReader(io.StringIO(_whole_lines(path)))
    return list(_parsed(lines, partial(_plane_row, metrics=metrics)))


def _plane_row(line: Mapping[str, str], metrics: Sequence[str]) -> PlaneRow:
    ref = PlaneRef(
        line["patient_id"],
        line["series_uid"],
        float(line["thickness_mm"]),
        float(line["distance_mm"]),
        cast("Direction", line["plane"]),
        int(line["plane_index"]),
        float(line["position_mm"]),
    )
    return PlaneRow(ref, line["method"], parse_metrics(line, metrics), line["window"], line["mask"])
