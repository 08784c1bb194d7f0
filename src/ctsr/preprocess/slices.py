"""What is to be made of which slice and under which name, and making it: the work of each process of the pool."""

import zlib
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ctsr import __version__
from ctsr.dicom import quiet
from ctsr.dicom.encode import Compression, compress, slice_header, to_stored, verify_slice
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.documents import resampled_folder
from ctsr.errors import CtsrError, DomainError, ReadError, boundary
from ctsr.exams import HU_DEFECTS, read_slice, read_volume
from ctsr.hashing import derived_uid, pseudonym
from ctsr.padding import SlicePixels
from ctsr.preprocess.manifest import SeriesRow
from ctsr.reporting import one_line, printable, safe_name
from ctsr.series import Defect, PatientExams, Series, SliceHeader, are_volume_words, check, is_nifti
from ctsr.series_quality import SliceJudge
from ctsr.volume import Grid, Plane, at_spacing, resample

ALGORITHM = "3"
"""Counted up when the same settings give other pixels or headers, so that old results are made again."""
FILE_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".img"})
"""Endings that are not part of a name; what follows the last dot of a UID is."""
FRAME_DIGITS = 3


@dataclass(frozen=True)
class ResampleSettings:
    """What a result depends on besides its source."""

    target_spacing: float = 0.8
    """mm between pixels of the result, along both axes."""
    antialias: bool = True
    assume_hu: bool = False
    compress: Compression = "none"

    def __post_init__(self) -> None:
        if not 0.05 <= self.target_spacing <= 50:
            raise DomainError(f"the target spacing must lie between 0.05 and 50 mm, got {self.target_spacing:g}")

    @property
    def text(self) -> str:
        """As it enters UIDs and fingerprints."""
        extra = "" if self.compress == "none" else f" {self.compress}"
        return f"preprocess {ALGORITHM} {self.target_spacing!r} {self.antialias} {self.assume_hu}{extra}"


@dataclass(frozen=True)
class FileTask:
    """One file to make."""

    output: str
    """Below the output folder, with forward slashes."""
    indices: tuple[int, ...]
    """The slices it will hold, in `Series.slices`: one in DICOM, all in NIfTI."""
    instance_number: int | None = None
    """To be set; None keeps the source's."""


@dataclass(frozen=True)
class SeriesPlan:
    """What becomes of one series."""

    series: Series
    source: str
    """Folder or file below the root, with forward slashes."""
    before: Plane
    """Plane of the first slice."""
    after: Plane
    derivation: Derivation
    tasks: tuple[FileTask, ...]
    is_volume: bool
    no_names: bool = False
    """Files, manifest and logs call patient and series by hashes."""

    @property
    def owner(self) -> str:
        """The series' name in the manifest."""
        return series_keys(self.series.patient_id, self.series.series_uid)[self.no_names]

    @property
    def slice_bytes(self) -> int:
        """Pixel data of one slice of the result."""
        return 2 * self.after.shape[0] * self.after.shape[1]

    def row(self, done: int | None = None, reason: str = "") -> SeriesRow:
        """The log's row when `done` slices are in the output, or all; a series with none was skipped."""
        done = len(self.series.slices) if done is None else done
        series, before, after = self.series, self.before, self.after
        return SeriesRow(
            patient_id=series.patient_id,
            series_uid=series.series_uid,
            num_slices=done or len(self.series.slices),
            orig_row_mm=before.spacing[0],
            orig_col_mm=before.spacing[1],
            slice_thickness_mm=series.slice_thickness,
            new_row_mm=after.spacing[0],
            new_col_mm=after.spacing[1],
            orig_rows=before.shape[0],
            orig_cols=before.shape[1],
            new_rows=after.shape[0],
            new_cols=after.shape[1],
            upsampled=max(before.spacing) > after.spacing[0],
            skipped=done == 0,
            reason=reason,
            new_series_uid=self.derivation.series_uid if done and not self.is_volume else "",
            source=self.source,
            output=printable(str(PurePosixPath(self.tasks[0].output).parent)) if done else "",
        )


def plan_series(
    series: Series, patient: PatientExams, root: Path, settings: ResampleSettings, *, no_names: bool = False
) -> SeriesPlan:
    """Names, geometry and header texts of what a series will become."""
    before = series.plane(0)
    folder = _nameless_folder(series) if no_names else None
    volume = series.is_volume
    return SeriesPlan(
        series=series,
        source=printable(series.path.relative_to(root).as_posix()),
        before=before,
        after=at_spacing(before, settings.target_spacing),
        derivation=_derivation(series, settings),
        tasks=_volume_task(series, patient, folder) if volume else _slice_tasks(series, patient, folder),
        is_volume=volume,
        no_names=no_names,
    )


def refused_row(series: Series, root: Path, *, reason: str) -> SeriesRow:
    """The log's row of a series that cannot be used at all."""
    return SeriesRow(
        patient_id=series.patient_id,
        series_uid=series.series_uid,
        num_slices=len(series.slices),
        orig_row_mm=series.pixel_spacing[0],
        orig_col_mm=series.pixel_spacing[1],
        slice_thickness_mm=series.slice_thickness,
        orig_rows=series.rows,
        orig_cols=series.columns,
        skipped=True,
        reason=one_line(reason),
        source=printable(series.path.relative_to(root).as_posix()),
    )


def series_keys(patient_id: str, series_uid: str) -> tuple[str, str]:
    """What the manifest calls a series: by its names, and by their hashes."""
    return f"{patient_id}\n{series_uid}", f"{pseudonym(patient_id)}\n{pseudonym(series_uid)}"


def _derivation(series: Series, settings: ResampleSettings) -> Derivation:
    # A source that mixes geometries or image types under one UID falls into several series, each with a UID of its own.
    source = (series.study_uid, series.series_uid, repr(series.geometry_key))
    kernel = "low-passed where it shrinks" if settings.antialias else "without a low-pass"
    return Derivation(
        description=(
            f"Resampled in plane from {series.pixel_spacing[0]:g} x {series.pixel_spacing[1]:g} mm "
            f"to {settings.target_spacing:g} mm, linear, {kernel}, by ctsr {__version__}"
            + "".join(f"; {words}" for words in (*series.variant, *((series.phase,) if series.phase else ())))
        ),
        label=f"[{settings.target_spacing:g} mm]",
        settings=settings.text,
        series_uid=derived_uid(*source, settings.text),
    )


def _nameless_folder(series: Series) -> PurePosixPath:
    """Folder of a result that names no patient: a hash of the patient, and one of the series and its geometry."""
    mark = pseudonym(repr((series.study_uid, series.series_uid, series.geometry_key)))
    return PurePosixPath(resampled_folder(pseudonym(series.patient_id))) / safe_name(mark)


def _volume_task(series: Series, patient: PatientExams, nameless: PurePosixPath | None) -> tuple[FileTask, ...]:
    if nameless is not None:
        return (FileTask(str(nameless / f"{nameless.name}.nii.gz"), tuple(range(len(series.slices)))),)
    # Volumes of other formats become NIfTI under their whole name, which no other file has.
    name = series.path.name if is_nifti(series.path) else f"{series.path.name}.nii.gz"
    output = _folder(series.path, patient) / name
    return (FileTask(str(output), tuple(range(len(series.slices)))),)


def _slice_tasks(series: Series, patient: PatientExams, nameless: PurePosixPath | None) -> tuple[FileTask, ...]:
    numbers = _instance_numbers(series)
    if nameless is not None:
        return tuple(FileTask(str(nameless / f"{i + 1:04d}.dcm"), (i,), numbers[i]) for i in range(len(series.slices)))
    return tuple(
        FileTask(str(_folder(header.path, patient) / _file_name(header, len(series.slices))), (i,), numbers[i])
        for i, header in enumerate(series.slices)
    )


def _instance_numbers(series: Series) -> list[int | None]:
    """None, to keep the source's numbers, where they tell the slices apart; else the order along the normal, from 1."""
    given = {header.instance_number for header in series.slices if header.frame is None}
    if None not in given and len(given) == len(series.slices):
        return [None] * len(series.slices)
    return list(series.instance_numbers)


def _folder(path: Path, patient: PatientExams) -> PurePosixPath:
    below = path.parent.relative_to(patient.path) if path != patient.path else Path()
    return PurePosixPath(resampled_folder(patient.patient_id)) / below.as_posix()


def _file_name(header: SliceHeader, num_frames: int) -> str:
    """The source's own; `<stem>_f001` and the source's ending for a frame."""
    name = header.path.name
    if header.frame is None:
        return name
    stem, ending = (header.path.stem, header.path.suffix) if header.path.suffix.lower() in FILE_SUFFIXES else (name, "")
    digits = max(FRAME_DIGITS, len(str(num_frames)))
    return f"{stem}_f{header.frame + 1:0{digits}d}{ending}"


CHUNK = 8
"""Files that go to a process at once: enough to hide the hand-over, few enough to share the work evenly."""


@dataclass(frozen=True)
class TaskChunk:
    """Some slices of one series, and all that is needed to make them in another process."""

    plan: SeriesPlan
    """Cut down to the slices concerned."""
    settings: ResampleSettings
    out_dir: Path


@dataclass(frozen=True)
class FileResult:
    """What became of one file."""

    output: str
    size: int = 0
    """Bytes; 0 where it failed."""
    error: str = ""
    left_out: tuple[str, ...] = ()
    """Header elements that could not be written again."""
    doubts: tuple[str, ...] = ()
    """What is strange about its values."""


def chunks_of(
    plan: SeriesPlan, tasks: Sequence[FileTask], settings: ResampleSettings, out_dir: Path
) -> Iterator[TaskChunk]:
    """`tasks` of a series in portions; each carries only its own slices across to the process."""
    for start in range(0, len(tasks), CHUNK):
        part = tasks[start : start + CHUNK]
        wanted = [index for task in part for index in task.indices]
        # One more to either side, to compare with.
        beside = {min(wanted) - 1, max(wanted) + 1} & set(range(len(plan.series.slices)))
        taken = sorted({*wanted, *beside})
        place = {index: i for i, index in enumerate(taken)}
        doubts = tuple(defect for defect in plan.series.defects if defect.kind in HU_DEFECTS.values())
        series = replace(plan.series, slices=tuple(plan.series.slices[index] for index in taken), defects=doubts)
        renumbered: list[FileTask] = []
        for task in part:
            indices = tuple(place[index] for index in task.indices)
            renumbered.append(replace(task, indices=indices))
        yield TaskChunk(replace(plan, series=series, tasks=tuple(renumbered)), settings, out_dir)


def run_chunk(chunk: TaskChunk) -> list[FileResult]:
    """Make every slice of a chunk; one that fails does not stop the others."""
    with quiet():
        judged = _JudgedSlices(chunk)
        return [_attempt(chunk, task, judged) for task in chunk.plan.tasks]


class _JudgedSlices:
    """The slices of a chunk, each judged beside its neighbours."""

    def __init__(self, chunk: TaskChunk) -> None:
        series, self._assume_hu = chunk.plan.series, chunk.settings.assume_hu
        self._series = series
        self._found: dict[int, SlicePixels | CtsrError] = {}
        self._defects = defaultdict[int, list[Defect]](list)
        judge = SliceJudge(series, "preprocess", assume_hu=self._assume_hu)
        for index in range(len(series.slices)):
            try:
                pixels = read_slice(series, index, assume_hu=self._assume_hu)
            except CtsrError as error:
                self._found[index] = error
                continue
            self._found[index] = pixels
            for defect in judge.defects(index, pixels):
                self._defects[defect.slice_indices[0]].append(defect)

    def __getitem__(self, index: int) -> SlicePixels:
        """One slice.

        Raises:
            ReadError: it cannot be read.
        """
        found = self._found[index]
        if isinstance(found, CtsrError):
            raise found
        return found

    def doubts(self, index: int) -> tuple[str, ...]:
        """Warnings about the values of a slice.

        Raises:
            SeriesError: they are not to be used.
        """
        judged = replace(self._series, defects=tuple(self._defects[index]))
        return tuple(check(judged, "preprocess", assume_hu=self._assume_hu))


def _attempt(chunk: TaskChunk, task: FileTask, judged: _JudgedSlices) -> FileResult:
    try:
        with boundary(str(chunk.plan.series.slices[task.indices[0]].path)):
            doubts = tuple(doubt for index in task.indices for doubt in judged.doubts(index))
            made = _make_volume(chunk, task) if chunk.plan.is_volume else _make_slice(chunk, task, judged)
            return replace(made, doubts=doubts)
    except CtsrError as error:
        return FileResult(task.output, error=one_line(error))


def _make_volume(chunk: TaskChunk, task: FileTask) -> FileResult:
    # Imported here because it takes a fifth of a second to load, and most exams are DICOM.
    from ctsr.nifti import save_volume, verify_volume

    plan, settings = chunk.plan, chunk.settings
    volume = read_volume(plan.series)
    hu = np.empty((len(volume.hu), *plan.after.shape), np.float32)
    padding = np.zeros(hu.shape, np.bool_)
    for i, pixels in enumerate(volume.hu):
        outside = None if volume.padding is None else volume.padding[i]
        result = resample(pixels, outside, plan.before, plan.after, antialias=settings.antialias)
        hu[i] = result.hu
        padding[i] = False if result.padding is None else result.padding
    spacing = (volume.grid.spacing[0], *plan.after.spacing)
    grid = Grid(hu.shape, spacing, plan.after.origin, volume.grid.directions)
    stored = to_stored(hu, padding)
    path = chunk.out_dir / task.output
    # A resampled result of a network is one still; DICOM keeps its contributing equipment.
    words = plan.series.description if are_volume_words(plan.series.description) else ""
    save_volume(path, stored.values, grid, slope=stored.slope, intercept=stored.intercept, description=words)
    with _removed_on_error(path):
        verify_volume(path, grid, [zlib.crc32(values.tobytes()) for values in stored.values])
    return FileResult(task.output, size=path.stat().st_size)


@contextmanager
def _removed_on_error(path: Path) -> Generator[None]:
    """Leave no file that says something else than it should when it is read again."""
    try:
        yield
    except ReadError:
        path.unlink(missing_ok=True)
        raise


def _make_slice(chunk: TaskChunk, task: FileTask, judged: _JudgedSlices) -> FileResult:
    plan, settings = chunk.plan, chunk.settings
    (index,) = task.indices
    source = plan.series.slices[index]
    pixels = judged[index]
    before = plan.series.plane(index)
    after = before.recentred(plan.after.shape, plan.after.spacing)
    result = resample(pixels.hu, pixels.padding, before, after, antialias=settings.antialias)
    derived = derive_slice(
        slice_header(source),
        result.hu,
        after,
        plan.derivation,
        padding=result.padding,
        instance_number=task.instance_number,
        frame=source.frame,
        slice_step=plan.series.slice_step,
    )
    path = chunk.out_dir / task.output
    compress(derived, settings.compress)
    left_out = save_slice(derived, path)
    with _removed_on_error(path):
        verify_slice(path, result.hu, result.padding, after)
    return FileResult(task.output, size=path.stat().st_size, left_out=left_out)
