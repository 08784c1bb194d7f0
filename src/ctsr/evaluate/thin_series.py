"""Which series are thin enough to be the truth of slices between slices."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ctsr.data.datasets import open_roots, seen_in_training
from ctsr.data.split import read_split
from ctsr.errors import CtsrError, MissingInputError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.files import file_state
from ctsr.hashing import digest
from ctsr.paths import resolve_path
from ctsr.reporting import Progress, listed
from ctsr.series import PatientExams, Series, check
from ctsr.through_plane import THIN_ENOUGH

SHOWN = 3
"""Names in a message, before it says how many more there are."""


def series_name(series: Series) -> str:
    """What rows know a series by: its UID, and its phase where others share that."""
    return f"{series.series_uid} {series.phase}".strip()


def series_state(series: Series) -> str:
    """A hash of the files that a series is read from."""
    states = (f"{header.identity} {file_state(header.path)}" for header in series.slices)
    return digest(series.series_uid, *states).hex()


def as_shown(series: Series, options: EvaluateOptions) -> Series:
    """The series under the names that files give it and its patient; what tells it from others of one name stays."""
    uid, slash, number = series.series_uid.partition("/")
    return replace(series, patient_id=options.shown(series.patient_id), series_uid=options.shown(uid) + slash + number)


def thin_series(
    models: Sequence[ModelUnderTest], options: EvaluateOptions, progress: Progress
) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """The series that can be truth, by their own names, and a line for each patient or series that cannot be used."""
    roots = [resolve_path(root, progress=progress) for root in options.root]
    patients = open_roots(roots, correction=options.hu_correction, progress=progress)
    wanted = _wanted(patients.usable, models, options, progress)
    first = patients.people.first([patient.patient_id for patient in wanted], options.max_patients)
    wanted = [patient for patient in wanted if patient.patient_id in first]
    found: list[Series] = []
    failures, thick = list(patients.failures), list[str]()
    for series in (series for patient in wanted for series in patient.series):
        if series.slice_step is None or series.slice_step * THIN_ENOUGH > max(options.distance):
            thick.append(f"{series.patient_id}: {series.title}")
            continue
        try:
            # Its values are the truth, and it is resampled along its slices' normal.
            for warning in check(series, "evaluate", "volume", assume_hu=options.assume_hu):
                progress.note(f"warning: {warning}")
            found.append(series)
        except CtsrError as error:
            failures.append(f"{series.patient_id}: {error}")
    if thick:
        progress.note(f"slices too far apart to be truth, left out: {listed(thick, SHOWN)}")
    if not found:
        where, most = ", ".join(map(str, roots)), max(options.distance) / THIN_ENOUGH
        raise MissingInputError(
            f"{where}: no series can serve as reference; it needs evenly spaced slices at most {most:g} mm apart, "
            f"of a patient the model was not trained on{': ' + listed(failures, SHOWN) if failures else ''}"
        )
    return tuple(told_apart(found)), tuple(failures)


def told_apart(found: Sequence[Series]) -> Iterator[Series]:
    """Number the series of a patient that rows would know by one name."""
    for series in found:
        alike = [other for other in found if other.patient_id == series.patient_id]
        alike = [other for other in alike if series_name(other) == series_name(series)]
        number = next(index for index, other in enumerate(alike, 1) if other is series)
        yield series if len(alike) == 1 else replace(series, series_uid=f"{series.series_uid}/{number}")


def _wanted(
    patients: Sequence[PatientExams], models: Sequence[ModelUnderTest], options: EvaluateOptions, progress: Progress
) -> list[PatientExams]:
    """Those of the split's part where one is named; without those a model was trained on."""
    if options.split_json is not None:
        part = read_split(resolve_path(options.split_json, progress=progress)).part(options.split)
        patients = [patient for patient in patients if patient.patient_id in part]
    kept: list[PatientExams] = []
    for patient in patients:
        seen = [
            name
            for model in models
            for name in seen_in_training([patient], model.split or {}, model.also_trained_on, model.trained_identities)
        ]
        if seen and not options.allow_train_patients:
            progress.note(
                f"left out: a model was trained on {seen[0]}; `allow_train_patients` measures it all the same"
            )
            continue
        kept.append(patient)
    return kept
