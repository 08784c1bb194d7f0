"""Every series resampled in plane to one pixel spacing, as valid DICOM, with logs that are true throughout."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

from ctsr import make_callable
from ctsr.dicom import files_below
from ctsr.dicom.encode import Compression
from ctsr.errors import MissingInputError, ReadError, SeriesError, boundary
from ctsr.exams import scan
from ctsr.files import check_disk_space, clear_leftovers
from ctsr.hu import AS_READ, HUCorrection
from ctsr.paths import check_apart
from ctsr.pool import available_cores, executor_for, in_order
from ctsr.preprocess.manifest import UNFINISHED, Manifest, ManifestEntry, SeriesRow, fingerprint, read_log, write_log
from ctsr.preprocess.slices import (
    FileResult,
    FileTask,
    ResampleSettings,
    SeriesPlan,
    TaskChunk,
    chunks_of,
    plan_series,
    refused_row,
    run_chunk,
    series_keys,
)
from ctsr.reporting import SILENT, Progress, counted, listed
from ctsr.series import LEFT_OUT, Inventory, Series, check

HEADER_BYTES = 16_384
"""Room a header may take, when disk space is reckoned with."""
FEW_FILES = 32
"""So few are read and made faster in this process than it takes to start others."""
MOST_DOUBTS = 3
"""Slices with strange values that a line names before it says how many more there are."""
MOST_NAMED = 20
"""Patients that a line names before it says how many more there are."""


@dataclass(frozen=True)
class PreprocessReport:
    """Result of a run."""

    rows: tuple[SeriesRow, ...]
    """One for each series below the root, those that were left out among them."""
    written: int
    """Slices made now."""
    kept: int
    """Slices that were there already, made from the same source with the same settings."""
    failed: int
    """Series that could not be used, or of which slices are missing."""


@dataclass(frozen=True, eq=False)
class _PlannedWork:
    """A plan, and which of its files are still to be made."""

    plan: SeriesPlan
    missing: tuple[FileTask, ...]
    made_from: dict[str, str]
    """Output → fingerprint, for all files."""

    @property
    def num_missing(self) -> int:
        """Slices still to be made."""
        return sum(len(task.indices) for task in self.missing)

    @property
    def kept(self) -> set[str]:
        """Files that stay as they are."""
        return set(self.made_from) - {task.output for task in self.missing}

    @property
    def row(self) -> SeriesRow:
        """The log's row before anything is made."""
        if not self.missing:
            return self.plan.row()
        return self.plan.row(len(self.plan.series.slices) - self.num_missing, UNFINISHED)

    def slices_in(self, results: Sequence[FileResult]) -> int:
        """Slices that the files of these results hold, or would."""
        slices = {task.output: len(task.indices) for task in self.plan.tasks}
        return sum(slices[result.output] for result in results)


class _LogWriter:
    """The rows of this run, and those of earlier runs about other series; both logs follow each change.

    Every series has its row from the start: later commands read from the rows which patient a folder belongs to.
    """

    def __init__(
        self, out_dir: Path, left_out: Sequence[SeriesRow], todos: Sequence[_PlannedWork], *, no_names: bool
    ) -> None:
        self._out_dir, self._no_names = out_dir, no_names
        self._left_out = tuple(left_out)
        self._made = {todo: todo.row for todo in todos}
        about = {form.key for row in self.rows for form in (row, row.without_names())}
        self._others = tuple(row for row in read_log(out_dir) if row.key not in about)
        self._write()

    @property
    def rows(self) -> tuple[SeriesRow, ...]:
        """Log rows of this run."""
        return *self._left_out, *self._made.values()

    def tell_mixture(self, target_spacing: float, progress: Progress) -> None:
        """Say where the folder holds series that earlier runs have made with other pixels."""
        unlike = [row for row in self._others if row.new_row_mm not in {None, target_spacing} and not row.skipped]
        if unlike:
            sizes = sorted({f"{row.new_row_mm:g}" for row in unlike})
            progress.note(
                f"warning: {self._out_dir} also holds {counted(len(unlike), 'series', 'series')} from before, of "
                f"pixels of {' and '.join(sizes)} mm, not {target_spacing:g} mm: give each spacing an `out_dir` of its "
                "own, or preprocess their root again"
            )

    def replace(self, todo: _PlannedWork, row: SeriesRow) -> None:
        """Say what became of a series."""
        self._made[todo] = row
        self._write()

    def _write(self) -> None:
        rows = (*self._others, *self.rows)
        write_log(self._out_dir, [row.without_names() for row in rows] if self._no_names else rows)


def preprocess(
    root: Path,
    out_dir: Path,
    *,
    target_spacing: float = 0.8,
    antialias: bool = True,
    assume_hu: bool = False,
    compress: Compression = "none",
    correction: HUCorrection = AS_READ,
    no_names: bool = False,
    workers: int | None = None,
    dask: str | None = None,
    progress: Progress = SILENT,
) -> PreprocessReport:
    """Resample every CT series below `root` in plane to one pixel spacing, as DICOM.

    Writes ``<out_dir>/<patient>pp/<same sub-path>/<same file name>`` and the two logs. Finished slices of an earlier
    run are kept when their source and the settings are unchanged; `root` is only read.

    Args:
        root: one folder per patient, whatever lies below.
        out_dir: made if needed; neither inside `root` nor around it.
        target_spacing: mm between pixels of the result.
        antialias: low-pass where the pixels get coarser.
        assume_hu: take stored values for HU where a header gives no rescale.
        compress: how files are compressed, without loss.
        correction: applied to the values of every series.
        no_names: call patients and series by hashes in the names of folders and files and in the logs:
            ``<out_dir>/<hash>pp/<hash>/0001.dcm``. Headers of DICOM keep the patient.
        workers: processes; as many as there are cores when None.
        dask: address of a scheduler whose workers do the work instead; see `ctsr.pool.executor_for`.
        progress: reports the progress and every defect.

    Raises:
        MissingInputError: `root` is not a folder or holds no CT.
        UsageError: `out_dir` and `root` are inside one another.
        CtsrError: the disk has no room for the result, or a worker process was killed.
    """
    settings = ResampleSettings(target_spacing, antialias, assume_hu, compress)
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; give the folder that holds one folder per patient")
    check_apart(root, out_dir)
    if dask is not None:
        root, out_dir = root.absolute(), out_dir.absolute()  # workers may be somewhere else
    read_log(out_dir)  # a foreign one is an error before anything else is done
    several = sum(1 for _ in islice(files_below(root), FEW_FILES)) == FEW_FILES
    processes = available_cores() if several and dask is None else 1
    with executor_for(processes if workers is None else workers, dask) as executor:
        inventory = scan(root, correction=correction, progress=progress, executor=executor)
        if not any(patient.series or patient.excluded for patient in inventory.patients):
            raise MissingInputError(f"{root}: no CT below; expected one folder per patient with DICOM or NIfTI files")
        plans, left_out, failed = _plan(inventory, settings, progress, no_names=no_names)
        with Manifest(out_dir) as manifest:
            todos = [_todo(plan, manifest, settings) for plan in plans]
            _check_room(todos, out_dir, progress)
            log = _LogWriter(out_dir, left_out, todos, no_names=no_names)
            log.tell_mixture(target_spacing, progress)
            _clear(todos, left_out, out_dir, manifest, progress)
            work = _results(todos, settings, out_dir, executor)
            written, broken = _make(todos, work, manifest, log, progress)
    _tell_unused(inventory, progress)
    for line in (patient.mix_up for patient in inventory.usable if patient.mix_up):
        progress.note(f"warning: {line}")
    kept = sum(len(todo.plan.series.slices) - todo.num_missing for todo in todos)
    return PreprocessReport(log.rows, written, kept, failed + broken)


def _plan(
    inventory: Inventory, settings: ResampleSettings, progress: Progress, *, no_names: bool
) -> tuple[list[SeriesPlan], list[SeriesRow], int]:
    """Plans of the series that can be used, rows of all others with their reasons, and how many of these failed."""
    plans: list[SeriesPlan] = []
    left_out = [("", excluded) for excluded in inventory.excluded]
    left_out += [(patient.patient_id, excluded) for patient in inventory.patients for excluded in patient.excluded]
    rows = [SeriesRow.of_excluded(patient_id, excluded, inventory.root) for patient_id, excluded in left_out]
    unreadable = [excluded for _, excluded in left_out if excluded.failed]
    for excluded in unreadable:
        progress.note(f"failed: {excluded.path}: {excluded.reason}")
    failed = len(unreadable)
    taken: set[str] = set()
    for patient in inventory.patients:
        for series in patient.series:
            try:
                with boundary(str(series.path)):
                    for warning in _warnings(series, settings):
                        progress.note(f"warning: {warning}")
                    plan = plan_series(series, patient, inventory.root, settings, no_names=no_names)
                    _claim(plan, taken)
                plans.append(plan)
            except (ReadError, SeriesError) as error:
                progress.note(f"failed: {error}")
                rows.append(refused_row(series, inventory.root, reason=str(error)))
                failed += 1
    return plans, rows, failed


def _warnings(series: Series, settings: ResampleSettings) -> list[str]:
    untold = tuple(defect for defect in series.defects if defect.kind not in LEFT_OUT)  # told one by one
    return check(replace(series, defects=untold), "preprocess", assume_hu=settings.assume_hu)


def _claim(plan: SeriesPlan, taken: set[str]) -> None:
    """Reserve the names of a plan's files.

    Raises:
        SeriesError: one is taken: a frame's name can be that of a file beside it.
    """
    names = Counter(task.output for task in plan.tasks)
    doubled = sorted(name for name, count in names.items() if count > 1 or name in taken)
    if doubled:
        raise SeriesError(
            f"{plan.series.path}: two slices would be written as {doubled[0]}; rename the file or move it elsewhere"
        )
    taken.update(names)


def _todo(plan: SeriesPlan, manifest: Manifest, settings: ResampleSettings) -> _PlannedWork:
    made_from = {
        task.output: fingerprint(
            plan.series.slices[task.indices[0]].path,
            plan.series.slices[task.indices[0]].identity,
            plan.derivation.series_uid,
            str(task.instance_number),
            # Every header says it: slices that came later change it for those that are there.
            f"{plan.series.slice_step or 0.0:.3g}",
            settings.text,
        )
        for task in plan.tasks
    }
    missing = tuple(task for task in plan.tasks if not manifest.holds(task.output, made_from[task.output]))
    return _PlannedWork(plan, missing, made_from)


def _check_room(todos: Sequence[_PlannedWork], out_dir: Path, progress: Progress) -> None:
    """Say what the run will take, and refuse one that the disk cannot hold."""
    count = sum(todo.num_missing for todo in todos)
    if count == 0:
        return
    needed = sum(todo.num_missing * (todo.plan.slice_bytes + HEADER_BYTES) for todo in todos)
    check_disk_space(out_dir, count, needed, progress)


def _clear(
    todos: Sequence[_PlannedWork], left_out: Sequence[SeriesRow], out_dir: Path, manifest: Manifest, progress: Progress
) -> None:
    """Remove half-written files of a run that was killed, and results of these series that are not this run's.

    Results of other settings go before new ones are made, so that no interruption leaves a mixture.
    """
    for folder in {(out_dir / output).parent for todo in todos for output in todo.made_from}:
        clear_leftovers(folder)
    kept: dict[str, set[str]] = {}
    for row in left_out:
        for owner in series_keys(row.patient_id, row.series_uid) if row.series_uid else ():
            kept.setdefault(owner, set())
    for todo in todos:
        for owner in series_keys(todo.plan.series.patient_id, todo.plan.series.series_uid):
            kept.setdefault(owner, set()).update(todo.kept)
    removed = manifest.remove(
        output for owner, outputs in kept.items() for output in manifest.outputs_of(owner) if output not in outputs
    )
    if removed:
        progress.note(f"removed {removed} results of other sources or settings")


def _make(
    todos: Sequence[_PlannedWork],
    work: Iterator[tuple[_PlannedWork, FileResult]],
    manifest: Manifest,
    log: _LogWriter,
    progress: Progress,
) -> tuple[int, int]:
    """Make what is missing, series by series; returns how many slices were written and how many series failed."""
    files = sum(len(todo.missing) for todo in todos)
    written = broken = 0
    for todo, pairs in groupby(progress.track(work, total=files, what="preprocess"), key=lambda pair: pair[0]):
        made = [_remember(todo, result, manifest) for _, result in pairs]
        _tell_left_out(todo.plan, made, progress)
        doubts = [doubt for result in made for doubt in result.doubts]
        if doubts:
            progress.note(f"warning: {listed(doubts, MOST_DOUBTS)}")
        bad = [result for result in made if result.error]
        lost, wanted = todo.slices_in(bad), len(todo.plan.series.slices)
        reason = f"{lost} of {wanted} slices failed, the first: {bad[0].error}" if bad else ""
        if bad:
            progress.note(f"failed: {todo.plan.series.path}: {reason}")
        log.replace(todo, todo.plan.row(wanted - lost, reason))
        written += todo.slices_in(made) - lost
        broken += bool(bad)
    return written, broken


def _results(
    todos: Sequence[_PlannedWork], settings: ResampleSettings, out_dir: Path, executor: Executor | None
) -> Iterator[tuple[_PlannedWork, FileResult]]:
    work: list[tuple[_PlannedWork, TaskChunk]] = [
        (todo, chunk) for todo in todos for chunk in chunks_of(todo.plan, todo.missing, settings, out_dir)
    ]
    finished = in_order(run_chunk, [chunk for _, chunk in work], executor)
    for (todo, _), results in zip(work, finished, strict=True):
        for result in results:
            yield todo, result


def _remember(todo: _PlannedWork, result: FileResult, manifest: Manifest) -> FileResult:
    if result.error:
        # What an earlier run left under this name was made with other settings or from another source.
        manifest.remove([result.output])
    else:
        manifest.add(ManifestEntry(result.output, todo.plan.owner, todo.made_from[result.output], result.size))
    return result


def _tell_left_out(plan: SeriesPlan, made: Sequence[FileResult], progress: Progress) -> None:
    names = Counter(name for result in made for name in result.left_out)
    if names:
        listed = ", ".join(f"{name} ({count}x)" for name, count in sorted(names.items()))
        progress.note(f"warning: {plan.series.path}: header elements with unusable values were left out: {listed}")


def _tell_unused(inventory: Inventory, progress: Progress) -> None:
    """One line about files that are not CT, so that it is clear why a patient is missing."""
    ignored = sum((Counter(patient.ignored) for patient in inventory.patients), Counter[str]())
    empty = [patient.patient_id for patient in inventory.patients if not patient.series and not patient.excluded]
    words: list[str] = []
    if ignored:
        words.append("ignored: " + ", ".join(f"{count} {what}" for what, count in sorted(ignored.items())))
    if empty:
        words.append(f"without CT: {listed(empty, MOST_NAMED)}")
    if words:
        progress.note("; ".join(words))


__all__ = [
    "PreprocessReport",
    "SeriesRow",
    "preprocess",
]

make_callable(__name__, "ctsr.api.images:preprocess")
