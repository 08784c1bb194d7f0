"""The series that a path refers to, with the patient ids that an evaluation uses, and reasons to read it with care."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ctsr.data.datasets import PREPROCESSING_LOG, patient_names, trained_on
from ctsr.dicom.reading import patient_id_in
from ctsr.errors import MissingInputError, SeriesError
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.exams import scan, scan_patient
from ctsr.hu import AS_READ, HUCorrection
from ctsr.identity import is_same_person
from ctsr.preprocess.manifest import SeriesRow, read_log
from ctsr.progress import SILENT, Progress
from ctsr.series import PatientExams, Series, check, is_nifti
from ctsr.upscale.plan import unusual


@dataclass(frozen=True)
class FoundSeries:
    """Series that can be shown."""

    series: tuple[Series, ...]
    first: int
    """Index of the longest series inside the given folder."""


def find_series(
    path: Path,
    *,
    known: Collection[str] = (),
    assume_hu: bool = False,
    correction: HUCorrection = AS_READ,
    progress: Progress = SILENT,
) -> FoundSeries:
    """Find the series of the patient or patients to which a folder or file belongs.

    A folder inside a patient's folder means that patient. Patient ids come from the log of a preprocessed root, else
    from folder names that the model or an evaluation knows, else from a folder named like the header's PatientID,
    (above the given one, or directly in it), else from the given folder's name.

    Args:
        path: a patient, a folder inside one, a root of patients, or a NIfTI file.
        known: patient ids of a checkpoint's split or an evaluation.
        assume_hu: also show series without rescale slope and intercept.
        correction: applied to the values of every series.
        progress: receives warnings and the series that were left out.

    Raises:
        MissingInputError: there is no series to show.
    """
    path = path.resolve()
    exams = tuple(_exams(path, known, correction, progress))
    usable = tuple(_usable((series for patient in exams for series in patient.series), assume_hu, progress))
    if not usable:
        reasons = "; ".join(f"{left.path.name}: {left.reason}" for patient in exams for left in patient.excluded[:3])
        raise MissingInputError(f"{path}: no CT series to show{f' ({reasons})' if reasons else ''}")
    inside = [i for i, series in enumerate(usable) if series.path.resolve().is_relative_to(path)]
    return FoundSeries(usable, max(inside or range(len(usable)), key=lambda i: len(usable[i].slices)))


@dataclass(frozen=True)
class Caveat:
    """One reason why figures of a series mislead."""

    kind: Literal["trained", "domain", "upsampled"]
    text: str
    """A sentence for the user."""


def find_caveats(series: Sequence[Series], model: ModelUnderTest | None) -> tuple[tuple[Caveat, ...], ...]:
    """Caveats of each series as reference and, with a model, as its input.

    Raises:
        ReadError: the log of a preprocessed root cannot be read.
    """
    logs: dict[Path, tuple[SeriesRow, ...]] = {}
    found: list[tuple[Caveat, ...]] = []
    for each in series:
        root = next((place for place in each.path.parents if (place / PREPROCESSING_LOG).is_file()), None)
        if root is not None and root not in logs:
            logs[root] = read_log(root)
        of_model = _of_model(each, model) if model else []
        found.append((*of_model, *(_of_reference(each, root, logs[root]) if root else [])))
    return tuple(found)


def _exams(path: Path, known: Collection[str], correction: HUCorrection, progress: Progress) -> Iterator[PatientExams]:
    patient = _patient_of(path, known)
    if patient is not None:
        yield scan_patient(patient[0], patient_id=patient[1], correction=correction)
    elif path.is_dir() and (patient_names(path) or any(child.name in known for child in path.iterdir())):
        yield from scan(path, patient_ids=patient_names(path), correction=correction, progress=progress).usable
    else:
        yield from _by_header(path, scan_patient(path, correction=correction), correction, progress)


def _patient_of(path: Path, known: Collection[str]) -> tuple[Path, str] | None:
    """Folder and id of the patient to which `path` belongs; None where neither log nor known names tell."""
    places = (path, *path.parents)
    for place in places:
        if name := patient_names(place.parent).get(place.name):
            return place, name
    return next(((place, place.name) for place in places if place.name in known), None)


def _by_header(path: Path, alone: PatientExams, correction: HUCorrection, progress: Progress) -> Iterator[PatientExams]:
    """Patients according to the images' PatientID, where no folder name is known."""
    owners: set[str] = set()
    for series in alone.series:
        first = series.slices[0].path
        if not is_nifti(first) and (owner := patient_id_in(first)):
            owners.add(owner)
    if len(owners) > 1:
        yield from scan(path, correction=correction, progress=progress).usable
        return
    if path.is_dir() and any(child.is_dir() and child.name in owners for child in path.iterdir()):
        # A root with one patient, whose folder bears the PatientID.
        yield from scan(path, correction=correction, progress=progress).usable
        return
    named = next((place for place in path.parents if place.name in owners), None)
    yield alone if named is None else scan_patient(named, correction=correction)


def _usable(found: Iterator[Series], assume_hu: bool, progress: Progress) -> Iterator[Series]:
    for series in found:
        try:
            for warning in check(series, "view", assume_hu=assume_hu):
                progress.note(f"warning: {warning}")
        except SeriesError as error:
            progress.note(f"left out: {error}")
        else:
            yield series


def _of_model(series: Series, model: ModelUnderTest) -> list[Caveat]:
    found: list[Caveat] = []
    by_name = trained_on([series.patient_id], model.split or {}, model.also_trained_on)
    if by_name or is_same_person(model.trained_identities, series.identities):
        text = f"The model was trained on patient {series.patient_id}: figures of SR are not a test."
        found.append(Caveat("trained", text))
    # The model's domain is a matter of its input: LR, whose pixels are larger by the scale.
    row_mm, column_mm = series.pixel_spacing
    lr = replace(series, pixel_spacing=(row_mm * model.scale, column_mm * model.scale))
    for reason in unusual(lr, model.generator.meta):
        sentence = reason[:1].upper() + reason[1:]
        found.append(Caveat("domain", f"LR {reason}." if reason.startswith("pixel spacing") else f"{sentence}."))
    return found


def _of_reference(series: Series, root: Path, log: Sequence[SeriesRow]) -> list[Caveat]:
    for row in log:
        is_dicom_match = row.new_series_uid == series.series_uid if row.new_series_uid else False
        is_nifti_match = bool(row.output) and root / row.output / Path(row.source).name == series.path
        if row.upsampled and row.orig_row_mm and (is_dicom_match or is_nifti_match):
            text = (
                f"HR was upsampled by preprocessing, {row.orig_row_mm:.3g} → {row.new_row_mm:.3g} mm: it has less "
                "detail than its pixels suggest, and every method comes out better."
            )
            return [Caveat("upsampled", text)]
    return []
