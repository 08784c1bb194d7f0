"""Evaluation of models on held-out patients, and of blends of two models: the perception–distortion curve."""

import csv
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ctsr.checkpoint import Model, blend
from ctsr.degrade import Degradation
from ctsr.documents import as_type, parse_json
from ctsr.errors import ReadError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.examples import agreement, choose_examples, example_slice
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.evaluate.output_folder import OutputFolder, Row, on_domain, output_folder
from ctsr.evaluate.plan import EvaluationPlan, plan_evaluation, with_engine
from ctsr.evaluate.plots import example_figure, write_plots
from ctsr.evaluate.report import Section, write_report
from ctsr.evaluate.runner import FAILURES, WorkerPool, evaluate_slices
from ctsr.evaluate.slice_metrics import Domain
from ctsr.evaluate.statistics import Table
from ctsr.evaluate.summary import ResultTables, summary_document
from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure
from ctsr.files import write_atomically, write_json
from ctsr.hashing import digest
from ctsr.infer import Int8Support
from ctsr.reporting import SILENT, Progress, one_line, safe_name


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    folder: Path
    domains: tuple[Domain, ...]
    num_patients: int
    num_slices: int
    means: Table
    """On the first domain, over patients, each counted once."""
    model_methods: tuple[str, ...]
    """Names of the models in rows and tables."""
    pi_kind: str | None
    """What PI is computed from: `ma+niqe`, `niqe`, or None where it was not computed."""
    failures: tuple[str, ...]
    """A line for each patient or series that could not be used, wholly or in part."""
    undone: tuple[str, ...] = ()
    """A line for each study, and for plots, that could not be made; numbers and report are there all the same."""


def evaluate(
    models: Sequence[ModelUnderTest],
    degradation: Degradation,
    options: EvaluateOptions,
    *,
    int8: Int8Support | None = None,
    workers: WorkerPool | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate models and interpolations on every slice of a part of the split, all on the same LR.

    Rows reach the disk slice by slice. After an interruption, or where slices could not be measured, the next
    evaluation with the same models, settings and slices continues it, to the same result.

    Args:
        models: of one scale and HU range.
        degradation: how LR is computed.
        options: everything else.
        int8: opens the network where the precision is int8.
        workers: processes that share the slices; this process alone when None.
        progress: receives notes and the progress by slices.

    Raises:
        MissingInputError: no data, or a split that names patients who are not there.
        SplitError: a model was trained on patients it is to be evaluated on.
        UsageError: no model; models that do not take the same LR; a degradation for another scale; an unknown metric,
            window or baseline.
        CtsrError: no slice could be measured.
    """
    plan = with_engine(plan_evaluation(models, degradation, options, progress), int8, progress)
    with output_folder(options.output_dir, plan.stem, plan.fingerprint) as folder:
        write_json(folder.config_json, plan.config())
        rows = evaluate_slices(plan, folder, workers, progress)
        folder.finished = not rows.failures
        plan = plan.with_only(rows.by_slice, rows.failures)
        tables = ResultTables.of(plan, rows.all)
        for line in tables.cautions:
            progress.note(f"warning: {line}")
        undone = _write_results(plan, rows.all, tables, folder, progress)
        folder.finished &= not undone
    return Evaluation(
        folder=folder.path,
        domains=plan.domains,
        num_patients=plan.num_patients,
        num_slices=len(plan.slices),
        means=tables.first.patient_level,
        model_methods=plan.model_methods,
        pi_kind=plan.perceptual.pi_kind,
        failures=plan.failures,
        undone=undone,
    )


def _write_results(
    plan: EvaluationPlan, rows: Sequence[Row], tables: ResultTables, folder: OutputFolder, progress: Progress
) -> tuple[str, ...]:
    """Write studies, plots, summary, report and flat copies; a line for each study, and for plots, that failed.

    Nothing beside the numbers is a reason to lose them.
    """
    studies: dict[str, Any] = {}
    sections: list[Section] = []
    undone: list[str] = []
    for old in folder.plots.glob("*.png"):  # of the slices that an earlier run had
        old.unlink()
    if plan.options.physics or plan.options.hallucination:
        # Imported here: phantoms and lesions are needed by few evaluations.
        from ctsr.evaluate.studies import STUDIES

        for name in (name for name in STUDIES if getattr(plan.options, name)):
            with _each_alone(name, undone):
                studies[name], section = STUDIES[name](plan, folder, progress)
                sections.append(section)
    if not plan.options.no_plots:
        with _each_alone("plots", undone):
            _draw(plan, rows, folder)
    summary = summary_document(plan, tables, folder) | studies
    said = [line.partition(":")[0] + " failed" for line in undone] if plan.options.no_names else undone
    summary["failures"] += said
    write_json(folder.summary_json, summary)
    write_report(plan, tables, summary, folder, sections)
    if plan.options.flat_names:
        parent = plan.options.output_dir
        write_atomically(parent / f"metrics_{plan.flat_stem}.csv", folder.metrics_csv.read_bytes())
        write_atomically(parent / f"summary_{plan.flat_stem}.json", folder.summary_json.read_bytes())
    return tuple(undone)


@contextmanager
def _each_alone(what: str, undone: list[str]) -> Generator[None]:
    """Turn what goes wrong in the block into a line."""
    try:
        yield
    except (*FAILURES, ValueError) as error:  # ValueError: Matplotlib's and NumPy's
        undone.append(f"{what}: {one_line(error) or type(error).__name__}")


def _draw(plan: EvaluationPlan, rows: Sequence[Row], folder: OutputFolder) -> None:
    first = on_domain(rows, plan.domains[0])
    write_plots(first, plan, agreement(plan), folder.plots)
    for name, planned in choose_examples(plan, first).items():
        figure = example_figure(plan, example_slice(plan, planned), first)
        save_figure(figure, folder.plots / f"{name}.png")


# The perception–distortion curve


@dataclass(frozen=True)
class CurvePoint:
    """One blend: means over patients."""

    alpha: float
    """Weight of the second model."""
    psnr_db: float | None
    ssim: float | None
    lpips: float | None
    """None where it was not computed."""
    rmse_hu: float | None
    bias_hu: float | None
    window: str
    """Tag of the window of PSNR, SSIM and LPIPS."""
    mask: str
    """`none`, or `body`: the mask of all of them."""
    folder: str
    """Folder of its evaluation, below the curve's."""
    failures: tuple[str, ...] = ()
    """A line for each patient or series that could not be used, wholly or in part."""


@dataclass(frozen=True)
class Curve:
    """The result of evaluating blends."""

    folder: Path
    points: tuple[CurvePoint, ...]
    failures: tuple[str, ...]
    """A line for each patient or series that could not be used, wholly or in part."""


def evaluate_curve(
    first: Model,
    second: Model,
    alphas: Sequence[float],
    device: torch.device,
    degradation: Degradation,
    options: EvaluateOptions,
    *,
    workers: WorkerPool | None = None,
    progress: Progress = SILENT,
) -> Curve:
    """Evaluate ``(1 − α)·first + α·second`` for each α on the same LR, and write table and plot.

    A curve that was interrupted, or lacks slices, is continued: blends that are done are kept.

    Args:
        first: model at α = 0.
        second: model at α = 1, of the same architecture.
        alphas: each from 0 to 1, at least one.
        device: of the blends.
        degradation: how LR is computed.
        options: as of `evaluate`.
        workers: as of `evaluate`.
        progress: as of `evaluate`.

    Raises:
        UsageError: no α, or one outside [0, 1].
        CheckpointError: the models cannot be blended.
        MissingInputError, SplitError: as `evaluate`.
    """
    if not alphas or min(alphas) < 0 or max(alphas) > 1:
        raise UsageError(f"`alphas` needs values from 0 to 1, got {' '.join(f'{a:g}' for a in alphas) or 'none'}")
    stem = safe_name(f"{options.split}__alphas__{second.path.stem}")
    # The plan of the first model stands for those of all blends.
    plan = plan_evaluation([ModelUnderTest(first, device)], degradation, options, SILENT)
    # The plan's engine is PyTorch's: blends get theirs one by one.
    asked = options.engine, options.precision
    fingerprint = digest(plan.fingerprint, second.sha256, str(alphas), *asked).hex()
    with output_folder(options.output_dir, stem, fingerprint) as folder:
        done = [point for point in _read_points(folder.path) if not point.failures]
        for alpha in alphas:
            if any(point.alpha == alpha for point in done):
                continue
            progress.note(f"alpha {alpha:g}")
            blended = blend(first, second, alpha)
            blended.net.to(device)
            model, below = ModelUnderTest(blended, device), replace(options, output_dir=folder.path)
            evaluation = evaluate([model], degradation, below, workers=workers, progress=progress)
            done.append(_curve_point(alpha, evaluation))
            _write_points(folder.path, [replace(p, failures=options.shown_failures(p.failures)) for p in done])
        ends = (first.path.parent.name, second.path.parent.name)
        save_figure(_curve_figure(done, ends), folder.path / "curve.png")
        folder.finished = not any(point.failures for point in done)
    failures = dict.fromkeys(failure for point in done for failure in point.failures)
    return Curve(folder.path, tuple(done), tuple(failures))


def _curve_point(alpha: float, evaluation: Evaluation) -> CurvePoint:
    means, domain = evaluation.means[evaluation.model_methods[0]], evaluation.domains[0]
    names = ("PSNR", "SSIM", "LPIPS", "RMSE_HU", "BIAS_HU")
    return CurvePoint(
        alpha,
        *(means[name].mean if name in means else None for name in names),
        window=domain.window.tag,
        mask=domain.mask,
        folder=evaluation.folder.name,
        failures=(*evaluation.failures, *evaluation.undone),
    )


def _read_points(folder: Path) -> list[CurvePoint]:
    path = folder / "curve.json"
    if not path.is_file():
        return []
    try:
        return as_type(parse_json(path.read_bytes()), list[CurvePoint])
    except ReadError as error:
        raise ReadError(f"{path} is damaged ({error}); remove it, and run the same command again") from error


def _write_points(folder: Path, points: Sequence[CurvePoint]) -> None:
    """``curve.json`` and ``curve.csv``; what was not computed is null and empty."""
    rows = [asdict(point) for point in sorted(points, key=lambda point: point.alpha)]
    text = io.StringIO()
    columns = [column.name for column in fields(CurvePoint) if column.name != "failures"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "curve.csv", text.getvalue())
    write_json(folder / "curve.json", rows)


def _curve_figure(points: Sequence[CurvePoint], ends: tuple[str, str]) -> Figure:
    """Distortion to the right, perceptual distance upwards: better is down and left."""
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    ordered = sorted(points, key=lambda point: point.alpha)
    shown = [(p.alpha, p.rmse_hu, p.lpips) for p in ordered if p.rmse_hu is not None and p.lpips is not None]
    axes.plot([x for _, x, _ in shown], [y for _, _, y in shown], color=COLORS[1], linewidth=1.6, marker="o")
    for alpha, x, y in shown:
        color = ACCENT if alpha in {0, 1} else INK
        axes.annotate(f"α = {alpha:g}", (x, y), (6, 6), textcoords="offset points", fontsize=8, color=color)
    if not shown:
        missing = ["LPIPS"] if all(p.lpips is None for p in points) else []
        missing += ["RMSE_HU"] if all(p.rmse_hu is None for p in points) else []
        words = f"{' and '.join(missing)} was not computed"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=INK)
    axes.set_xlabel("distortion: RMSE, HU", color=INK)
    axes.set_ylabel("perceptual distance: LPIPS", color=INK)
    axes.margins(0.15)
    calm(axes)
    domains = dict.fromkeys(f"{p.window}{'' if p.mask == 'none' else ', ' + p.mask + ' only'}" for p in points)
    lines = (f"α = 0: {ends[0]}", f"α = 1: {ends[1]}", f"metrics in {' '.join(domains)}")
    figure.suptitle("\n".join(lines), fontsize=9, color=INK)
    return figure
