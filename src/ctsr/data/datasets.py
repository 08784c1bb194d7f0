"""Open roots for use: their patients, the split that holds, and the decoded series of each part."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from ctsr.data.hu_cache import Opened, open_all
from ctsr.data.split import Split, check_together, choose_split
from ctsr.documents import PREPROCESSING_LOG, RESAMPLED_SUFFIX, patient_names, upsampled_series
from ctsr.errors import CtsrError, MissingInputError, SplitError
from ctsr.exams import scan
from ctsr.hashing import People, find_people, is_same_person, proven, stored_identity, with_names
from ctsr.hu import AS_READ, HUCorrection
from ctsr.reporting import SILENT, Progress, listed
from ctsr.series import Command, PatientExams, Series, check

NAMED = 3
"""Patients that a message names before it says how many more there are."""


@dataclass(frozen=True)
class Patients:
    """The patients of one or several roots that hold usable CT, sorted by id."""

    usable: tuple[PatientExams, ...]
    failures: tuple[str, ...]
    """A line for each patient some of whose CT cannot be read."""
    people: People = field(default_factory=People)
    """Which of the usable ones are one person."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the usable patients, sorted as plain strings."""
        return tuple(patient.patient_id for patient in self.usable)

    @property
    def mix_ups(self) -> tuple[str, ...]:
        """A line for each folder that holds several people."""
        return tuple(patient.mix_up for patient in self.usable if patient.mix_up)


def people_of(patients: Iterable[PatientExams]) -> People:
    """Which patients are one person, by the identities of their exams."""
    return find_people({patient.patient_id: patient.identities for patient in patients})


def open_roots(roots: Sequence[Path], *, correction: HUCorrection = AS_READ, progress: Progress = SILENT) -> Patients:
    """Everything below the roots; patients of a preprocessed root go by their names in its log.

    A patient found in several roots is one patient; `progress` is notified, also of files that cannot be read, of
    folders that are one person by their headers or hold several, and of copies of a series, which are left out.

    Raises:
        MissingInputError: a root is not a folder, or holds no usable CT.
        SplitError: resampled exams lie beside their sources without their log.
    """
    together: dict[str, PatientExams] = {}
    several: list[str] = []
    for root in roots:
        for patient in _patients(root, correction, progress):
            earlier = together.get(patient.patient_id)
            if earlier is not None:
                several.append(f"{patient.patient_id} ({earlier.path} and {patient.path})")
            together[patient.patient_id] = patient if earlier is None else _joined(earlier, patient)
    if several:
        progress.note(f"found in several roots, and each taken for one patient: {listed(several, NAMED)}")
    everyone = [together[name] for name in sorted(together)]
    _check_resampled_copies(everyone)
    everyone = _without_copies(everyone, progress)
    failures = tuple(line for patient in everyone if (line := _failure(patient)))
    for failure in failures:
        progress.note(f"left out: {failure}")
    usable = tuple(patient for patient in everyone if patient.series)
    people = people_of(usable)
    for group in people.groups:
        progress.note(
            f"{listed(group, NAMED)} are one patient, by the study or the PatientID in their headers or by their voxels"
        )
    patients = Patients(usable, failures, people)
    for line in patients.mix_ups:
        progress.note(f"warning: {line}")
    return patients


def trained_on(patients: Sequence[str], split: Mapping[str, Sequence[str]], also: Sequence[str] = ()) -> list[str]:
    """Those of `patients` that a model was trained on, with their name there where it is another.

    Preprocessed patients whose log was left behind still carry its suffix: names that are unknown are looked up
    without it.

    Args:
        patients: who is asked about.
        split: the model's, part → patient ids.
        also: patients that an earlier stage of it was trained on.
    """
    bare_names = [patient.removesuffix(RESAMPLED_SUFFIX) for patient in patients]
    present = (*patients, *bare_names, *(name + RESAMPLED_SUFFIX for name in bare_names))
    (also,) = with_names({"also": also}, present).values()
    split = with_names(split, present)
    train = (*split.get("train", ()), *also)
    known = frozenset((*also, *(name for names in split.values() for name in names)))
    bare = {name.removesuffix(RESAMPLED_SUFFIX): name for name in train}
    found: list[str] = []
    for patient in sorted(patients):
        if patient in train:
            found.append(patient)
        elif patient not in known and (name := bare.get(patient.removesuffix(RESAMPLED_SUFFIX))):
            found.append(f"{patient} (there called {name})")
    return found


def seen_in_training(
    patients: Sequence[PatientExams],
    split: Mapping[str, Sequence[str]],
    also: Sequence[str] = (),
    identities: Collection[str] = (),
) -> list[str]:
    """Those of `patients` that a model was trained on, by their names or by the hashes in their headers.

    Args:
        patients: who is asked about.
        split: see `trained_on`.
        also: see `trained_on`.
        identities: hashes of the studies and patients that the model was trained on.
    """
    found: list[str] = []
    for patient in patients:
        if named := trained_on([patient.patient_id], split, also):
            found += named
        elif is_same_person(identities, patient.identities):
            found.append(f"{patient.patient_id} (known by its study, PatientID or voxels)")
    return found


def upsampled_references(patients: Sequence[PatientExams]) -> dict[str, tuple[float, float]]:
    """Patients with a series that preprocessing upsampled → mm before and after, of the coarsest of them.

    Raises:
        ReadError: the log of a preprocessed root cannot be read.
    """
    logs: dict[Path, Mapping[str, tuple[float, float]]] = {}
    found: dict[str, tuple[float, float]] = {}
    for patient in patients:
        for series in patient.series:
            root = next((place for place in series.path.parents if (place / PREPROCESSING_LOG).is_file()), None)
            if root is None:
                continue
            if root not in logs:
                logs[root] = upsampled_series(root)
            change = logs[root].get(series.series_uid) or logs[root].get(series.path.relative_to(root).as_posix())
            if change:
                found[patient.patient_id] = max(change, found.get(patient.patient_id, change))
    return found


def _patients(root: Path, correction: HUCorrection, progress: Progress) -> tuple[PatientExams, ...]:
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; give the folder that holds one folder per patient")
    inventory = scan(root, patient_ids=patient_names(root), correction=correction, progress=progress)
    if not inventory.usable:
        raise MissingInputError(f"{root}: no usable CT series below; `ctsr scan {root}` says what is there")
    for stray in inventory.excluded:
        progress.note(f"left out: {stray.path}: {stray.reason}")
    return inventory.patients


def _joined(patient: PatientExams, other: PatientExams) -> PatientExams:
    known = {_same(series) for series in patient.series}
    added = (series for series in other.series if _same(series) not in known)
    return replace(
        patient,
        series=(*patient.series, *added),
        excluded=(*patient.excluded, *other.excluded),
    )


def _same(series: Series) -> Hashable:
    """What two copies of a series have in common; a NIfTI file has no name of its own but its path."""
    if not series.slices[0].sop_instance_uid:
        return stored_identity(series.identities) or series.path.resolve()
    return series.series_uid, tuple(header.identity for header in series.slices)


def _without_copies(patients: Sequence[PatientExams], progress: Progress) -> list[PatientExams]:
    """Each series once: a copy under another patient would count twice, and could be trained on and tested on."""
    owners: dict[Hashable, PatientExams] = {}
    kept: list[PatientExams] = []
    for patient in patients:
        own = tuple(series for series in patient.series if owners.setdefault(_same(series), patient) is patient)
        if len(own) < len(patient.series):
            copied = next(series for series in patient.series if series not in own)
            owner = owners[_same(copied)]
            count = len(patient.series) - len(own)
            progress.note(f"left out: {patient.path}: {count} series are copies of series in {owner.path}")
        kept.append(replace(patient, series=own))
    return kept


def _check_resampled_copies(patients: Sequence[PatientExams]) -> None:
    """Resampled exams have UIDs of their own, but their source's study: it tells who they are without their log."""
    studies: dict[str, tuple[PatientExams, set[str]]] = {}
    for patient in patients:
        studies[patient.patient_id] = patient, {series.study_uid for series in patient.series}
    for name, (source, theirs) in studies.items():
        copy, shared = studies.get(name + RESAMPLED_SUFFIX, (None, set[str]()))
        if copy is not None and shared & theirs:
            raise SplitError(
                f"{copy.path} is {source.path} resampled, but its root has no {PREPROCESSING_LOG} that says so: "
                "one exam could be trained on and tested on; restore the log, or leave out one of the roots"
            )


def _failure(patient: PatientExams) -> str:
    failed = [excluded for excluded in patient.excluded if excluded.failed]
    if not failed:
        return ""
    count = sum(excluded.num_slices for excluded in failed)
    return f"{patient.patient_id}: {count} images cannot be used, the first: {failed[0].path}: {failed[0].reason}"


@dataclass(frozen=True)
class SplitExams:
    """The patients of one or several roots, and which part each belongs to."""

    patients: tuple[PatientExams, ...]
    split: Split
    source: str
    """Where the split came from."""
    failures: tuple[str, ...] = ()
    """A line for each patient some of whose CT cannot be read."""

    @property
    def people(self) -> People:
        """Which of the patients are one person."""
        return people_of(self.patients)

    def identities(self, part: str) -> tuple[str, ...]:
        """Hashes of the studies and patients of a part, sorted; see `ctsr.hashing`."""
        names = set(self.split.part(part))
        found = [patient.identities for patient in self.patients if patient.patient_id in names]
        return proven(chain.from_iterable(found))

    def part(
        self,
        name: str,
        command: Command,
        store: Path,
        *,
        only: Sequence[str] | None = None,
        assume_hu: bool = False,
        progress: Progress = SILENT,
    ) -> Opened:
        """The decoded series of a part, by patient id; series that `command` refuses are among the failures.

        Args:
            name: `train`, `val` or `test`.
            command: column of `ctsr.series.POLICY`; warnings go to `progress`.
            store: where decoded series are kept.
            only: the patients wanted; all of the part when left out.
            assume_hu: read series without a rescale as HU.
            progress: receives warnings and the progress of decoding.
        """
        wanted = set(self.split.part(name) if only is None else only)
        chosen: list[Series] = []
        refused: list[str] = []
        candidates = [patient for patient in self.patients if patient.patient_id in wanted]
        for series in chain.from_iterable(patient.series for patient in candidates):
            try:
                for warning in check(series, command, assume_hu=assume_hu):
                    progress.note(f"warning: {warning}")
                chosen.append(series)
            except CtsrError as error:
                refused.append(str(error))
        opened = open_all(chosen, store, command, assume_hu=assume_hu, progress=progress)
        return Opened(opened.series, (*refused, *opened.failures))


def open_exams(
    roots: Sequence[Path],
    *,
    split_json: Path | None = None,
    checkpoint_split: Mapping[str, Sequence[str]] | None = None,
    seed: int = 42,
    folder: Path = Path("splits"),
    allow_train_patients: bool = False,
    correction: HUCorrection = AS_READ,
    progress: Progress = SILENT,
) -> SplitExams:
    """Scan the roots and choose the split as `choose_split` does.

    Raises:
        MissingInputError: a root is not there or holds no usable CT, or the split names a missing patient.
        SplitError: see `choose_split`; or it tears one person's folders apart, unless `allow_train_patients`.
    """
    patients = open_roots(roots, correction=correction, progress=progress)
    together = patients.people.groups
    split, source = choose_split(
        patients.ids,
        split_json=split_json,
        checkpoint=checkpoint_split,
        folder=folder,
        seed=seed,
        together=together,
        mix_ups=patients.mix_ups,
    )
    if not allow_train_patients:
        check_together(split, together, source)
    if unused := sorted(set(patients.ids) - split.patients):
        progress.note(f"in no part of {source}, and so not used: {listed(unused, NAMED)}")
    return SplitExams(patients.usable, split, source, patients.failures)
