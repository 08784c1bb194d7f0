"""A model applied to real series: DICOM in, valid DICOM out.

`run.upscale` is the entry point. This module holds the options, and what is chosen by them: the series, and the
reference whose headers a NIfTI volume gets.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from ctsr import make_callable
from ctsr.dicom.encode import Compression
from ctsr.documents import check_words
from ctsr.errors import MissingInputError, SeriesError, UsageError
from ctsr.exams import only_series
from ctsr.files import LONGEST_NAME_BYTES
from ctsr.hashing import digest, pseudonym
from ctsr.hu import HUOptions
from ctsr.reporting import listed, safe_name
from ctsr.series import Inventory, PatientExams, Series, SliceHeader, is_nifti, part_of, volume_stem
from ctsr.volume import Plane, normal

DEFAULT_MODEL = "ctsr-x2"
"""The model in plane where none is named."""
SLICES = re.compile(r"(-?\d*):(-?\d*)")
MOMENT = re.compile(r"((?:Acquisition|Frame\w*|Content)(?:Date)?Time) \d[\w.+-]*")
"""A date or time of day in the name of a phase; those since a heartbeat are none."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(HUOptions):
    """Everything about an upscaling but the model and where it runs."""

    series: str | None = None
    """Only the series with this SeriesInstanceUID."""
    only: str | None = None
    """Only series whose description, patient or folder fits this pattern: "chest*"; case does not matter."""
    slices: str | None = None
    """Only slices a:b of each series, counted from 0 along its normal, the last not included."""
    target_spacing: float | None = None
    """mm between pixels of the result, reached from the network's grid by resampling; the network's when left out."""
    slice_spacing: float | None = None
    """mm between slices of the result: makes the slices between slices that are thicker or farther apart. In plane
    nothing changes unless a model in plane is named as well."""
    isotropic: float | None = None
    """mm between slices and between pixels of the result: `slice_spacing` and `target_spacing` in one."""
    slice_profile: str | None = None
    """Thickness of the source's slices in mm, and after a comma the standard deviation of its blur: 5 or 5,0.6 (and
    0.5,2.12 for a Gaussian of 5 mm); what the headers say when left out."""
    uncertainty: bool = False
    """With slice_spacing or isotropic: write uncertainty.nii.gz as well, by how many HU the answers in coronal and in
    sagittal planes differ in each voxel."""
    strength: Literal["faithful", "standard", "strong"] = "standard"
    """How much a conditional model changes: faithful adds pixels only, standard removes noise but keeps faint
    contrasts, strong removes more and sharpens."""
    denoise: float | None = None
    """Instead of the strength's: 0 to 1, how much of the measured noise goes, and of faint contrasts with it."""
    sharpen: float | None = None
    """Instead of the strength's: 0 to 1, where 1 tells the model a blur of 1.1 pixels of the result (σ; 2.0 at ×4)."""
    limit_noise: bool = True
    """Mix in interpolation where the result would be noisier than its source: one share for a series."""
    consistent: bool = False
    """Give back what the mean of the result over each source pixel lacks: agreement with the source, noise included."""
    format: Literal["dicom", "nifti"] | None = None
    """Format of the result; that of the source when left out."""
    skip_air: bool = True
    """Interpolate the air around the body instead of inferring it."""
    max_memory: float | None = None
    """GiB that a network may take; larger slices are cut into tiles. Half of what is free when left out."""
    compress: Compression = "none"
    """Compress DICOM results without loss; jpegls is smallest, rle is read everywhere."""
    enhanced: bool = False
    """Write each DICOM result as one enhanced (multi-frame) file instead of a file a slice."""
    anonymize: bool = False
    """Take from the results what tells who the patient is, after DICOM PS3.15 Annex E's basic profile; implies
    `names=False`."""
    names: bool = True
    """Write names of patients and folders into run.json, pictures and names of result folders; else hashes."""
    picture: bool = True
    """Draw preview.png beside the result: the middle slice before and after."""
    overwrite: bool = False
    """Replace results that are there already."""

    def __post_init__(self) -> None:
        check_words(self)
        if self.slices is not None and not SLICES.fullmatch(self.slices):
            raise UsageError(f"`slices` {self.slices}: expected a:b, such as 10:20 or :5")
        if self.target_spacing is not None and not 0.05 <= self.target_spacing <= 50:
            raise UsageError(f"`target_spacing` must lie between 0.05 and 50 mm, got {self.target_spacing:g}")
        if self.slice_spacing is not None and not 0.1 <= self.slice_spacing <= 50:
            raise UsageError(f"`slice_spacing` must lie between 0.1 and 50 mm, got {self.slice_spacing:g}")
        if self.isotropic is not None:
            if self.slice_spacing is not None or self.target_spacing is not None:
                raise UsageError("`isotropic` is `slice_spacing` and `target_spacing` in one; leave those out")
            if not 0.1 <= self.isotropic <= 50:
                raise UsageError(f"`isotropic` must lie between 0.1 and 50 mm, got {self.isotropic:g}")
        if self.slice_profile is not None and self.wanted_slice_spacing is None:
            raise UsageError("`slice_profile` goes with `slice_spacing` or `isotropic`")
        if self.uncertainty and self.wanted_slice_spacing is None:
            raise UsageError("`uncertainty` goes with `slice_spacing` or `isotropic`")
        for name, value in (("denoise", self.denoise), ("sharpen", self.sharpen)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"`{name}` must lie between 0 and 1, got {value:g}")
        if self.format == "nifti" and self.compress != "none":
            raise UsageError("`compress` is for DICOM; call a NIfTI result .nii.gz to have it compressed")
        if self.format == "nifti" and self.enhanced:
            raise UsageError("`enhanced` is for DICOM, and a NIfTI result is one file already")
        if self.max_memory is not None and not 0 < self.max_memory < math.inf:
            raise UsageError(f"`max_memory` must be above 0 GiB and finite, got {self.max_memory:g}")

    @property
    def shows_names(self) -> bool:
        """Whether patients and folders are called by their names."""
        return self.names and not self.anonymize

    @property
    def wanted_slice_spacing(self) -> float | None:
        """Mm between slices; None where slices stay where they are."""
        return self.slice_spacing if self.isotropic is None else self.isotropic

    @property
    def wanted_pixel_spacing(self) -> float | None:
        """Mm between pixels; None for those of the network's grid."""
        return self.target_spacing if self.isotropic is None else self.isotropic

    @property
    def slice_option(self) -> str:
        """Which option `wanted_slice_spacing` is, for messages."""
        return "slice_spacing" if self.isotropic is None else "isotropic"

    @property
    def pixel_option(self) -> str:
        """Which option `wanted_pixel_spacing` is, for messages."""
        return "target_spacing" if self.isotropic is None else "isotropic"

    @property
    def memory_bytes(self) -> float:
        """`max_memory`, or half of what is free now."""
        return psutil.virtual_memory().available / 2 if self.max_memory is None else self.max_memory * 2**30

    @property
    def wanted(self) -> slice:
        """`slices` as Python takes it; all when left out."""
        match = SLICES.fullmatch(self.slices or ":")
        assert match is not None, "checked when it was made"
        start, stop = match.group(1), match.group(2)
        return slice(_bound(start), _bound(stop))


def _bound(text: str) -> int | None:
    return None if text in {"", "-"} else int(text)


REASONS = 3
"""Why there is nothing to do, that a message gives before it says how many more there are."""
PARALLEL_COSINE = 0.999
"""Cosine of the largest angle between the slices of a volume and those of its reference, 2.5°."""
SAME_PLACE = 0.1
"""Share of a voxel by which grids may differ and be the same."""


class Chosen(NamedTuple):
    """A series that is to be made finer, cut down to the slices that were asked for."""

    patient: PatientExams
    series: Series


def chosen(inventory: Inventory, options: UpscaleOptions) -> list[Chosen]:
    """The series that were asked for, by patient.

    Raises:
        MissingInputError: none fits; the message names those that are there.
    """
    everything = [Chosen(patient, series) for patient in inventory.patients for series in patient.series]
    fitting = [choice for choice in everything if _is_wanted(choice.series, inventory.root, options)]
    cut = [Chosen(patient, part_of(series, options.wanted)) for patient, series in fitting]
    found = [choice for choice in cut if choice.series.slices]
    if not found:
        raise MissingInputError(f"{inventory.root}: {_why_none(inventory, everything, fitting, options)}")
    return found


def _why_none(
    inventory: Inventory, everything: Sequence[Chosen], fitting: Sequence[Chosen], options: UpscaleOptions
) -> str:
    if fitting:
        counts = ", ".join(str(len(choice.series.slices)) for choice in fitting)
        return f"`slices` {options.slices} leaves none: the series has {counts} slices, counted from 0"
    if everything:
        names = (
            f"{series.patient_id}: {series.description} {series.series_uid} {series.phase}".rstrip()
            for _, series in everything
        )
        return f"no series fits what was asked for; there are {'; '.join(names)}"
    left_out = [*inventory.excluded, *(excluded for patient in inventory.patients for excluded in patient.excluded)]
    reasons = listed(list(dict.fromkeys(f"{excluded.path.name}: {excluded.reason}" for excluded in left_out)), REASONS)
    return f"no usable CT series ({reasons or 'no CT at all'}); `ctsr scan {inventory.root}` says more"


def _is_wanted(series: Series, root: Path, options: UpscaleOptions) -> bool:
    if options.series is not None and not series.is_called(options.series):
        return False
    if options.only is None:
        return True
    below = series.path.relative_to(root).as_posix() if series.path != root else series.path.name
    names = (series.title, series.description, series.patient_id, below)
    return any(fnmatch(name.casefold(), options.only.casefold()) for name in names)


def read_reference(path: Path, wanted: Sequence[Chosen]) -> Series:
    """The DICOM series at `path`, which lends patient, study and frame of reference to the volume that was chosen.

    Raises:
        MissingInputError: there is no series.
        UsageError: there are several, or it is not DICOM; what was chosen is not a single NIfTI volume.
        SeriesError: the volume lies elsewhere: it is of another patient, or in another frame of reference.
    """
    if len(wanted) > 1:
        raise UsageError(f"`reference` lends headers to one volume, and {len(wanted)} series were chosen")
    volume = wanted[0].series
    if not volume.is_volume:
        raise UsageError(f"{volume.path}: is DICOM and has headers of its own; leave out `reference`")
    series = only_series(path)
    if series.is_volume:
        raise UsageError(f"`reference` {path} has no patient or study; give a DICOM series of the same patient")
    if abs(np.dot(normal(volume.orientation), normal(series.orientation))) < PARALLEL_COSINE:
        raise SeriesError(f"{volume.path}: its slices are not parallel to those of the reference {path}")
    ours, theirs = _extent(volume, series), _extent(series, series)
    if (ours[0] > theirs[1]).any() or (theirs[0] > ours[1]).any():
        raise SeriesError(
            f"{volume.path}: lies outside of the reference {path}; is that another patient or another examination?"
        )
    return series


def difference(volume: Series, reference: Series) -> str:
    """How the grid of a volume differs from that of its reference, in a line; empty where it does not."""
    ours, theirs = _extent(volume, reference), _extent(reference, reference)
    voxel = np.array([*reference.pixel_spacing[::-1], reference.slice_step or 1.0])
    if _size(volume) == _size(reference) and (np.abs(ours - theirs) <= SAME_PLACE * voxel).all():
        return ""
    return (
        f"its grid of {_size(volume)} is not that of the reference, {_size(reference)}, or lies elsewhere: "
        "positions are the volume's own, other attributes those of the nearest slice of the reference; if that is not "
        "meant, give the series that the volume was converted from"
    )


def nearest_slice(reference: Series, plane: Plane) -> SliceHeader:
    """The slice of a series that lies nearest to a plane, along the slices' normal."""
    along = np.array(normal(reference.orientation))
    rows, columns = plane.shape
    place = along @ np.array(plane.position((rows - 1) / 2, (columns - 1) / 2))

    def distance(index: int) -> float:
        centre = reference.plane(index).position((reference.rows - 1) / 2, (reference.columns - 1) / 2)
        return abs(float(along @ np.array(centre)) - float(place))

    return reference.slices[min(range(len(reference.slices)), key=distance)]


def _extent(series: Series, frame: Series) -> npt.NDArray[np.float64]:
    """(2, 3) mm: the least and the greatest coordinates of voxel centres along the axes of `frame`."""
    along_columns, along_rows = np.array(frame.orientation).reshape(2, 3)
    axes = np.array([along_columns, along_rows, normal(frame.orientation)])
    ends = (series.plane(0), series.plane(len(series.slices) - 1))
    corners = [
        plane.position(row, column)
        for plane in ends
        for row in (0, series.rows - 1)
        for column in (0, series.columns - 1)
    ]
    places = np.array(corners) @ axes.T
    return np.array([places.min(axis=0), places.max(axis=0)])


def _size(series: Series) -> str:
    lengths = " × ".join(f"{mm:.4g}" for mm in (*series.pixel_spacing, series.slice_step or 0.0))
    return f"{series.rows} × {series.columns} × {len(series.slices)} voxels of {lengths} mm"


def patient_folders(patient_ids: Sequence[str]) -> dict[str, str]:
    """Patient id → the name of the folder of its results; no two ids have one name.

    An id that is not fit for a file name (`a b`) is made so, with a digest where another patient is called that (`a_b`)
    or where it is long.
    """
    names: dict[str, str] = {}
    readable = Counter(safe_name(patient_id) for patient_id in patient_ids)
    for patient_id in patient_ids:
        name = safe_name(patient_id)
        is_own = name == patient_id or readable[name] == 1
        is_short = len(os.fsencode(name)) <= LONGEST_NAME_BYTES
        mark = digest(patient_id, size=4).hex()
        names[patient_id] = name if is_own and is_short else f"{name[:40]}_{mark}"
    return names


def result_format(
    series: Series, out: Path, options: UpscaleOptions, *, alone: bool, has_headers: bool
) -> Literal["dicom", "nifti"]:
    """Choose the format of a result: the one asked for, else what the source or the name of the result says.

    Raises:
        UsageError: the source or the place of the result does not go with it.
    """
    lacks_headers = series.is_volume and not has_headers
    kind = options.format or ("nifti" if lacks_headers or is_nifti(out) else "dicom")
    if kind == "nifti" and has_headers:
        raise UsageError("`reference` is for results in DICOM, and this one is NIfTI; leave it out, or name a folder")
    if is_nifti(out) and kind == "dicom":
        raise UsageError(f"{out}: a NIfTI file holds no DICOM; name a folder, or choose `format=nifti`")
    if is_nifti(out) and not alone:
        raise UsageError(f"{out}: a source of several series needs a folder; or name one series as the source")
    return kind


def shown_name(name: str, options: UpscaleOptions, secret: str = "") -> str:
    """A name as results show it: a hash where names are not wanted, a keyed one where the patient must stay unknown."""
    return name if options.shows_names else pseudonym(secret + name)


def shown_phase(words: str, options: UpscaleOptions) -> str:
    """What tells a phase from others, as results say it: no dates and times where the patient must stay unknown."""
    return MOMENT.sub(r"\1", words) if options.anonymize else words


def without_names(message: str, series: Series, patient: str) -> str:
    """A message about a series without the names of its folder and its files: its slices are called by their numbers.

    Args:
        message: begins with the path of the series, as those of `ctsr.series.check` do.
        series: whose folder and files may be called after the patient.
        patient: what takes the folder's place.
    """
    for defect in series.defects:
        message = message.replace(defect.detail, defect.nameless)
    for number, header in enumerate(series.slices, start=1):
        named = f"{series.path}: {header.path.name}"
        if message.startswith((f"{named}:", f"{named},")):  # a frame has its number behind the file's name
            place = f": slice {number}" if header.frame is None else ""
            return f"{patient}{place}{message.removeprefix(named)}"
    return message.replace(str(series.path), patient)


def series_name(series: Series) -> str:
    """Its description, and enough of a digest to tell it from the others."""
    mark = digest(series.series_uid, repr(series.geometry_key), size=4).hex()
    words = series.description or (volume_stem(series.path) if series.is_volume else "series")
    phase = f"_{safe_name(series.phase)[:40]}" if series.phase else ""
    return f"{safe_name(words)[:40]}{phase}_{mark}"


make_callable(__name__, "ctsr.api.images:upscale")
