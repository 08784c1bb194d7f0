"""Which series a path means, and what the patient is called: as evaluation calls him, so that numbers agree."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ctsr.data.datasets import patient_names
from ctsr.defect_policy import check
from ctsr.dicom.discovery import patient_id_in
from ctsr.errors import MissingInputError, SeriesError
from ctsr.exams import scan, scan_patient
from ctsr.progress import SILENT, Progress
from ctsr.series import PatientExams, Series, is_nifti

__all__ = ["FoundSeries", "find_series"]


@dataclass(frozen=True)
class FoundSeries:
    """The series that can be looked at."""

    series: tuple[Series, ...]
    first: int
    """The one that is meant: inside the folder that was named, and there the longest."""


def find_series(
    path: Path, *, known: Collection[str] = (), assume_hu: bool = False, progress: Progress = SILENT
) -> FoundSeries:
    """The series of the patient, or the patients, that a folder or file belongs to.

    A folder inside a patient means that patient: he goes by the log of a preprocessed root, or by a name that the
    model or an evaluation knows, or by the header's PatientID where a folder is called so; else by the name of
    the folder that was given.

    Args:
        path: a patient, a folder inside one, a root of patients, or a NIfTI file.
        known: names of patients, from a checkpoint's split or an evaluation.
        assume_hu: a missing rescale is no reason to leave a series out.
        progress: hears of warnings and of what was left out.

    Raises:
        MissingInputError: there is nothing that can be shown.
    """
    path = path.resolve()
    exams = tuple(_exams(path, known, progress))
    usable = tuple(_usable((one for patient in exams for one in patient.series), assume_hu, progress))
    if not usable:
        reasons = "; ".join(f"{left.path.name}: {left.reason}" for patient in exams for left in patient.excluded[:3])
        raise MissingInputError(f"{path}: no CT series to show{f' ({reasons})' if reasons else ''}")
    inside = [i for i, one in enumerate(usable) if one.path.resolve().is_relative_to(path)]
    return FoundSeries(usable, max(inside or range(len(usable)), key=lambda i: len(usable[i].slices)))


def _exams(path: Path, known: Collection[str], progress: Progress) -> Iterator[PatientExams]:
    home = _home(path, known)
    if home is not None:
        yield scan_patient(home[0], patient_id=home[1])
    elif path.is_dir() and (patient_names(path) or any(child.name in known for child in path.iterdir())):
        yield from scan(path, patient_ids=patient_names(path), progress=progress).usable
    else:
        yield from _by_header(path, scan_patient(path), progress)


def _home(path: Path, known: Collection[str]) -> tuple[Path, str] | None:
    """The patient's folder that `path` is or lies in, and his name; None where nothing tells."""
    places = (path, *path.parents)
    for place in places:
        if name := patient_names(place.parent).get(place.name):
            return place, name
    return next(((place, place.name) for place in places if place.name in known), None)


def _by_header(path: Path, alone: PatientExams, progress: Progress) -> Iterator[PatientExams]:
    """What the images say about whose they are, where no folder's name is known."""
    firsts = (one.slices[0].path for one in alone.series)
    owners = {owner for first in firsts if not is_nifti(first) and (owner := patient_id_in(first))}
    if len(owners) > 1:
        yield from scan(path, progress=progress).usable
        return
    named = next((place for place in path.parents if place.name in owners), None)
    yield alone if named is None else scan_patient(named)


def _usable(series: Iterator[Series], assume_hu: bool, progress: Progress) -> Iterator[Series]:
    for one in series:
        try:
            for warning in check(one, "view", assume_hu=assume_hu):
                progress.note(f"warning: {warning}")
        except SeriesError as error:
            progress.note(f"left out: {error}")
        else:
            yield one
