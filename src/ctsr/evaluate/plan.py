"""The plan of an evaluation: models, slices, domains and draws, all decided before anything is computed."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ctsr import __version__
from ctsr.data.datasets import open_exams
from ctsr.data.hu_cache import default_store
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import MissingInputError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import (
    BASELINES,
    LINEAR,
    Baseline,
    LinearBaseline,
    ModelUnderTest,
    fit_linear_baseline,
    method_names,
    short_name,
    told_conditions,
)
from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.evaluate.slices import (
    Caveats,
    PlannedSlice,
    announce_ma,
    choose_patients,
    find_caveats,
    folders_of_people,
    plan_slices,
    slices_with_ma,
)
from ctsr.hashing import digest
from ctsr.hu import HURange, choose_windows
from ctsr.infer import EngineRequest, Int8Support
from ctsr.infer.engine import Engine
from ctsr.metrics import choose_metrics
from ctsr.metrics.perceptual import PerceptualMetrics, choose_perceptual
from ctsr.models.conditioning import Conditions, with_conditions
from ctsr.paths import resolve_path
from ctsr.reporting import Progress, counted, safe_name

LONGEST_TAG = 80
"""Characters of a model's name, and of the windows' tags, in the name of a folder or a file."""
ACCEPTANCE_SLICES = 4
"""Maximum number of slices, evenly spread, on which INT8 is compared with fp32."""


@dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """What will be computed; nothing in it depends on chance or on the time of day."""

    models: tuple[ModelUnderTest, ...]
    """Models of one scale and HU range: all get the same LR."""
    options: EvaluateOptions
    domains: tuple[Domain, ...]
    """The first is the one that is printed."""
    metrics: tuple[str, ...]
    """In the order of the columns."""
    sampler: DegradationSampler
    perceptual: PerceptualMetrics
    split_source: str
    """Where the split came from, for readers."""
    slices: Sequence[PlannedSlice]
    failures: tuple[str, ...]
    """A line for each patient or series that was left out, wholly or in part."""
    numbers_with_ma: frozenset[int]
    """Numbers of the slices on which MA is computed; kept apart from `slices`, which worker processes do not have."""
    linear: LinearBaseline | None = None
    """Where `linear` is one of the baselines."""
    caveats: Caveats = field(default_factory=Caveats)
    """Patients whose figures mislead."""

    @property
    def model(self) -> ModelUnderTest:
        """The first model, which defines scale, HU range and split."""
        return self.models[0]

    @property
    def model_methods(self) -> tuple[str, ...]:
        """Names of the models in rows."""
        return method_names(self.models)

    @property
    def conditional_methods(self) -> frozenset[str]:
        """Names of the models that are told the blur and noise of LR."""
        named = zip(self.model_methods, self.models, strict=True)
        return frozenset(name for name, model in named if model.conditional)

    def told(self, planned: PlannedSlice) -> Conditions | None:
        """What conditional models are told of a slice; None where no model is conditional."""
        if not self.conditional_methods:
            return None
        source = self.options.conditions_source
        return told_conditions(source, planned.stored, planned.index, self.sampler, self.model.hu_range)

    @property
    def fixed_conditions(self) -> Conditions | None:
        """What conditional models are told of every image; None where that depends on the image."""
        source = self.options.conditions_source
        if source.kind != "fixed":
            return None
        return Conditions(source.blur_sigma, source.noise_hu / self.model.hu_range.hu_per_unit)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the interpolations, and of the linear filter, in rows."""
        return tuple(LINEAR if kind == "linear" else BASELINES[kind] for kind in self.options.baselines)

    @property
    def baseline_methods(self) -> tuple[Baseline, ...]:
        """What they are, in the same order."""
        found: list[Baseline] = []
        for kind in self.options.baselines:
            if kind == "linear":
                assert self.linear is not None, "fitted where it is asked for"
                found.append(self.linear.filter)
            else:
                found.append(kind)
        return tuple(found)

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of rows, tables and plots."""
        return (*self.baselines, *self.model_methods)

    @property
    def metric_evaluator(self) -> MetricEvaluator:
        """Computes the metrics of each slice."""
        return MetricEvaluator(
            self.model.hu_range,
            self.domains,
            self.metrics,
            self.perceptual.functions,
            pi_with_ma=self.perceptual.pi_kind == "ma+niqe",
        )

    def left_out(self, number: int) -> frozenset[str]:
        """Metrics that are not computed on the slice of this number in the plan, from 0."""
        return frozenset() if number in self.numbers_with_ma else frozenset({"MA"})

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with slices in the plan, in its order."""
        return tuple(dict.fromkeys(planned.ref.patient_id for planned in self.slices))

    @property
    def num_patients(self) -> int:
        """Of the people in the plan: the folders of one person count once."""
        people = self.caveats.people
        return len({people.get(patient, patient) for patient in self.patients})

    @property
    def stem(self) -> str:
        """The folder's name without its time: `test__best__globalHU_-1000_2000_on_test_set`."""
        split = self.options.split
        limited = "limited_" if self.options.is_limited else ""
        return f"{split}__{self._model_tag(self.model.name)}__{self.tag}_on_{limited}{split}_set{self._told}"

    @property
    def _told(self) -> str:
        source = self.options.conditions_source
        return "" if source.kind == "drawn" else f"__told_{safe_name(str(source))}"

    @property
    def tag(self) -> str:
        """Tag of all domains: `globalHU_-1000_2000`, `globalHU_-1000_2000+preset-lung_body`."""
        return tag_of(self.domains)

    def _model_tag(self, first: str) -> str:
        """`first`, shortened to `LONGEST_TAG`, and the number of further models."""
        first = first[:LONGEST_TAG]
        return first if len(self.models) == 1 else f"{first}+{len(self.models) - 1}"

    @property
    def flat_stem(self) -> str:
        """What `flat_names` appends to ``metrics_`` and ``summary_``."""
        experiment = self.model.experiment(self.sampler.degradation.mode)
        return f"{self.options.split}_{self._model_tag(experiment)}__{self.tag}{self._told}"

    @property
    def title(self) -> str:
        """Split, number of patients and slices, and model, as shown to readers."""
        counts = f"{counted(self.num_patients, 'patient')}, {counted(len(self.slices), 'slice')}"
        return f"{self.options.split} set, {counts}, model {', '.join(map(short_name, self.model_methods))}"

    def with_only(self, numbers: Collection[int], failures: Sequence[str]) -> "EvaluationPlan":
        """The plan restricted to the slices of these numbers, with further failures."""
        slices = tuple(planned for number, planned in enumerate(self.slices) if number in numbers)
        return replace(self, slices=slices, failures=(*self.failures, *failures))

    def config(self) -> dict[str, Any]:
        """Every option with its value, in the form of a configuration file; without names, none that is a place."""
        return self.options.shown_config() | {
            "model_path": one_or_list([str(model.model.path) for model in self.models]),
            "device": str(self.model.device),
            "scale": self.model.scale,
            **self.sampler.degradation.as_flags(),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of everything that rows depend on; output folder, plots and studies are not part of it."""
        perceptual: dict[str, Any] = {name: dict(found) for name, found in self.perceptual.provenance.items()}
        content = {
            "version": __version__,
            "metrics": self.metrics,
            "methods": self.methods,
            "models": [model.model.sha256 for model in self.models],
            "device": str(self.model.device),
            "engine": [model.engine_name for model in self.models],
            "hu_range": asdict(self.model.hu_range),
            "domains": [asdict(domain) for domain in self.domains],
            # Weights that were fetched in between would add a column that the first rows do not have.
            "learned": perceptual | dict(self.perceptual.missing),
            "ma_every": self.options.ma_every,
            # As flags: a default that is written out, as in config.json, is the same setting.
            "sampler": asdict(self.sampler) | {"degradation": self.sampler.degradation.as_flags()},
            # The name of a series' folder in the store stands for the state of its files.
            "slices": [(planned.stored.folder.name, asdict(planned.ref)) for planned in self.slices],
        }
        if self.linear is not None:
            content["linear"] = self.linear.sha256
        if self.conditional_methods:
            content["conditions"] = str(self.options.conditions_source)
        return digest(json.dumps(content, sort_keys=True)).hex()


def tag_of(domains: Sequence[Domain]) -> str:
    """A tag of all domains that is short enough for a folder's name: `globalHU_-1000_2000+preset-lung_body`."""
    tags = list(dict.fromkeys(domain.window.tag for domain in domains))
    windows = "+".join(tags)
    if len(windows) > LONGEST_TAG:
        windows = f"{tags[0]}+{len(tags) - 1}"
    masks = "+".join(dict.fromkeys(domain.mask for domain in domains))
    return windows if masks == "none" else f"{windows}_{masks}"


def one_or_list(values: Sequence[str]) -> str | list[str]:
    """The form in which files hold a flag that takes one or more values: a single one by itself, several as a list."""
    return values[0] if len(values) == 1 else list(values)


def plan_evaluation(
    models: Sequence[ModelUnderTest], degradation: Degradation, options: EvaluateOptions, progress: Progress
) -> EvaluationPlan:
    """Plan an evaluation; decodes the series that are not in the store yet.

    Raises:
        MissingInputError, SplitError, UsageError: see `ctsr.evaluate.evaluation.evaluate`.
    """
    model = _comparable(models)
    if degradation.scale != model.scale:
        raise UsageError(f"a degradation for ×{degradation.scale} does not fit a network for ×{model.scale}")
    if options.conditions_source.kind != "drawn" and not any(model.conditional for model in models):
        raise UsageError(f"`conditions` {options.conditions}: no model here is told the blur and noise of its input")
    domains, metrics = domains_of(options), choose_metrics(options.metrics)
    roots = [resolve_path(root, progress=progress) for root in options.root]
    split_json = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    exams = open_exams(
        roots,
        split_json=split_json,
        checkpoint_split=model.split,
        allow_train_patients=options.allow_train_patients,
        correction=options.hu_correction,
        progress=progress,
    )
    progress.note(f"split: {exams.source}")
    chosen = choose_patients(exams, models, options, progress)
    store = options.store or default_store()
    opened = exams.part(options.split, "evaluate", store, only=chosen, assume_hu=options.assume_hu, progress=progress)
    sampler = DegradationSampler(degradation, options.degradation_sampling, options.deg_seed, options.deg_seed_mode)
    slices = plan_slices(opened.series, chosen, sampler, options)
    failures = (*exams.failures, *opened.failures)
    if not slices:
        where = ", ".join(map(str, roots))
        raise MissingInputError(f"{where}: no slice of the {options.split} part can be used: {'; '.join(failures)}")
    perceptual = choose_perceptual(
        metrics, options.lpips, options.cache, backend=options.perceptual_backend, progress=progress
    )
    if "MA" in perceptual.provenance:
        images_per_slice = len(domains) * (len(models) + len(options.baselines))
        announce_ma(slices, options.ma_every, images_per_slice, progress)
    linear = None
    if "linear" in options.baselines:
        seen = folders_of_people(exams, chosen)
        linear = fit_linear_baseline(
            exams, seen, store, sampler, model.hu_range, assume_hu=options.assume_hu, progress=progress
        )
    return EvaluationPlan(
        tuple(models),
        options,
        domains,
        metrics,
        sampler,
        perceptual,
        Path(exams.source).name if options.no_names else exams.source,
        slices,
        failures,
        slices_with_ma(slices, options.ma_every),
        linear,
        find_caveats(exams, chosen, models, options),
    )


def _comparable(models: Sequence[ModelUnderTest]) -> ModelUnderTest:
    """The first of models that all take the same LR.

    Raises:
        UsageError: there is none, or they do not.
    """
    if not models:
        raise UsageError("there is no model to evaluate; name one with `model_path`")
    first = models[0]
    for other in models[1:]:
        if (other.scale, other.hu_range) != (first.scale, first.hu_range):
            inputs = f"{_input_text(first)}, {_input_text(other)}"
            raise UsageError(f"models are compared on the same LR: {inputs}; evaluate them one by one")
    return first


def _input_text(model: ModelUnderTest) -> str:
    return f"{model.model.path} is ×{model.scale} for {model.hu_range.low:g} … {model.hu_range.high:g} HU"


def domains_of(options: EvaluateOptions) -> tuple[Domain, ...]:
    """Every window on every mask that was asked for; the first is the one that is printed."""
    windows = choose_windows(
        HURange(*options.hu_clip), options.windows, options.preset, options.window_center, options.window_width
    )
    return tuple(Domain(window, mask) for mask in dict.fromkeys(options.mask) for window in windows)


def with_engine(plan: EvaluationPlan, int8: Int8Support | None, progress: Progress) -> EvaluationPlan:
    """The plan on the engine that was asked for; int8 is checked on slices of the evaluation itself."""
    return replace(plan, models=tuple(_on_engine(model, plan, int8, progress) for model in plan.models))


def _on_engine(
    model: ModelUnderTest, plan: EvaluationPlan, int8: Int8Support | None, progress: Progress
) -> ModelUnderTest:
    # Only a run in INT8 is checked.
    from ctsr.quantization.acceptance import Acceptance, Pair, compare_engines

    def check(int8_engine: Engine, fp32_engine: Engine) -> Acceptance:
        pairs: list[Pair] = []
        for planned in plan.slices[:: math.ceil(len(plan.slices) / ACCEPTANCE_SLICES)]:
            pair = slice_pair(planned.stored, planned.index, plan.sampler, model.hu_range)
            told = plan.told(planned)
            lr = with_conditions(pair.lr, [told]) if told and model.conditional else pair.lr
            pairs.append(Pair(lr, pair.hr))
        return compare_engines(int8_engine, fp32_engine, pairs, model.hu_range)

    asked = EngineRequest(plan.options.engine, plan.options.precision, str(model.device), int8)
    return model.on_engine(asked, check, progress)
