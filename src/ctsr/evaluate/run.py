"""`evaluate`: from models and a root to a folder of rows, statistics, plots and a report."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ctsr import __version__
from ctsr.data.datasets import open_exams
from ctsr.data.hu_cache import default_store
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import MissingInputError, UsageError
from ctsr.evaluate.crew import Crew
from ctsr.evaluate.folder import result_folder
from ctsr.evaluate.judge import Domain
from ctsr.evaluate.measure import measure
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.perceptual import choose_learned
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice, choose_patients, plan_slices
from ctsr.evaluate.results import write_results
from ctsr.evaluate.rows import on_domain
from ctsr.evaluate.tables import Table, patient_level
from ctsr.evaluate.window import choose_windows
from ctsr.files import write_json
from ctsr.hashing import digest
from ctsr.hu import HURange
from ctsr.infer.choose import AskedFor, Int8Support
from ctsr.infer.engine import Engine
from ctsr.metrics import choose_metrics
from ctsr.metrics.packages import MA_CPU_SECONDS
from ctsr.paths import resolve_path
from ctsr.progress import SILENT, Progress
from ctsr.quantization.acceptance import Acceptance, Pair, compare_engines

__all__ = ["Evaluation", "evaluate", "fingerprint_of", "prepare"]

ACCEPTANCE_SLICES = 4
"""Maximum number of slices, evenly spread, on which INT8 is compared with fp32."""


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation."""

    folder: Path
    domains: tuple[Domain, ...]
    num_patients: int
    num_slices: int
    means: Table
    """On the first domain, over patients, each of whom counts once."""
    model_methods: tuple[str, ...]
    """What rows and tables call the models."""
    pi_kind: str | None
    """What PI is made of: `ma+niqe`, `niqe`, or None where it was not computed."""
    failures: tuple[str, ...]
    """A line for each patient or series that could not be used, wholly or in part."""


def evaluate(
    models: Sequence[ModelUnderTest],
    degradation: Degradation,
    options: EvaluateOptions,
    *,
    int8: Int8Support | None = None,
    crew: Crew | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure models and interpolations on every slice of a part of the split, all on the same LR.

    Rows reach the disk slice by slice. When an evaluation is interrupted, the next one with the same models,
    settings and slices continues it, to the same result; so it does where slices could not be measured.
    `int8` opens the network if the precision is int8. The processes of a `crew` share the slices.

    Raises:
        MissingInputError: no data, or a split that names patients who are not there.
        SplitError: a model was trained on patients it is to be evaluated on.
        UsageError: no model; models that do not take the same LR; a degradation for another scale; a metric, window
            or baseline that is none.
        CtsrError: not one slice could be measured.
    """
    plan = with_engine(prepare(models, degradation, options, progress), int8, progress)
    fingerprint = fingerprint_of(plan)
    with result_folder(options.output_dir, plan.stem, fingerprint) as folder:
        write_json(folder.config_json, plan.config())
        found = measure(plan, folder, fingerprint, crew, progress)
        folder.finished = not found.failures
        plan = plan.with_only(found.by_slice, found.failures)
        rows = found.all
        write_results(plan, rows, folder, progress)
    return Evaluation(
        folder=folder.path,
        domains=plan.domains,
        num_patients=len(plan.patients),
        num_slices=len(plan.slices),
        means=patient_level(on_domain(rows, plan.domains[0])),
        model_methods=plan.model_methods,
        pi_kind=plan.learned.pi_kind,
        failures=plan.failures,
    )


def prepare(
    models: Sequence[ModelUnderTest], degradation: Degradation, options: EvaluateOptions, progress: Progress
) -> EvaluationPlan:
    """Settle everything that will be computed; decodes the series that are not in the store yet."""
    model = _alike(models)
    if degradation.scale != model.scale:
        raise UsageError(f"a degradation for ×{degradation.scale} does not fit a network for ×{model.scale}")
    domains, metrics = _domains(options), choose_metrics(options.metrics)
    roots = [resolve_path(root, progress=progress) for root in options.root]
    split_json = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    exams = open_exams(roots, split_json=split_json, checkpoint_split=model.split, progress=progress)
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
    slices_of_ma = sum(1 for number in range(len(slices)) if number % options.ma_every == 0)
    learned = choose_learned(
        metrics, options.lpips, options.cache, backend=options.perceptual_backend, progress=progress
    )
    if "MA" in learned.said:
        _announce_ma(slices[0], slices_of_ma * len(domains) * (len(models) + len(options.baselines)), progress)
    return EvaluationPlan(tuple(models), options, domains, metrics, sampler, learned, exams.source, slices, failures)


def _announce_ma(example: PlannedSlice, images: int, progress: Progress) -> None:
    """MA is slow enough to be told of before it begins."""
    hours = MA_CPU_SECONDS * example.stored.rows * example.stored.columns / 512**2 * images / 3600
    progress.note(
        f"MA will take about {hours:.1f} CPU hours for {images} images; --ma_every 10 takes a tenth of them, "
        "--metrics fidelity LPIPS NIQE hu tissue goes without"
    )


def _alike(models: Sequence[ModelUnderTest]) -> ModelUnderTest:
    """The first of models that all take the same LR.

    Raises:
        UsageError: there is none, or they do not.
    """
    if not models:
        raise UsageError("there is no model to evaluate; name one with --model_path")
    first = models[0]
    for other in models[1:]:
        if (other.scale, other.hu_range) != (first.scale, first.hu_range):
            told = (
                f"{one.generator.path} is ×{one.scale} for {one.hu_range.low:g} … {one.hu_range.high:g} HU"
                for one in (first, other)
            )
            raise UsageError(f"models are compared on the same LR: {', '.join(told)}; evaluate them one by one")
    return first


def _domains(options: EvaluateOptions) -> tuple[Domain, ...]:
    windows = choose_windows(
        HURange(*options.hu_clip), options.windows, options.preset, options.window_center, options.window_width
    )
    return tuple(Domain(window, mask) for mask in dict.fromkeys(options.mask) for window in windows)


def with_engine(plan: EvaluationPlan, int8: Int8Support | None, progress: Progress) -> EvaluationPlan:
    """The plan with the engine that was asked for; int8 is checked on slices of the evaluation itself."""
    return replace(plan, models=tuple(_on_engine(model, plan, int8, progress) for model in plan.models))


def _on_engine(
    model: ModelUnderTest, plan: EvaluationPlan, int8: Int8Support | None, progress: Progress
) -> ModelUnderTest:
    def check(int8_engine: Engine, fp32_engine: Engine) -> Acceptance:
        pairs: list[Pair] = []
        for planned in plan.slices[:: math.ceil(len(plan.slices) / ACCEPTANCE_SLICES)]:
            pair = slice_pair(planned.stored, planned.index, plan.sampler, model.hu_range)
            pairs.append(Pair(pair.lr, pair.hr))
        return compare_engines(int8_engine, fp32_engine, pairs, model.hu_range)

    asked = AskedFor(plan.options.engine, plan.options.precision, str(model.device), int8)
    return model.on_engine(asked, check, progress)


def fingerprint_of(plan: EvaluationPlan) -> str:
    """Changes with everything that a row depends on; not with where the results go or what is drawn of them."""
    words = {
        "version": __version__,
        "metrics": plan.metrics,
        "methods": plan.methods,
        "models": [model.generator.sha256 for model in plan.models],
        "device": str(plan.model.device),
        "engine": [model.engine_name for model in plan.models],
        "hu_range": asdict(plan.model.hu_range),
        "domains": [asdict(domain) for domain in plan.domains],
        # With weights or without: an evaluation is not continued with a column that its first rows do not have.
        "learned": {name: dict(said) for name, said in plan.learned.said.items()} | dict(plan.learned.missing),
        "ma_every": plan.options.ma_every,
        # As flags: a default that is written out, as in config.json, is no other setting.
        "sampler": asdict(plan.sampler) | {"degradation": plan.sampler.degradation.as_flags()},
        # The name of a series' folder in the store stands for the state of its files.
        "slices": [(planned.stored.folder.name, asdict(planned.ref)) for planned in plan.slices],
    }
    return digest(json.dumps(words, sort_keys=True)).hex()
