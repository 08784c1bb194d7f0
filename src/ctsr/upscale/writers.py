"""What is written of a result: classic DICOM slices or one NIfTI volume, which are read again, and a picture."""

import math
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ctsr.dicom.encode import PADDING_HU, WrittenIdentity, compress, slice_header, to_stored, verify_slice
from ctsr.dicom.variants import Anonymizer, save_enhanced
from ctsr.dicom.write import ThinSlice, check_one_series, derive_slice, save_slice
from ctsr.errors import SeriesError
from ctsr.exams import SlicePixels, even_grid
from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.files import temporary_folder
from ctsr.hu import PRESETS, FloatArray
from ctsr.models.interpolation import enlarge
from ctsr.quality import BeforeAfter
from ctsr.series import NOT_FOR_DIAGNOSIS, Series, volume_words
from ctsr.upscale.plan import ENHANCED, UNCERTAINTY, Job
from ctsr.upscale.tuning import Tuning
from ctsr.volume import Grid, Plane, normal

FEWEST_DIGITS = 4
"""Fewest digits of a slice's number in its file's name."""

WINDOW = PRESETS["soft_tissue"]
MOST_HU = 32767
"""What a voxel of `uncertainty_writer` can hold."""


class Sink(Protocol):
    """Takes the slices of a result, in order."""

    left_out: set[str]
    """Elements of the source's headers with values that no writer accepts."""
    remarks: list[str]
    """A line for each thing that is unusual about the files."""

    def write(self, index: int, pixels: SlicePixels) -> None:
        """Take slice `index`, counted along the normal."""
        ...


@dataclass
class _Dicom:
    job: Job
    folder: Path
    numbers: tuple[int, ...]
    """InstanceNumber of each slice."""
    anonymizer: Anonymizer | None
    left_out: set[str] = field(default_factory=set[str])
    remarks: list[str] = field(default_factory=list[str])
    written: list[WrittenIdentity] = field(default_factory=list[WrittenIdentity])

    def write(self, index: int, pixels: SlicePixels) -> None:
        """Write a slice and read it again."""
        source, plane = self.job.header(index), self.job.plane(index)
        derived = derive_slice(
            slice_header(source),
            pixels.hu,
            plane,
            self.job.derivation,
            padding=pixels.padding,
            instance_number=self.numbers[index],
            frame=source.frame,
            slice_step=self.job.series.slice_step,
            thin=_thin_slice(self.job, index),
        )
        if self.anonymizer is not None:
            self.anonymizer(derived, self.job.derivation)
        compress(derived, self.job.options.compress)
        digits = max(FEWEST_DIGITS, len(str(self.job.num_slices)))
        path = self.folder / f"{index + 1:0{digits}d}.dcm"
        self.left_out |= set(save_slice(derived, path))
        self.written.append(verify_slice(path, pixels.hu, pixels.padding, plane))


@contextmanager
def dicom_sink(job: Job, folder: Path) -> Generator[Sink]:
    """Takes slices into files `0001.dcm`, … and makes sure in the end that they are one series, each told apart.

    Raises:
        ReadError: a file cannot be written, or says something else when it is read again.
        SeriesError: two slices cannot be told apart, or they are not one series of one study.
    """
    anonymizer = Anonymizer(job.secret) if job.options.anonymize else None
    kept = job.between is None and job.reference is None
    numbers = job.series.instance_numbers if kept else tuple(range(1, job.num_slices + 1))
    sink = _Dicom(job, folder, numbers, anonymizer)
    yield sink
    if len(sink.written) != job.num_slices:
        raise SeriesError(f"{job.series.path}: {len(sink.written)} of {job.num_slices} slices were written")
    series_uid = anonymizer.uid(job.series_uid) if anonymizer else job.series_uid
    sources = (header.path for header in (job.reference or job.series).slices)
    check_one_series(job.series.path, sink.written, sources, series_uid=series_uid)


@contextmanager
def enhanced_sink(job: Job, folder: Path) -> Generator[Sink]:
    """Takes slices as `dicom_sink` does, makes one object of their files in the end, and reads it again.

    Raises:
        ReadError: what `dicom_sink` finds, or the slices do not make one object.
        SeriesError: two slices cannot be told apart.
    """
    source_uid = (job.reference or job.series).series_uid
    if job.options.anonymize:
        source_uid = Anonymizer(job.secret).uid(source_uid)
    with temporary_folder(folder / ENHANCED) as part:
        with dicom_sink(job, part) as sink:
            yield sink
        paths = sorted(part.glob("*.dcm"))
        sink.remarks += save_enhanced(paths, folder / ENHANCED, source_series_uid=source_uid)


def _thin_slice(job: Job, index: int) -> ThinSlice | None:
    """What a slice says of itself that does not lie where a slice of a DICOM source does; None for one that does."""
    if job.between is None and job.reference is None:
        return None
    location = float(np.dot(job.plane(index).origin, normal(job.series.orientation)))
    slices, header = job.series.slices, job.header(index)
    origins = (header,)
    if job.between is not None and job.reference is None:
        origins = tuple(slices[i] for i in job.between.grid.sources(index))
    sources = tuple((origin.sop_instance_uid, origin.frame) for origin in origins)
    if job.between is not None:
        return ThinSlice(job.between.grid.spacing, job.between.grid.spacing, location, sources)
    assert job.reference is not None, "all others were returned"
    step = job.series.slice_step or job.series.slice_thickness or 1.0
    return ThinSlice(_thickness(job.series, job.reference), step, location, sources)


def _thickness(volume: Series, reference: Series) -> float:
    """Slice thickness for a NIfTI volume, mm: the volume gives the distance of its slices, not their thickness."""
    step = volume.slice_step or volume.slice_thickness or 1.0
    has_its_slices = reference.slice_step is not None and math.isclose(step, reference.slice_step, rel_tol=0.01)
    return reference.slice_thickness or step if has_its_slices else step


@dataclass
class _Nifti:
    add: Callable[[npt.NDArray[np.int16]], object]
    job: Job
    left_out: set[str] = field(default_factory=set[str])
    remarks: list[str] = field(default_factory=list[str])
    checksums: list[int] = field(default_factory=list[int])

    def write(self, index: int, pixels: SlicePixels) -> None:
        """Append a slice."""
        stored = to_stored(pixels.hu)
        if (stored.slope, stored.intercept) != (1, 0):
            source = self.job.series
            remedy = "clip them, or scale them to HU" if source.is_volume else "choose `format=dicom`"
            raise SeriesError(f"{source.path}: slice {index + 1} has HU beyond 16 bits; {remedy}")
        # One value in all slices, also in those with values down there: nothing but itself marks it in NIfTI.
        if pixels.padding is not None:
            np.copyto(stored.values, PADDING_HU, where=pixels.padding)
        self.checksums.append(zlib.crc32(stored.values.tobytes()))
        self.add(stored.values)


@contextmanager
def nifti_sink(job: Job, path: Path) -> Generator[Sink]:
    """Takes slices into a volume of whole HU, padding as −2048, and reads it again in the end.

    Raises:
        SeriesError: the slices lie on no even grid, or hold values beyond 16 bits.
        ReadError: the volume says something else when it is read again.
    """
    # Reading and writing NIfTI takes nibabel, which results in DICOM do without.
    from ctsr.nifti import verify_volume, volume_writer

    grid = _grid(job)
    with volume_writer(path, grid, description=volume_words(job.derivation.label)) as add:
        sink = _Nifti(add, job)
        yield sink
    verify_volume(path, grid, sink.checksums)


def sink_for(job: Job, folder: Path) -> AbstractContextManager[Sink]:
    """What takes the slices of a result in its format."""
    if job.format == "nifti":
        return nifti_sink(job, folder / job.volume_name)
    return enhanced_sink(job, folder) if job.is_enhanced else dicom_sink(job, folder)


@contextmanager
def uncertainty_writer(job: Job, folder: Path) -> Generator[Callable[[npt.NDArray[np.float32] | None], object]]:
    """Takes what coronal and sagittal planes of each slice disagree about, in HU, into a volume; None is left out."""
    if not job.options.uncertainty:
        yield lambda _: None
        return
    from ctsr.nifti import volume_writer

    description = f"{NOT_FOR_DIAGNOSIS}. {job.derivation.label} |coronal - sagittal| HU"
    with volume_writer(folder / UNCERTAINTY, _grid(job), description=description) as add:
        yield lambda apart: None if apart is None else add(np.rint(apart.clip(0, MOST_HU)).astype(np.int16))


def _grid(job: Job) -> Grid:
    """Of the result.

    Raises:
        SeriesError: the slices lie on no even grid.
    """
    grid, _ = even_grid(job.series)
    plane = job.plane(0)
    step = grid.spacing[0] if job.between is None else job.between.grid.spacing
    count = grid.shape[0] if job.between is None else job.num_slices
    return replace(grid, shape=(count, *plane.shape), spacing=(step, *plane.spacing), origin=plane.origin)


@dataclass(frozen=True, eq=False)
class LookedAt:
    """One slice as it came and as it became, HU."""

    index: int
    before: FloatArray
    """(rows, columns)."""
    after: FloatArray
    """(rows, columns) on the grid of the result, on the same field of view."""


def draw(job: Job, seen: LookedAt, tuning: Tuning, path: Path) -> None:
    """Write the picture: the source, bicubic interpolation and the result, whole and in the busiest detail."""
    series = job.series
    smooth = enlarge(torch.from_numpy(seen.before)[None, None], job.model.scale, "bicubic")[0, 0].numpy()
    panels = [
        Panel("before", seen.before, _size(series.plane(seen.index))),
        Panel("bicubic", smooth, _size(job.network_plane(seen.index)) + _noise(tuning.bicubic)),
        Panel("super-resolution", seen.after, _size(job.plane(seen.index)) + _noise(tuning.before_after)),
    ]
    # Pixels of the result may be square where those of the source are not.
    largest = max(job.network_plane(seen.index), job.plane(seen.index), key=lambda plane: math.prod(plane.shape))
    figure = comparison_figure(
        panels,
        WINDOW,
        title=f"{job.patient}, slice {seen.index + 1} of {len(series.slices)}, not for diagnosis",
        pixel_aspect=largest.spacing[0] / largest.spacing[1],
    )
    save_figure(figure, path)


def draw_coronal(job: Job, strips: Mapping[str, FloatArray], path: Path) -> None:
    """Write the picture of a result between slices: coronal planes of the source, of cubic interpolation and its own.

    The head is up, as in the viewer.

    Args:
        job: what was made.
        strips: (slices, columns) in HU by what they show, from the first slice of the result to the last.
        path: of the picture.
    """
    assert job.between is not None, "the job makes slices between slices"
    down = -1 if job.series.rises else 1
    panels = [Panel(name, strip[::down], f"{strip.shape[0]} × {strip.shape[1]}") for name, strip in strips.items()]
    figure = comparison_figure(
        panels,
        WINDOW,
        title=f"{job.patient}, middle coronal plane, not for diagnosis",
        pixel_aspect=job.between.grid.spacing / job.plane(0).spacing[1],
    )
    save_figure(figure, path)


def _noise(measured: BeforeAfter) -> str:
    return "" if measured.noise_ratio is None else f", noise ×{measured.noise_ratio:.2f}"


def _size(plane: Plane) -> str:
    spacing = " × ".join(dict.fromkeys(f"{mm:.3g}" for mm in plane.spacing))
    return f"{plane.shape[0]} × {plane.shape[1]}, {spacing} mm"
