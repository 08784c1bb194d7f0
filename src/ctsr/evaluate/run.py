"""`evaluate`: from a model and a root to a folder of rows, statistics and plots."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ctsr import __version__
from ctsr.data.exams import open_exams
from ctsr.data.pairs import slice_pair
from ctsr.data.store import default_store
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.digests import digest
from ctsr.errors import MissingInputError, UsageError
from ctsr.evaluate.folder import ResultFolder, result_folder
from ctsr.evaluate.methods import METHODS, reconstructions, slice_metrics
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.perceptual import choose_lpips
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice, choose_patients, plan_slices
from ctsr.evaluate.results import write_results
from ctsr.evaluate.rows import COLUMNS, Row, RowFile, SliceRef, read_rows
from ctsr.evaluate.summary import Table, patient_level
from ctsr.evaluate.window import MetricWindow, choose_window
from ctsr.files import write_json
from ctsr.hu import HURange
from ctsr.infer.calibration import Calibration
from ctsr.infer.choose import AskedFor, choose_engine, open_engine
from ctsr.infer.trial import Pair
from ctsr.metrics.lpips import LPIPS
from ctsr.paths import resolve_path
from ctsr.progress import SILENT, Progress

__all__ = ["Evaluation", "evaluate"]

TRIAL_SLICES = 4
"""At most so many slices, evenly over the evaluation, on which int8 is compared with fp32."""


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation."""

    folder: Path
    window: MetricWindow
    num_patients: int
    num_slices: int
    means: Table
    """Over patients, each of whom counts once."""
    failures: tuple[str, ...]
    """A line for each patient or series that could not be used, wholly or in part."""


def evaluate(
    model: ModelUnderTest,
    degradation: Degradation,
    options: EvaluateOptions,
    *,
    calibration: Calibration | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure the model and both interpolations on every slice of a part of the split.

    Rows reach the disk slice by slice. When an evaluation is interrupted, the next one with the same model,
    settings and slices continues it, to the same result. `calibration` gives images to set the scales of an int8
    network by.

    Raises:
        MissingInputError: no data, or a split that names patients who are not there.
        SplitError: the model was trained on patients it is to be evaluated on.
        UsageError: the degradation is for another scale than the network.
    """
    plan = with_engine(prepare(model, degradation, options, progress), calibration, progress)
    with result_folder(options.output_dir, plan.stem, _fingerprint(plan)) as folder:
        write_json(folder.config_json, plan.config())
        rows = _measure(plan, folder, progress)
        write_results(plan, rows, folder)
    return Evaluation(
        folder=folder.path,
        window=plan.window,
        num_patients=len(plan.patients),
        num_slices=len(plan.slices),
        means=patient_level(rows),
        failures=plan.failures,
    )


def prepare(
    model: ModelUnderTest, degradation: Degradation, options: EvaluateOptions, progress: Progress
) -> EvaluationPlan:
    """Settle everything that will be computed; decodes the series that are not in the store yet."""
    if degradation.scale != model.scale:
        raise UsageError(f"a degradation for ×{degradation.scale} does not fit a network for ×{model.scale}")
    window = choose_window(HURange(*options.hu_clip), options.preset, options.window_center, options.window_width)
    roots = [resolve_path(root, progress=progress) for root in options.root]
    split_json = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    exams = open_exams(roots, split_json=split_json, checkpoint_split=model.split, progress=progress)
    progress.note(f"split: {exams.source}")
    chosen = choose_patients(exams, model, options, progress)
    store = options.store or default_store()
    opened = exams.part(options.split, "evaluate", store, only=chosen, assume_hu=options.assume_hu, progress=progress)
    sampler = DegradationSampler(degradation, options.degradation_sampling, options.deg_seed, options.deg_seed_mode)
    slices = plan_slices(opened.series, chosen, sampler, options)
    failures = (*exams.failures, *opened.failures)
    if not slices:
        where = ", ".join(map(str, roots))
        raise MissingInputError(f"{where}: no slice of the {options.split} part can be used: {'; '.join(failures)}")
    lpips = choose_lpips(options.lpips, options.cache, progress=progress)
    return EvaluationPlan(model, options, window, sampler, lpips, exams.source, slices, failures)


def with_engine(plan: EvaluationPlan, calibration: Calibration | None, progress: Progress) -> EvaluationPlan:
    """The plan with the engine that was asked for; int8 is checked on slices of the evaluation itself."""
    options, model = plan.options, plan.model
    if (options.engine, options.precision) == ("torch", "fp32"):
        return plan

    def trial() -> list[Pair]:
        taken = plan.slices[:: -(-len(plan.slices) // TRIAL_SLICES)]
        found = (slice_pair(one.stored, one.index, plan.sampler, model.hu_range) for one in taken)
        return [Pair(pair.lr, pair.hr) for pair in found]

    asked = AskedFor(options.engine, options.precision, str(model.device), calibration)
    spec = choose_engine(model.generator, asked, trial, progress)
    engine = open_engine(spec, model.generator)
    progress.note(f"engine: {engine.name}")
    return replace(plan, model=replace(model, engine=engine))


def _measure(plan: EvaluationPlan, folder: ResultFolder, progress: Progress) -> list[Row]:
    """The rows of every slice in order; those that an interrupted run has left are taken over."""
    kept = _kept(plan, folder.metrics_csv) if folder.continued else {}
    if folder.continued:
        progress.note(f"continuing {folder.path}: {len(kept)} of {len(plan.slices)} slices are done")
    rows: list[Row] = []
    done = [row for own in kept.values() for row in own]
    with RowFile(folder.metrics_csv, plan.window, plan.model.hu_range, done) as file:
        for planned in progress.track(plan.slices, total=len(plan.slices), what="Evaluating slices"):
            own = kept.get(planned.ref)
            if own is None:
                own = measure_slice(plan, planned)
                file.add(own)
            rows += own
    return rows


def _kept(plan: EvaluationPlan, metrics_csv: Path) -> dict[SliceRef, list[Row]]:
    """The slices of the plan whose rows are all there."""
    wanted = {planned.ref for planned in plan.slices}
    found: dict[SliceRef, list[Row]] = {}
    for row in read_rows(metrics_csv):
        if row.slice in wanted:
            found.setdefault(row.slice, []).append(row)
    return {ref: rows for ref, rows in found.items() if tuple(row.method for row in rows) == METHODS}


def measure_slice(plan: EvaluationPlan, planned: PlannedSlice) -> list[Row]:
    """One slice by every method; all see the same LR."""
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    images = reconstructions(plan.model.network, pair.lr, plan.model.scale)
    metrics = slice_metrics(images, pair.hr_hu, plan.window.window, plan.model.hu_range, plan.lpips)
    return [Row(planned.ref, method, values) for method, values in zip(METHODS, metrics, strict=True)]


def _fingerprint(plan: EvaluationPlan) -> str:
    """Changes with everything that a row depends on; not with where the results go or what is drawn of them."""
    words = {
        "version": __version__,
        "columns": COLUMNS,
        "model": plan.model.generator.sha256,
        "device": str(plan.model.device),
        "engine": plan.model.engine.name if plan.model.engine else "",
        "hu_range": asdict(plan.model.hu_range),
        "window": asdict(plan.window),
        # With weights or without: an evaluation is not continued with a column that its first rows do not have.
        "lpips": plan.options.lpips if isinstance(plan.lpips, LPIPS) else None,
        # As flags: a default that is written out, as in config.json, is no other setting.
        "sampler": asdict(plan.sampler) | {"degradation": plan.sampler.degradation.as_flags()},
        # The name of a series' folder in the store stands for the state of its files.
        "slices": [(planned.stored.folder.name, asdict(planned.ref)) for planned in plan.slices],
    }
    return digest(json.dumps(words, sort_keys=True)).hex()
