"""An evaluation settled in every detail before anything is computed: models, slices, domains, draws."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ctsr.data.datasets import PREPROCESSING_LOG, SplitExams, trained_on
from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import DegradationSampler
from ctsr.errors import SplitError
from ctsr.evaluate.judge import Domain, Judge
from ctsr.evaluate.methods import INTERPOLATIONS, method_names
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.perceptual import Learned
from ctsr.evaluate.rows import SliceRef
from ctsr.hashing import rng_from
from ctsr.progress import SILENT, Progress

__all__ = ["EvaluationPlan", "PlannedSlice", "choose_patients", "one_or_list", "plan_slices"]


LONGEST = 80
"""Letters of a model's name, and of the windows' tags, in the name of a folder or a file."""


@dataclass(frozen=True)
class PlannedSlice:
    """One slice to evaluate."""

    stored: StoredSeries
    index: int
    """Within the series."""
    ref: SliceRef


@dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """What will be computed; nothing here is left to chance or to the moment."""

    models: tuple[ModelUnderTest, ...]
    """Of one scale and HU range: all see the same LR."""
    options: EvaluateOptions
    domains: tuple[Domain, ...]
    """The first is the one that is printed."""
    metrics: tuple[str, ...]
    """In the order of the columns."""
    sampler: DegradationSampler
    learned: Learned
    split_source: str
    slices: Sequence[PlannedSlice]
    failures: tuple[str, ...]
    """A line for each patient or series that had to be left out, wholly or in part."""

    @property
    def model(self) -> ModelUnderTest:
        """The first: scale, HU range and split are its."""
        return self.models[0]

    @property
    def model_methods(self) -> tuple[str, ...]:
        """What rows call the models."""
        return method_names(self.models)

    @property
    def baselines(self) -> tuple[str, ...]:
        """What rows call the interpolations."""
        return tuple(INTERPOLATIONS[kind] for kind in self.options.baselines)

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of rows, tables and plots."""
        return (*self.baselines, *self.model_methods)

    @property
    def judge(self) -> Judge:
        """What measures each slice."""
        learned = self.learned
        hu_range = self.model.hu_range
        return Judge(hu_range, self.domains, self.metrics, learned.functions, learned.pi_kind == "ma+niqe")

    def left_out(self, number: int) -> frozenset[str]:
        """Metrics that the slice of this number in the plan, from 0, goes without."""
        return frozenset({"MA"}) if number in self._without_ma else frozenset()

    @cached_property
    def _without_ma(self) -> frozenset[int]:
        """All but every n-th slice of each series, so that every patient has some."""
        seen: Counter[Path] = Counter()
        without: set[int] = set()
        for number, planned in enumerate(self.slices):
            if seen[planned.stored.folder] % self.options.ma_every:
                without.add(number)
            seen[planned.stored.folder] += 1
        return frozenset(without)

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with slices in the plan, in its order."""
        return tuple(dict.fromkeys(planned.ref.patient_id for planned in self.slices))

    @property
    def stem(self) -> str:
        """The folder's name without its time: `test__best__globalHU_-1000_2000_on_test_set`."""
        split = self.options.split
        limited = "limited_" if self.options.is_limited else ""
        return f"{split}__{self._model_tag(self.model.name)}__{self.tag}_on_{limited}{split}_set"

    @property
    def tag(self) -> str:
        """Of all domains: `globalHU_-1000_2000`, `globalHU_-1000_2000+preset-lung_body`."""
        several = list(dict.fromkeys(domain.window.tag for domain in self.domains))
        windows = "+".join(several)
        if len(windows) > LONGEST:
            windows = f"{several[0]}+{len(several) - 1}"
        masks = "+".join(dict.fromkeys(domain.mask for domain in self.domains))
        return windows if masks == "none" else f"{windows}_{masks}"

    def _model_tag(self, first: str) -> str:
        """`first`, as far as a folder's name has room for it, and how many others there are."""
        first = first[:LONGEST]
        return first if len(self.models) == 1 else f"{first}+{len(self.models) - 1}"

    @property
    def flat_stem(self) -> str:
        """What `--flat_names` puts behind ``metrics_`` and ``summary_``."""
        experiment = self.model.experiment(self.sampler.degradation.mode)
        return f"{self.options.split}_{self._model_tag(experiment)}__{self.tag}"

    @property
    def title(self) -> str:
        """For people: split, model, window, how many."""
        counts = f"{len(self.patients)} patients, {len(self.slices)} slices"
        return f"{self.options.split} set, {counts}, model {self._model_tag(self.model.run_name)}"

    def with_only(self, numbers: Collection[int], failures: Sequence[str]) -> "EvaluationPlan":
        """The plan of the slices of these numbers alone, with a line for each further thing that failed."""
        slices = tuple(planned for number, planned in enumerate(self.slices) if number in numbers)
        return replace(self, slices=slices, failures=(*self.failures, *failures))

    def config(self) -> dict[str, Any]:
        """Every flag with the value in force, as `--config` reads it."""
        return asdict(self.options) | {
            "model_path": one_or_list([str(model.generator.path) for model in self.models]),
            "device": str(self.model.device),
            "scale": self.model.scale,
            **self.sampler.degradation.as_flags(),
        }


def one_or_list(values: Sequence[str]) -> str | list[str]:
    """A value by itself, several as a list: what a file says of a flag that takes one or more."""
    return values[0] if len(values) == 1 else list(values)


def choose_patients(
    exams: SplitExams, models: Sequence[ModelUnderTest], options: EvaluateOptions, progress: Progress = SILENT
) -> tuple[str, ...]:
    """The patients of the part that was asked for, in the split's order.

    `progress` hears a warning where a checkpoint's split names nobody who is there.

    Raises:
        SplitError: there are none; or a model was trained on one of them, and neither `--split train` nor
            `--allow_train_patients` says that this is meant.
    """
    patients = exams.split.part(options.split)[: options.max_patients]
    if not patients:
        raise SplitError(f"the {options.split} part is empty in {exams.source}; choose another --split or --split_json")
    for model in models:
        _check_unseen(patients, exams, model, options, progress)
    return patients


def _check_unseen(
    patients: Sequence[str], exams: SplitExams, model: ModelUnderTest, options: EvaluateOptions, progress: Progress
) -> None:
    """Refuse patients that the model was trained on.

    Raises:
        SplitError: see `choose_patients`.
    """
    known = frozenset(name for names in (model.split or {}).values() for name in names)
    if known and known.isdisjoint(patient.patient_id for patient in exams.patients):
        progress.note(
            f"warning: {model.generator.path} names {len(known)} patients in its split, and none of them is here: "
            "by their names it cannot be told whether the model was trained on some of these"
        )
    seen = trained_on(patients, model.split or {}, model.also_trained_on)
    if seen and options.split != "train" and not options.allow_train_patients:
        # Without --split_json, the checkpoint's split would hold if it knew the patients under these names.
        lost_names = f"put {PREPROCESSING_LOG} back into the root so that patients go by their own names"
        remedy = "leave --split_json out to take the checkpoint's split" if options.split_json else lost_names
        raise SplitError(
            f"{model.generator.path} was trained on {', '.join(seen)} of the {options.split} part "
            f"({exams.source}): numbers on them say nothing about new patients; "
            f"{remedy}, or pass --allow_train_patients"
        )


def plan_slices(
    series: Sequence[StoredSeries], patients: Sequence[str], sampler: DegradationSampler, options: EvaluateOptions
) -> tuple[PlannedSlice, ...]:
    """The slices to evaluate: by patient in the given order, by series, by position along the normal."""
    return tuple(
        planned
        for patient in patients
        for planned in _of_patient([one for one in series if one.patient_id == patient], sampler, options)
    )


def _of_patient(
    series: Sequence[StoredSeries], sampler: DegradationSampler, options: EvaluateOptions
) -> list[PlannedSlice]:
    """A patient's slices; where they are limited, the choice depends on the seed and his name alone."""
    names = _names(series)
    slices = [
        PlannedSlice(one, i, _ref(one, name, i, sampler))
        for one, name in zip(series, names, strict=True)
        for i in range(len(one))
    ]
    most = options.max_slices_per_patient
    if most is None or most >= len(slices):
        return slices
    if options.slice_sampling == "first":
        return slices[:most]
    rng = rng_from(options.seed, "slices", slices[0].ref.patient_id)
    return [slices[i] for i in sorted(rng.choice(len(slices), size=most, replace=False))]


def _names(series: Sequence[StoredSeries]) -> list[str]:
    """What rows call each series of a patient: its UID, numbered where images of several geometries share one."""
    names: list[str] = []
    for one in series:
        alike = [other for other in series if other.series_uid == one.series_uid]
        names.append(one.series_uid if len(alike) == 1 else f"{one.series_uid}/{alike.index(one) + 1}")
    return names


def _ref(stored: StoredSeries, name: str, index: int, sampler: DegradationSampler) -> SliceRef:
    return SliceRef(
        patient_id=stored.patient_id,
        series_uid=name,
        deg_seed=sampler.patient_seed(stored.patient_id),
        slice_index=index,
        sop_instance_uid=stored.identities[index],
        z_mm=stored.z_mm[index],
    )
