"""Exams on disk: patients and their series, whatever format they come in, and the pixels of each."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ctsr.dicom import files_below, real_folders
from ctsr.dicom import pixels as dicom_pixels
from ctsr.dicom.grouping import group
from ctsr.dicom.header import FileContents, read_file
from ctsr.errors import CtsrError, MissingInputError, SeriesError, UsageError, boundary
from ctsr.files import is_special
from ctsr.hashing import voxel_identity
from ctsr.hu import AIR, AS_READ, HUCorrection
from ctsr.padding import PLAUSIBLE, HUFinding, SlicePixels, Verdict, check_hu, check_slices
from ctsr.pool import in_order
from ctsr.reporting import SILENT, Progress, listed, printable
from ctsr.series import (
    SOME_NETWORK,
    Defect,
    DefectKind,
    Excluded,
    Inventory,
    PatientExams,
    Series,
    SliceHeader,
    check,
    is_volume,
    volume_stem,
)
from ctsr.volume import Grid, Volume, normal, spread

ON_GRID_WITHIN = 0.25
"""Fraction of a step that a slice may lie off the grid of a volume with gaps."""
MOST_PLACES = 10
"""Times as many places as slices that a volume with gaps may have: a position of 90 m would fill any memory."""
MOST_LISTED = 8
"""Series that a message names before it says how many more there are."""
MOST_RESCALES = 4
"""Rescales within one series that are judged each by itself."""
HU_DEFECTS = {
    Verdict.SHIFTED: DefectKind.SHIFTED_HU,
    Verdict.CUT_OFF: DefectKind.CUT_OFF_HU,
    Verdict.REPEATED: DefectKind.REPEATED_SLICE,
    Verdict.IMPLAUSIBLE: DefectKind.IMPLAUSIBLE_HU,
}
"""What a verdict makes of a series."""
COPY_AGAIN = "copy or export it again"
CHUNK = 16
"""Files whose headers a process reads at once: enough to hide the hand-over."""


def scan(
    root: Path,
    *,
    patient_ids: Mapping[str, str] | None = None,
    correction: HUCorrection = AS_READ,
    progress: Progress = SILENT,
    executor: Executor | None = None,
) -> Inventory:
    """Everything below `root`: one folder per patient, whatever lies below each.

    Where no folder holds CT but `root` itself does, `root` is one patient. The order in which the file system
    lists names does not matter; hidden files and folders are not looked at. A folder belongs to the patient it really
    lies in, whatever links lead to it; one outside of `root` to the first patient that links to it.

    Args:
        root: the folder.
        patient_ids: folder name → patient id, where the id is not the folder's name.
        correction: applied to the values of every series.
        progress: reports on the patients.
        executor: processes to read headers in, from `ctsr.pool.pool`; None reads them here.

    Raises:
        MissingInputError: no such file or folder.
    """
    if not root.exists():
        raise MissingInputError(f"{root}: no such folder; give the folder that holds one folder per patient")
    _check_not_special(root)
    names = dict(patient_ids or {})
    if root.is_file():
        return Inventory(root, (scan_patient(root, correction=correction),))
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = _listings(root, [entry for entry in entries if entry.is_dir()])
    # All at once, so that no process waits for another patient's files to be grouped.
    headers = _headers([path for folder in folders for path in folder.dicom], executor)
    patients = [
        _patient(
            folder, names.get(folder.path.name) or _name(folder.path), islice(headers, len(folder.dicom)), correction
        )
        for folder in progress.track(folders, total=len(folders), what="Scanning patients")
    ]
    loose = _scan(_Listing(root, [entry for entry in entries if entry.is_file()]), names.get(root.name), correction)
    if loose.series and not any(patient.series for patient in patients):
        name = names.get(root.name)
        everything = scan_patient(root, patient_id=name, correction=correction) if folders else loose
        return Inventory(root, (everything,))
    nowhere = [entry for entry in entries if entry.is_symlink() and not entry.exists()]
    strays = (
        *loose.excluded,
        *(Excluded(entry, "it is a link that leads nowhere; mend or remove it", failed=True) for entry in nowhere),
        *(
            Excluded(series.path, "it lies in no patient's folder", len(series.slices), series.series_uid)
            for series in loose.series
        ),
    )
    return Inventory(root, tuple(sorted(patients, key=lambda patient: patient.patient_id)), strays, loose.ignored)


def scan_patient(folder: Path, *, patient_id: str | None = None, correction: HUCorrection = AS_READ) -> PatientExams:
    """One patient: a folder with all that lies below it, or a single file.

    Args:
        folder: the folder or file.
        patient_id: the folder's name when None.
        correction: applied to the values of every series.

    Raises:
        MissingInputError: no such file or folder.
    """
    if not folder.exists():
        raise MissingInputError(f"{folder}: no such file or folder")
    _check_not_special(folder)
    return _scan(_listed(folder), patient_id, correction)


def _check_not_special(path: Path) -> None:
    if is_special(path):
        raise MissingInputError(f"{path}: it is a pipe, socket or device; give a folder or a file")


def only_series(path: Path, series_uid: str | None = None) -> Series:
    """The series below `path`, where there is one; else the one that is called `series_uid` (`Series.is_called`).

    Raises:
        MissingInputError: there is no usable series.
        UsageError: there are several, or none of that name.
    """
    inventory = scan(path)
    found = list(inventory.all_series())
    fitting = [series for series in found if series_uid is None or series.is_called(series_uid)]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        patients = [*inventory.excluded, *(left for patient in inventory.patients for left in patient.excluded)]
        reasons = listed(list(dict.fromkeys(left.reason for left in patients)), 3)
        raise MissingInputError(f"{path}: no usable CT series ({reasons or 'no CT at all'})")
    names = [
        f"{series.patient_id}: {series.description} {series.series_uid} {series.phase}".rstrip() for series in found
    ]
    # Images of two geometries under one UID are two series, and nothing in their headers names one of them.
    called = {(series.series_uid, series.phase) for series in found}
    same = "; those of one name need folders of their own" if len(called) < len(found) else ""
    raise UsageError(
        f"{path} holds {len(found)} series; give the folder of one, or name it by `series`: "
        f"{listed(names, MOST_LISTED)}{same}"
    )


@dataclass(frozen=True)
class _Listing:
    """The files of one patient, by name only."""

    path: Path
    files: list[Path]
    unreadable: tuple[Excluded, ...] = ()
    """Folders that could not be looked into."""

    @property
    def dicom(self) -> list[Path]:
        """Those that may be DICOM."""
        return [path for path in self.files if not is_volume(path)]

    @property
    def volumes(self) -> list[Path]:
        """Those that call themselves NIfTI, NRRD or MetaImage."""
        return [path for path in self.files if is_volume(path)]


def _listings(root: Path, folders: Sequence[Path]) -> list[_Listing]:
    """The files of each patient's folder; no file is in two of them."""
    if not any(_has_links(folder) for folder in folders):
        return [_listed(folder) for folder in folders]
    own = {folder: real_folders(folder) for folder in folders}
    # The root itself: a link to it would give one patient everyone's files.
    taken = {str(root.resolve())}.union(*own.values())
    listings: list[_Listing] = []
    for folder in folders:
        listing = _listed(folder, taken - own[folder])
        taken |= {str(path.parent.resolve()) for path in listing.files}
        listings.append(listing)
    return listings


def _has_links(folder: Path) -> bool:
    """Whether a folder is a symbolic link or holds some."""
    if folder.is_symlink():
        return True
    return any(Path(here, name).is_symlink() for here, folders, files in os.walk(folder) for name in (*folders, *files))


def _listed(path: Path, elsewhere: Collection[str] = ()) -> _Listing:
    if path.is_file():
        return _Listing(path, [path])
    errors: list[OSError] = []
    files = list(files_below(path, on_error=errors.append, elsewhere=elsewhere))
    unreadable = (
        Excluded(Path(error.filename), f"the folder cannot be read: {error.strerror}", failed=True) for error in errors
    )
    return _Listing(path, files, tuple(unreadable))


def _name(folder: Path) -> str:
    """What a patient is called when nothing else is known: the folder, or for a file its name without suffixes."""
    name = printable(folder.name or folder.resolve().name)
    return name.split(".")[0] if folder.is_file() and is_volume(folder) else name


def _headers(paths: Sequence[Path], executor: Executor | None) -> Iterator[FileContents]:
    """What each DICOM file holds."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    return chain.from_iterable(in_order(_read_chunk, chunks, executor))


def _read_chunk(paths: Sequence[Path]) -> list[FileContents]:
    return [read_file(path) for path in paths]


def _scan(listing: _Listing, patient_id: str | None, correction: HUCorrection) -> PatientExams:
    return _patient(listing, patient_id or _name(listing.path), _headers(listing.dicom, None), correction)


def _patient(
    listing: _Listing, patient_id: str, headers: Iterator[FileContents], correction: HUCorrection
) -> PatientExams:
    """A patient from the files of a folder and what those that may be DICOM hold."""
    contents = list(headers)  # whatever fails below, the next patient's headers come next
    try:
        with boundary("the patient cannot be scanned"):
            return _grouped(listing, patient_id, contents, correction)
    except CtsrError as error:
        failure = Excluded(listing.path, str(error), max(1, len(listing.files)), failed=True)
        return PatientExams(patient_id, listing.path, excluded=(*listing.unreadable, failure))


def _grouped(
    listing: _Listing, patient_id: str, contents: Sequence[FileContents], correction: HUCorrection
) -> PatientExams:
    volumes = [_volume(path, listing.path, patient_id, correction) for path in listing.volumes]
    dicom = group(contents, patient_id)
    found = (*dicom.series, *(item for item in volumes if isinstance(item, Series)))
    return PatientExams(
        patient_id=patient_id,
        path=listing.path,
        series=tuple(_with_verdict(_corrected(series, correction)) for series in found),
        excluded=(*listing.unreadable, *dicom.excluded, *(item for item in volumes if isinstance(item, Excluded))),
        ignored=dict(sorted(dicom.ignored.items())),
    )


def _corrected(series: Series, correction: HUCorrection) -> Series:
    """The series with the correction in the rescale of every slice."""
    if not correction:
        return series
    slices: list[SliceHeader] = []
    for header in series.slices:
        slope, intercept = correction.rescale(header.rescale_slope, header.rescale_intercept)
        slices.append(replace(header, rescale_slope=slope, rescale_intercept=intercept))
    defects = tuple(defect for defect in series.defects if defect.kind is not DefectKind.MISSING_RESCALE)
    return replace(series, slices=tuple(slices), defects=defects, variant=(*series.variant, correction.text))


def _with_verdict(series: Series) -> Series:
    """The series with a defect where its values do not look like HU, and with the identity of its voxels.

    Slices whose rescale differs from the middle one's are judged separately.
    """
    middle = _middle(series)
    pixels = _readable(series, middle)
    finding = check_slices(
        len(series.slices), middle, lambda index: _finding(pixels if index == middle else _readable(series, index))
    )
    defects: list[Defect] = []
    if finding.verdict is not Verdict.PLAUSIBLE:
        defects.append(Defect(HU_DEFECTS[finding.verdict], f"its values do not look like HU: {finding.text}"))
    else:
        for index in _other_rescales(series, middle):
            if (finding := _hu_finding(series, index)).verdict is Verdict.IMPLAUSIBLE:
                z = f"z = {series.slices[index].position[2]:g} mm"
                detail = f"slices of another rescale than most, as at {z}, do not look like HU: {finding.detail}"
                defects.append(Defect(DefectKind.IMPLAUSIBLE_HU, detail, (index,)))
    told = "" if pixels is None else voxel_identity(len(series.slices), pixels.hu, pixels.padding)
    identities = (*series.identities, told) if told else series.identities
    return replace(series, defects=(*series.defects, *defects), identities=identities)


def _middle(series: Series) -> int:
    """The middle slice; of two the upper one, whichever way the slices are ordered."""
    half = len(series.slices) // 2
    is_upwards = series.slices[0].position[2] <= series.slices[-1].position[2]
    return half if is_upwards else len(series.slices) - 1 - half


def _other_rescales(series: Series, middle: int) -> list[int]:
    """A slice of each rescale that differs from that of slice `middle`."""
    first: dict[tuple[float | None, float | None], int] = {}
    for index, header in enumerate(series.slices):
        first.setdefault((header.rescale_slope, header.rescale_intercept), index)
    usual = series.slices[middle]
    first.pop((usual.rescale_slope, usual.rescale_intercept), None)
    return list(first.values())[:MOST_RESCALES]


def _hu_finding(series: Series, index: int) -> HUFinding:
    return _finding(_readable(series, index))


def _finding(pixels: SlicePixels | None) -> HUFinding:
    """The verdict on a slice; plausible where it cannot be read or has no rescale, which is another defect."""
    return PLAUSIBLE if pixels is None else check_hu(pixels.hu, pixels.padding)


def _readable(series: Series, index: int) -> SlicePixels | None:
    try:
        return read_slice(series, index)
    except CtsrError:
        return None


# NIfTI is imported where it is met: it takes a fifth of a second to load, and most exams are DICOM.


def _volume(path: Path, folder: Path, patient_id: str, correction: HUCorrection) -> Series | Excluded:
    from ctsr.nifti import scan_file

    name = _volume_name(path, folder)
    try:
        with boundary("unreadable", COPY_AGAIN):
            return scan_file(path, patient_id, name=name, correction=correction)
    except CtsrError as error:
        return Excluded(path, str(error), series_uid=name, failed=True)


def _volume_pixels(header: SliceHeader) -> SlicePixels:
    from ctsr.nifti import read_pixels

    return read_pixels(header)


def _volume_name(path: Path, folder: Path) -> str:
    """Tells a patient's volumes apart, as a series UID does in DICOM."""
    below = Path(path.name) if path == folder else path.relative_to(folder)
    return printable("_".join([*below.parts[:-1], volume_stem(below)]))


def read_slice(series: Series, index: int, *, assume_hu: bool = False) -> SlicePixels:
    """The pixels of ``series.slices[index]`` in HU.

    Args:
        series: as a scan found it.
        index: 0 … ``len(series.slices) - 1``.
        assume_hu: take stored values for HU where the header gives no rescale.

    Raises:
        ReadError: the pixels cannot be decoded, or there is no rescale.
    """
    header = series.slices[index]
    with boundary(str(header.path), COPY_AGAIN):
        if is_volume(header.path):
            return _volume_pixels(header)
        return dicom_pixels.read_pixels(header, assume_hu=assume_hu)


def read_volume(
    series: Series,
    *,
    assume_hu: bool = False,
    allow_gaps: bool = False,
    seen: Callable[[int, SlicePixels], object] | None = None,
) -> Volume:
    """All slices of a series as one block on an even grid, first slice lowest along the normal.

    Args:
        series: as a scan found it.
        assume_hu: take stored values for HU where the header gives no rescale.
        allow_gaps: leave room for missing slices and fill it with padding, so that every slice that is there
            keeps its place in mm; the volume then has more slices than the series.
        seen: given each slice with its number, in their order.

    Raises:
        SeriesError: a defect that a block cannot have (gaps, duplicates, uneven steps, tilt).
        ReadError: a slice cannot be decoded.
    """
    check(series, "volume", assume_hu=assume_hu, allow_gaps=allow_gaps)
    grid, places = even_grid(series)
    hu = np.full(grid.shape, AIR, dtype=np.float32)
    padding = np.ones(grid.shape, dtype=np.bool_)
    for index, place in enumerate(places):
        pixels = read_slice(series, index, assume_hu=assume_hu)
        if pixels.hu.shape != grid.shape[1:]:
            raise SeriesError(f"{series.slices[index].path}: {pixels.hu.shape} pixels in a series of {grid.shape[1:]}")
        if seen is not None:
            seen(index, pixels)
        hu[place] = pixels.hu
        padding[place] = False if pixels.padding is None else pixels.padding
    is_result = any(defect.kind is DefectKind.SUPER_RESOLVED for defect in series.defects)
    return Volume(hu, grid, padding if padding.any() else None, SOME_NETWORK if is_result else "")


def even_grid(series: Series) -> tuple[Grid, list[int]]:
    """The even grid the slices lie on, and the place of each slice on it.

    Raises:
        SeriesError: they lie on none.
    """
    along = spread([header.position for header in series.slices], series.orientation).along
    # A single slice is as thick as it says, or a millimetre.
    step = series.slice_step or series.slice_thickness or 1.0
    count = round(float(along[-1] - along[0]) / step)
    step = float(along[-1] - along[0]) / count if count else step
    exact = (along - along[0]) / step
    places = exact.round()
    if places[-1] >= MOST_PLACES * len(places):
        raise SeriesError(
            f"{series.path}: its {len(places)} slices lie {along[-1] - along[0]:.4g} mm apart, {step:.3g} mm from one "
            "to the next: most of a volume of them would be empty. Use it slice by slice."
        )
    if np.abs(exact - places).max() > ON_GRID_WITHIN:
        raise SeriesError(
            f"{series.path}: its slices are not evenly spaced (step {step:.3g} mm). Use it slice by slice."
        )
    a, b, c, d, e, f = series.orientation
    grid = Grid(
        shape=(int(places[-1]) + 1, series.rows, series.columns),
        spacing=(step, *series.pixel_spacing),
        origin=series.slices[0].position,
        directions=(normal(series.orientation), (d, e, f), (a, b, c)),
    )
    return grid, [int(place) for place in places]
