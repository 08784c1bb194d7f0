"""The slices of an evaluation: of which patients, in which order, and those on which MA is computed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.data.datasets import SplitExams, seen_in_training, upsampled_references
from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import DegradationSampler
from ctsr.documents import PREPROCESSING_LOG
from ctsr.errors import SplitError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.evaluate.output_folder import DIRECTIONS, Direction, SliceRef
from ctsr.evaluate.statistics import People
from ctsr.hashing import find_people, rng_from, with_names
from ctsr.hu import BLOCK, body_blocks
from ctsr.metrics.perceptual import MA_CPU_SECONDS
from ctsr.reporting import SILENT, Progress
from ctsr.series import PatientExams
from ctsr.series_quality import spread_indices

BODY_SHARE = 0.1
"""Least share of body in a plane that is compared."""
FEWER_MA = 10
"""`ma_every` that the note about MA's computing time suggests."""


@dataclass(frozen=True)
class PlannedSlice:
    """One slice to evaluate."""

    stored: StoredSeries
    index: int
    """Within the series."""
    ref: SliceRef


@dataclass(frozen=True)
class Caveats:
    """Patients whose figures are biased, by the names that files show."""

    trained: Sequence[str] = ()
    """Those that a model was trained on."""
    upsampled: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Those with a reference that preprocessing upsampled → mm before and after, of the coarsest series."""
    together: Sequence[Sequence[str]] = ()
    """Those that are one person, by their headers, and count as one patient."""
    unknown: Sequence[str] = ()
    """Files of models that do not say whom they were trained on."""

    @property
    def people(self) -> People:
        """As `ctsr.evaluate.statistics.patient_level` takes it."""
        return {name: group[0] for group in self.together for name in group}

    def sentences(self, patients: Sequence[str]) -> list[str]:
        """One sentence for each caveat that applies to some of `patients`, with its mark."""
        trained = [name for name in self.trained if name in patients]
        found = [f"† A model was trained on {', '.join(trained)}: these figures are not a test."] if trained else []
        upsampled = [
            f"{name} ({before:.3g} → {after:.3g} mm)"
            for name, (before, after) in self.upsampled.items()
            if name in patients
        ]
        if upsampled:
            found.append(
                f"‡ HR was upsampled by preprocessing: {', '.join(upsampled)}. It has less detail than its pixels "
                "suggest, and every method comes out better."
            )
        for group in self.together:
            own = [name for name in group if name in patients]
            found += [f"{', '.join(own)} are one patient, by their headers, and count as one."] if len(own) > 1 else []
        found += [
            f"Whom {name} was trained on is not known: these patients may be among them." for name in self.unknown
        ]
        return found

    def marks(self, patient: str) -> str:
        """The marks that follow the patient's name."""
        return "†" * (patient in self.trained) + "‡" * (patient in self.upsampled)


def _is_trained_on(patient: PatientExams, models: Sequence[ModelUnderTest]) -> bool:
    for model in models:
        if seen_in_training([patient], model.split or {}, model.also_trained_on, model.trained_identities):
            return True
    return False


def folders_of_people(exams: SplitExams, patients: Sequence[str]) -> frozenset[str]:
    """The folders of these patients, and all others that are one person with one of them."""
    groups = exams.people.groups
    return frozenset(patients).union(*(group for group in groups if not frozenset(group).isdisjoint(patients)))


def find_caveats(
    exams: SplitExams, patients: Sequence[str], models: Sequence[ModelUnderTest], options: EvaluateOptions
) -> Caveats:
    """Find the patients that a model was trained on, references that preprocessing upsampled, folders of one person.

    Raises:
        ReadError: the log of a preprocessed root cannot be read.
    """
    chosen = [patient for patient in exams.patients if patient.patient_id in patients]
    identities = {patient.patient_id: patient.identities for patient in chosen}
    trained = [patient.patient_id for patient in chosen if _is_trained_on(patient, models)]
    upsampled = upsampled_references(chosen)
    return Caveats(
        tuple(options.shown(name) for name in trained),
        {options.shown(name): change for name, change in upsampled.items()},
        [tuple(map(options.shown, group)) for group in find_people(identities).groups],
        [model.model.path.name for model in models if not model.split and not model.trained_identities],
    )


def choose_patients(
    exams: SplitExams, models: Sequence[ModelUnderTest], options: EvaluateOptions, progress: Progress = SILENT
) -> tuple[str, ...]:
    """Choose the patients of the part, in the split's order.

    `progress` receives a warning where none of the patients of a checkpoint's split is present.

    Raises:
        SplitError: there are none; or a model was trained on one of them, and neither `split` is train nor
            `allow_train_patients` is set.
    """
    patients = exams.people.first(exams.split.part(options.split), options.max_patients)
    if not patients:
        raise SplitError(f"the {options.split} part is empty in {exams.source}; choose another `split` or `split_json`")
    for model in models:
        _check_unseen(patients, exams, model, options, progress)
    return patients


def plan_slices(
    series: Sequence[StoredSeries], patients: Sequence[str], sampler: DegradationSampler, options: EvaluateOptions
) -> tuple[PlannedSlice, ...]:
    """Plan the slices to evaluate: by patient in the given order, by series, by position along the normal."""
    slices: list[PlannedSlice] = []
    for patient in patients:
        own = [stored for stored in series if stored.patient_id == patient]
        slices += _limited(list(_of_patient(own, sampler, options)), options)
    return tuple(slices)


def slices_with_ma(slices: Sequence[PlannedSlice], every: int) -> frozenset[int]:
    """Numbers of the slices on which MA is computed: every n-th of each series, from its first."""
    seen: Counter[Path] = Counter()
    chosen: set[int] = set()
    for number, planned in enumerate(slices):
        if seen[planned.stored.folder] % every == 0:
            chosen.add(number)
        seen[planned.stored.folder] += 1
    return frozenset(chosen)


def announce_ma(slices: Sequence[PlannedSlice], every: int, images_per_slice: int, progress: Progress) -> None:
    """Note on how many images MA is computed and how long that takes, before it begins.

    Args:
        slices: of the plan.
        every: `ma_every`.
        images_per_slice: domains times methods.
        progress: receives the note.
    """
    chosen = slices_with_ma(slices, every)
    pixels = sum(slices[number].stored.rows * slices[number].stored.columns for number in chosen)
    hours = MA_CPU_SECONDS * pixels * images_per_slice / 512**2 / 3600
    fewer = len(slices_with_ma(slices, FEWER_MA)) * images_per_slice
    advice = f"`ma_every={FEWER_MA}` computes it on {fewer}, " if fewer < len(chosen) * images_per_slice else ""
    progress.note(
        f"MA will take about {hours:.1f} CPU hours for {len(chosen) * images_per_slice} images; {advice}"
        "`metrics` fidelity LPIPS NIQE hu tissue does without"
    )


def chosen_planes(truth: npt.NDArray[np.float32], most: int) -> tuple[tuple[Direction, int], ...]:
    """Most planes of each direction that are compared, evenly over what holds a body."""
    blocks = body_blocks(truth.max(axis=0))
    body = np.kron(blocks, np.ones((BLOCK, BLOCK), np.bool_))[: truth.shape[1], : truth.shape[2]]
    across: dict[Direction, Sequence[int]] = {
        "axial": range(len(truth)),
        "coronal": np.flatnonzero(body.mean(axis=1) > BODY_SHARE).tolist(),
        "sagittal": np.flatnonzero(body.mean(axis=0) > BODY_SHARE).tolist(),
    }
    return tuple(
        (direction, indices[place])
        for direction, indices in across.items()
        for place in spread_indices(len(indices), most)
    )


def plane_of_volume(volume: npt.NDArray[np.float32], direction: Direction, index: int) -> npt.NDArray[np.float32]:
    """One plane of (slices, rows, columns): axial (row, column), coronal (slice, column), sagittal (slice, row)."""
    return np.ascontiguousarray(np.take(volume, index, axis=DIRECTIONS.index(direction)))


def _check_unseen(
    patients: Sequence[str], exams: SplitExams, model: ModelUnderTest, options: EvaluateOptions, progress: Progress
) -> None:
    """Refuse patients that the model was trained on.

    Raises:
        SplitError: see `choose_patients`.
    """
    split = with_names(model.split or {}, (patient.patient_id for patient in exams.patients))
    known = frozenset(name for names in split.values() for name in names)
    if known and not model.trained_identities and known.isdisjoint(patient.patient_id for patient in exams.patients):
        progress.note(
            f"warning: {model.model.path} names {len(known)} patients in its split, and none of them is here: "
            "by their names it cannot be told whether the model was trained on some of these"
        )
    if not known and not model.trained_identities:
        progress.note(
            f"warning: {model.model.path} does not say whom it was trained on: the patients here may be among them, "
            "and their figures no test"
        )
    exams_of_part = [patient for patient in exams.patients if patient.patient_id in patients]
    seen = seen_in_training(exams_of_part, model.split or {}, model.also_trained_on, model.trained_identities)
    if seen and options.split != "train" and not options.allow_train_patients:
        # Without `split_json`, the checkpoint's split would hold if it knew the patients under these names.
        lost_names = f"put {PREPROCESSING_LOG} back into the root so that patients go by their own names"
        remedy = "leave `split_json` out to take the checkpoint's split" if options.split_json else lost_names
        raise SplitError(
            f"{model.model.path} was trained on {', '.join(seen)} of the {options.split} part "
            f"({exams.source}): numbers on them say nothing about new patients; "
            f"{remedy}, or pass `allow_train_patients=True`"
        )


def _of_patient(
    series: Sequence[StoredSeries], sampler: DegradationSampler, options: EvaluateOptions
) -> Iterator[PlannedSlice]:
    """All slices of a patient; rows number the series whose images of several geometries share one UID."""
    for stored in series:
        alike = [other for other in series if other.series_uid == stored.series_uid]
        uid = options.shown(stored.series_uid)
        name = uid if len(alike) == 1 else f"{uid}/{alike.index(stored) + 1}"
        for index in range(len(stored)):
            ref = SliceRef(
                patient_id=options.shown(stored.patient_id),
                series_uid=name,
                deg_seed=sampler.patient_seed(stored.patient_id),
                slice_index=index,
                sop_instance_uid=options.shown(stored.identities[index]),
                z_mm=stored.z_mm[index],
            )
            yield PlannedSlice(stored, index, ref)


def _limited(slices: list[PlannedSlice], options: EvaluateOptions) -> list[PlannedSlice]:
    """At most `max_slices_per_patient` of a patient; a random choice depends on seed and patient alone."""
    most = options.max_slices_per_patient
    if most is None or most >= len(slices):
        return slices
    if options.slice_sampling == "first":
        return slices[:most]
    rng = rng_from(options.seed, "slices", slices[0].stored.patient_id)
    return [slices[i] for i in sorted(rng.choice(len(slices), size=most, replace=False))]
