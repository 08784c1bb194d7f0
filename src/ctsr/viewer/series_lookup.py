"""The series that a path refers to, with the patient ids that an evaluation uses, so that seeds agree."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ctsr.data.datasets import patient_names
from ctsr.dicom.discovery import patient_id_in
from ctsr.errors import MissingInputError, SeriesError
from ctsr.exams import scan, scan_patient
from ctsr.progress import SILENT, Progress
from ctsr.series import PatientExams, Series, check, is_nifti


@dataclass(frozen=True)
class FoundSeries:
    """Series that can be shown."""

    series: tuple[Series, ...]
    first: int
    """Index of the longest series inside the given folder."""


def find_series(
    path: Path, *, known: Collection[str] = (), assume_hu: bool = False, progress: Progress = SILENT
) -> FoundSeries:
    """Find the series of the patient or patients to which a folder or file belongs.

    A folder inside a patient's folder means that patient. Patient ids come from the log of a preprocessed root, else
    from folder names that the model or an evaluation knows, else from a folder named like the header's PatientID,
    (above the given one, or directly in it), else from the given folder's name.

    Args:
        path: a patient, a folder inside one, a root of patients, or a NIfTI file.
        known: patient ids of a checkpoint's split or an evaluation.
        assume_hu: also show series without rescale slope and intercept.
        progress: receives warnings and the series that were left out.

    Raises:
        MissingInputError: there is no series to show.
    """
    path = path.resolve()
    exams = tuple(_exams(path, known, progress))
    usable = tuple(_usable((series for patient in exams for series in patient.series), assume_hu, progress))
    if not usable:
        reasons = "; ".join(f"{left.path.name}: {left.reason}" for patient in exams for left in patient.excluded[:3])
        raise MissingInputError(f"{path}: no CT series to show{f' ({reasons})' if reasons else ''}")
    inside = [i for i, series in enumerate(usable) if series.path.resolve().is_relative_to(path)]
    return FoundSeries(usable, max(inside or range(len(usable)), key=lambda i: len(usable[i].slices)))


def _exams(path: Path, known: Collection[str], progress: Progress) -> Iterator[PatientExams]:
    patient = _patient_of(path, known)
    if patient is not None:
        yield scan_patient(patient[0], patient_id=patient[1])
    elif path.is_dir() and (patient_names(path) or any(child.name in known for child in path.iterdir())):
        yield from scan(path, patient_ids=patient_names(path), progress=progress).usable
    else:
        yield from _by_header(path, scan_patient(path), progress)


def _patient_of(path: Path, known: Collection[str]) -> tuple[Path, str] | None:
    """Folder and id of the patient to which `path` belongs; None where neither log nor known names tell."""
    places = (path, *path.parents)
    for place in places:
        if name := patient_names(place.parent).get(place.name):
            return place, name
    return next(((place, place.name) for place in places if place.name in known), None)


def _by_header(path: Path, alone: PatientExams, progress: Progress) -> Iterator[PatientExams]:
    """Patients according to the images' PatientID, where no folder name is known."""
    owners: set[str] = set()
    for series in alone.series:
        first = series.slices[0].path
        if not is_nifti(first) and (owner := patient_id_in(first)):
            owners.add(owner)
    if len(owners) > 1:
        yield from scan(path, progress=progress).usable
        return
    if path.is_dir() and any(child.is_dir() and child.name in owners for child in path.iterdir()):
        yield from scan(path, progress=progress).usable  # a root with one patient, whose folder bears the PatientID
        return
    named = next((place for place in path.parents if place.name in owners), None)
    yield alone if named is None else scan_patient(named)


def _usable(found: Iterator[Series], assume_hu: bool, progress: Progress) -> Iterator[Series]:
    for series in found:
        try:
            for warning in check(series, "view", assume_hu=assume_hu):
                progress.note(f"warning: {warning}")
        except SeriesError as error:
            progress.note(f"left out: {error}")
        else:
            yield series
