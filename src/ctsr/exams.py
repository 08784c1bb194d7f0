"""Exams on disk: patients and their series, whatever format they come in, and the pixels of each."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ctsr.dicom import pixels as dicom_pixels
from ctsr.dicom.grouping import group
from ctsr.dicom.header import FileContents, read_file
from ctsr.dicom.reading import files_below
from ctsr.errors import CtsrError, MissingInputError, SeriesError, boundary
from ctsr.hu import AIR
from ctsr.padding import SlicePixels
from ctsr.pool import in_order
from ctsr.progress import SILENT, Progress
from ctsr.series import Excluded, Inventory, PatientExams, Series, SliceHeader, check, is_nifti
from ctsr.text import printable
from ctsr.volume import Grid, Volume, normal, spread

ON_GRID_WITHIN = 0.25
"""Of a step: how far a slice may lie off the grid of a volume with gaps."""
COPY_AGAIN = "copy or export it again"
CHUNK = 16
"""Files whose headers a process reads at once: enough to hide the hand-over."""


def scan(
    root: Path,
    *,
    patient_ids: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
    executor: Executor | None = None,
) -> Inventory:
    """Everything below `root`: one folder per patient, whatever lies below each.

    Where no folder holds CT but `root` itself does, `root` is one patient. The order in which the file system
    lists names does not matter; hidden files and folders are not looked at.

    Args:
        root: the folder.
        patient_ids: folder name → patient id, where the id is not the folder's name.
        progress: reports on the patients.
        executor: processes to read headers in, from `ctsr.pool.pool`; None reads them here.

    Raises:
        MissingInputError: there is no such folder or file.
    """
    if not root.exists():
        raise MissingInputError(f"{root}: there is no such folder; give one that holds a folder for each patient")
    names = dict(patient_ids or {})
    if root.is_file():
        return Inventory(root, (scan_patient(root),))
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = [_listed(entry) for entry in entries if entry.is_dir()]
    # All at once, so that no process waits for another patient's files to be grouped.
    headers = _headers([path for folder in folders for path in folder.dicom], executor)
    patients = [
        _patient(folder, names.get(folder.path.name) or _name(folder.path), islice(headers, len(folder.dicom)))
        for folder in progress.track(folders, total=len(folders), what="Scanning patients")
    ]
    loose = _scan(_Listing(root, [entry for entry in entries if entry.is_file()]), names.get(root.name))
    if loose.series and not any(patient.series for patient in patients):
        everything = scan_patient(root, patient_id=names.get(root.name)) if folders else loose
        return Inventory(root, (everything,))
    strays = (
        *loose.excluded,
        *(
            Excluded(series.path, "it lies in no patient's folder", len(series.slices), series.series_uid)
            for series in loose.series
        ),
    )
    return Inventory(root, tuple(sorted(patients, key=lambda patient: patient.patient_id)), strays)


def scan_patient(folder: Path, *, patient_id: str | None = None) -> PatientExams:
    """One patient: a folder with all that lies below it, or a single file.

    Raises:
        MissingInputError: there is no such folder or file.
    """
    if not folder.exists():
        raise MissingInputError(f"{folder}: there is no such folder or file")
    return _scan(_listed(folder), patient_id)


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
        return [path for path in self.files if not is_nifti(path)]

    @property
    def volumes(self) -> list[Path]:
        """Those that call themselves NIfTI."""
        return [path for path in self.files if is_nifti(path)]


def _listed(path: Path) -> _Listing:
    if path.is_file():
        return _Listing(path, [path])
    errors: list[OSError] = []
    files = list(files_below(path, on_error=errors.append))
    unreadable = (
        Excluded(Path(error.filename), f"the folder cannot be read: {error.strerror}", failed=True) for error in errors
    )
    return _Listing(path, files, tuple(unreadable))


def _name(folder: Path) -> str:
    """What a patient is called when nothing else is known: the folder, or for a file its name without suffixes."""
    name = printable(folder.name or folder.resolve().name)
    return name.split(".")[0] if folder.is_file() and is_nifti(folder) else name


def _headers(paths: Sequence[Path], executor: Executor | None) -> Iterator[FileContents]:
    """What each DICOM file holds."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    return chain.from_iterable(in_order(_read_chunk, chunks, executor))


def _read_chunk(paths: Sequence[Path]) -> list[FileContents]:
    return [read_file(path) for path in paths]


def _scan(listing: _Listing, patient_id: str | None) -> PatientExams:
    return _patient(listing, patient_id or _name(listing.path), _headers(listing.dicom, None))


def _patient(listing: _Listing, patient_id: str, headers: Iterator[FileContents]) -> PatientExams:
    """A patient from the files of a folder and what those that may be DICOM hold."""
    contents = list(headers)  # whatever fails below, the next patient's headers come next
    try:
        with boundary("the patient cannot be scanned"):
            return _grouped(listing, patient_id, contents)
    except CtsrError as error:
        failure = Excluded(listing.path, str(error), max(1, len(listing.files)), failed=True)
        return PatientExams(patient_id, listing.path, excluded=(*listing.unreadable, failure))


def _grouped(listing: _Listing, patient_id: str, contents: Sequence[FileContents]) -> PatientExams:
    volumes = [_volume(path, listing.path, patient_id) for path in listing.volumes]
    dicom = group(contents, patient_id)
    return PatientExams(
        patient_id=patient_id,
        path=listing.path,
        series=(*dicom.series, *(item for item in volumes if isinstance(item, Series))),
        excluded=(*listing.unreadable, *dicom.excluded, *(item for item in volumes if isinstance(item, Excluded))),
        ignored=dict(sorted(dicom.ignored.items())),
    )


# NIfTI is imported where it is met: it takes a fifth of a second to load, and most exams are DICOM.


def _volume(path: Path, folder: Path, patient_id: str) -> Series | Excluded:
    from ctsr.nifti import scan_file

    name = _volume_name(path, folder)
    try:
        with boundary("unreadable", COPY_AGAIN):
            return scan_file(path, patient_id, name=name)
    except CtsrError as error:
        return Excluded(path, str(error), series_uid=name, failed=True)


def _nifti_pixels(header: SliceHeader) -> SlicePixels:
    from ctsr.nifti import read_pixels

    return read_pixels(header)


def _volume_name(path: Path, folder: Path) -> str:
    """Tells a patient's NIfTI files apart, as a series UID does in DICOM."""
    below = Path(path.name) if path == folder else path.relative_to(folder)
    return printable("_".join([*below.parts[:-1], below.name.split(".nii")[0]]))


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
        if is_nifti(header.path):
            return _nifti_pixels(header)
        return dicom_pixels.read_pixels(header, assume_hu=assume_hu)


def read_volume(series: Series, *, assume_hu: bool = False, allow_gaps: bool = False) -> Volume:
    """All slices of a series as one block on an even grid, first slice lowest along the normal.

    Args:
        series: as a scan found it.
        assume_hu: take stored values for HU where the header gives no rescale.
        allow_gaps: leave room for missing slices and fill it with padding, so that every slice that is there
            keeps its place in mm; the volume then has more slices than the series.

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
        hu[place] = pixels.hu
        padding[place] = False if pixels.padding is None else pixels.padding
    return Volume(hu, grid, padding if padding.any() else None)


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
    if np.abs(exact - places).max() > ON_GRID_WITHIN:
        raise SeriesError(f"{series.path}: its slices lie on no even grid (step {step:.3g} mm). Use it slice by slice.")
    a, b, c, d, e, f = series.orientation
    grid = Grid(
        shape=(int(places[-1]) + 1, series.rows, series.columns),
        spacing=(step, *series.pixel_spacing),
        origin=series.slices[0].position,
        directions=(normal(series.orientation), (d, e, f), (a, b, c)),
    )
    return grid, [int(place) for place in places]
