"""Which patients and slices are evaluated: settled before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from ctsr.data.exams import SplitExams
from ctsr.data.store import StoredSeries
from ctsr.degrade import Sampler
from ctsr.errors import SplitError
from ctsr.evaluate.model import Subject
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.rows import SliceRef
from ctsr.seeds import rng_from

__all__ = ["PlannedSlice", "choose_patients", "plan_slices"]


@dataclass(frozen=True)
class PlannedSlice:
    """One slice to evaluate."""

    stored: StoredSeries
    index: int
    """Within the series."""
    ref: SliceRef


def choose_patients(exams: SplitExams, subject: Subject, options: EvaluateOptions) -> tuple[str, ...]:
    """The patients of the part that was asked for, in the split's order.

    Raises:
        SplitError: there are none; or the model was trained on one of them, and neither `--split train` nor
            `--allow_train_patients` says that this is meant.
    """
    patients = exams.split.part(options.split)[: options.max_patients]
    if not patients:
        raise SplitError(f"the {options.split} part is empty in {exams.source}; choose another --split or --split_json")
    trained_on = sorted(set(patients) & set((subject.split or {}).get("train", ())))
    if trained_on and options.split != "train" and not options.allow_train_patients:
        raise SplitError(
            f"{subject.generator.path} was trained on {', '.join(trained_on)} of the {options.split} part "
            f"({exams.source}): numbers on them say nothing about new patients; "
            "leave --split_json out to take the checkpoint's split, or pass --allow_train_patients"
        )
    return patients


def plan_slices(
    series: Sequence[StoredSeries], patients: Sequence[str], sampler: Sampler, options: EvaluateOptions
) -> tuple[PlannedSlice, ...]:
    """The slices to evaluate: by patient in the given order, by series, by position along the normal."""
    return tuple(
        planned
        for patient in patients
        for planned in _of_patient([one for one in series if one.patient_id == patient], sampler, options)
    )


def _of_patient(series: Sequence[StoredSeries], sampler: Sampler, options: EvaluateOptions) -> list[PlannedSlice]:
    """A patient's slices; where they are limited, the choice depends on the seed and his name alone."""
    slices = [PlannedSlice(one, i, _ref(one, i, sampler)) for one in series for i in range(len(one))]
    most = options.max_slices_per_patient
    if most is None or most >= len(slices):
        return slices
    if options.slice_sampling == "first":
        return slices[:most]
    rng = rng_from(options.seed, "slices", slices[0].ref.patient_id)
    return [slices[i] for i in sorted(rng.choice(len(slices), size=most, replace=False))]


def _ref(stored: StoredSeries, index: int, sampler: Sampler) -> SliceRef:
    return SliceRef(
        patient_id=stored.patient_id,
        series_uid=stored.series_uid,
        deg_seed=sampler.patient_seed(stored.patient_id),
        slice_index=index,
        sop_instance_uid=stored.identities[index],
        z_mm=stored.z_mm[index],
    )
