"""`ctsr train`, `finetune`, `evaluate` and `view`: models trained, and judged beside a reference."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common, DegradationFlags
from ctsr.errors import UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.reporting import counted
from ctsr.train import FinetuneOptions, TrainOptions
from ctsr.viewer import DEFAULT_SCALE, ViewOptions

if TYPE_CHECKING:
    from ctsr.degrade import Degradation
    from ctsr.evaluate.evaluation import Curve, Evaluation
    from ctsr.evaluate.methods import ModelUnderTest
    from ctsr.evaluate.runner import WorkerPool
    from ctsr.train.session import TrainResult
    from ctsr.viewer.state import ViewRequest


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a generator with L1 on patches of degraded CT.

    ctsr train

    ctsr train --data_root preprocessed_data --scale 4 --degradation blur

    ctsr train --arch edsr --nf 32 --nb 6 --patch_size 96        (a small net, for a laptop)

    ctsr train --resume runs/rrdb_x2_blurnoise_20260101-120000

    ctsr train --through_plane --nf 48 --nb 6 --patch_size 96        (slices between slices)

    torchrun --nproc_per_node=2 -m ctsr train
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series could not be used."""
        from ctsr.train.run import train

        result = train(self.train, self.degradation.over, given=self.common.given, progress=console)
        return show_result(console, result)


def show_result(console: Console, result: "TrainResult") -> int:
    """Where the model is, and which epoch it is from; the exit status."""
    if not result.leads:
        return 0
    state = result.state
    is_there = result.best.is_file()
    if state.history and state.best_epoch:
        console.print(f"best epoch {state.best_epoch} of {state.epochs_done}: {result.headline}")
    if is_there:
        console.print(f"model: {result.best}")
    elif state.history:
        why = "it was moved or removed" if state.best_epoch else "the validation loss of no epoch is a number"
        console.error(f"{result.best} is not there: {why}")
    if result.failures:
        console.error(f"{len(result.failures)} series were left out, see above")
    return int(bool(result.failures) or not is_there)


@dataclass(frozen=True, kw_only=True)
class Finetune:
    r"""Fine-tune a trained generator with perceptual and adversarial losses (ESRGAN).

    Architecture, scale, split and degradation come from the generator; a degradation flag that says otherwise wins.
    The perceptual loss needs VGG's weights once: ctsr weights fetch vgg16

    ctsr finetune

    ctsr finetune --pretrained_g runs/rrdb_x2_blurnoise_20260101-120000 --epochs 30 --lambda_perc 0.1 --lambda_gan 0.005

    ctsr finetune --perceptual none --discriminator unet --out_dir finetune_outputs

    torchrun --nproc_per_node=2 -m ctsr finetune
    """

    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series could not be used."""
        from ctsr.train.finetune import finetune

        result = finetune(self.finetune, self.degradation.over, given=self.common.given, progress=console)
        return show_result(console, result)


SHOWN = ("PSNR", "SSIM", "LPIPS", "PI", "RMSE", "MAE", "MAE_HU", "RMSE_HU", "BIAS_HU")
"""Columns of the table, where they were computed; the files hold all metrics."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    r"""Measure a model against interpolation on whole slices of held-out patients.

    Scale, degradation and split come from the checkpoint; degradation flags override it, with a warning.

    ctsr evaluate --root preprocessed_data --split test

    ctsr evaluate --split val --preset soft_tissue --max_patients 3 --max_slices_per_patient 20

    ctsr evaluate --split test --model_path runs/one runs/other --windows global soft_tissue lung bone --mask none body

    ctsr evaluate --model_path finetune_outputs --pretrained_g rrdb_x2_blurnoise_best.pth --alphas 0 0.25 0.5 0.75 1

    ctsr evaluate --root EXAMS --through_plane --thickness 5 5 --distance 5 3          (slices between slices)
    """

    model_path: tuple[str, ...] = ()
    """Checkpoint files, run folders or names, compared on the same LR; by default the newest run, else the model that
    comes with ctsr."""
    alphas: tuple[float, ...] = ()
    """Evaluate blends of --pretrained_g (0) and --model_path (1): the perception–distortion curve."""
    pretrained_g: str | None = None
    """Generator at alpha 0, with --alphas; by default the newest L1 run."""
    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    scale: Literal[2, 4] | None = None
    """Expected scale of the network; another one is an error."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    jobs: int = 1
    """Processes that share the slices, each with its share of the cores."""
    dask: str | None = None
    """Address of a dask scheduler, tcp://host:8786, whose workers take the slices; they must see the same files."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a patient or a series could not be used, wholly or in part."""
        from ctsr.evaluate.methods import load_model_under_test
        from ctsr.evaluate.runner import WorkerPool
        from ctsr.pool import executor_for, threads_each

        if self.options.through_plane:
            return self._through_plane(console)
        models = [
            load_model_under_test(path, device=self.device, scale=self.scale, progress=console)
            for path in self.model_path or (None,)
        ]
        if self.pretrained_g is not None and not self.alphas:
            raise UsageError("--pretrained_g goes with --alphas; the model to evaluate is --model_path")
        with executor_for(self.jobs, self.dask) as executor:
            workers = None if executor is None else WorkerPool(executor, threads_each(self.jobs))
            return self._curve(models, workers, console) if self.alphas else self._evaluation(models, workers, console)

    def _evaluation(self, models: "Sequence[ModelUnderTest]", workers: "WorkerPool | None", console: Console) -> int:
        from ctsr.evaluate.evaluation import evaluate
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.quantized_model import Int8Network

        degradation = self.degradation_for(models[0], console)
        int8 = Int8Network(SyntheticSlices())
        evaluation = evaluate(models, degradation, self.options, int8=int8, workers=workers, progress=console)
        show(console, evaluation)
        return int(bool(evaluation.failures or evaluation.undone))

    def _curve(self, models: "Sequence[ModelUnderTest]", workers: "WorkerPool | None", console: Console) -> int:
        from ctsr.checkpoint import load_model, resolve_model
        from ctsr.evaluate.evaluation import evaluate_curve

        if len(models) > 1:
            raise UsageError("--alphas blends --pretrained_g with one --model_path, not with several")
        (model,) = models
        found = resolve_model(self.pretrained_g, scale=model.scale, only_l1=True, parameter="pretrained_g")
        if found.note:
            console.note(found.note)
        first, degradation = load_model(found.path), self.degradation_for(model, console)
        curve = evaluate_curve(
            first,
            model.model,
            self.alphas,
            model.device,
            degradation,
            self.options,
            workers=workers,
            progress=console,
        )
        console.table("From --pretrained_g to --model_path, means over patients", *_curve_table(curve))
        for failure in curve.failures:
            console.error(failure)
        console.print(f"Results: {curve.folder}")
        return int(bool(curve.failures))

    def _through_plane(self, console: Console) -> int:
        from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL
        from ctsr.evaluate.methods import load_model_under_test
        from ctsr.evaluate.through_plane import (
            evaluate_through_plane,
            method_figures,
            series_section,
            study_sections,
        )
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.quantized_model import Int8Network

        if self.alphas or self.pretrained_g or self.jobs > 1 or self.dask or self.scale or self.degradation.given():
            raise UsageError(
                "--through_plane goes without --alphas, --pretrained_g, --jobs, --dask, --scale and degradation: its "
                "thick slices are made by --thickness and --distance"
            )
        names = self.model_path or (DEFAULT_SLICE_MODEL,)
        models = [
            load_model_under_test(name, device=self.device, kind="between slices", progress=console) for name in names
        ]
        result = evaluate_through_plane(models, self.options, console, int8=Int8Network(SyntheticSlices()))
        (table,) = series_section(method_figures(result)).tables
        console.table(f"{table.title}, metrics in {result.plan.domains[0].text}", table.columns, table.rows)
        for study in (study for section in study_sections(result) for study in section.tables):
            console.table(study.title, study.columns, study.rows)
        for failure in result.failures:
            console.error(failure)
        console.print(f"Results: {result.folder}")
        return int(bool(result.failures))

    def degradation_for(self, model: "ModelUnderTest", console: Console) -> "Degradation":
        """The checkpoint's degradation, overridden by the flags."""
        return self.degradation.over_trained(model.degradation, console)


def show(console: Console, evaluation: "Evaluation") -> None:
    """Print the table of means, the failures, and the folder of the results."""
    title = (
        f"Means over {counted(evaluation.num_patients, 'patient')} ({counted(evaluation.num_slices, 'slice')}), "
        f"metrics in {evaluation.domains[0].text}; * marks the best"
    )
    computed = tuple(next(iter(evaluation.means.values())))
    names = [name for name in SHOWN if name in computed] or computed[: len(SHOWN)]
    headings = _headings(names, pi_is_niqe=evaluation.pi_kind == "niqe")
    console.table(title, ("Method", *headings), _cells(evaluation, names))
    if others := evaluation.domains[1:]:
        console.print(f"Other windows and masks are in the files: {', '.join(domain.tag for domain in others)}")
    for failure in (*evaluation.failures, *evaluation.undone):
        console.error(failure)
    if evaluation.failures:
        failed = counted(len(evaluation.failures), "patient or series", "patients or series")
        console.note(f"{failed} could not be used, wholly or in part: see above")
    console.print(f"Results: {evaluation.folder}")


def _headings(names: Sequence[str], *, pi_is_niqe: bool) -> Iterator[str]:
    from ctsr.metrics import METRICS

    for name in names:
        unit = METRICS[name].unit
        label = "PI (NIQE)" if name == "PI" and pi_is_niqe else name.removesuffix("_HU")
        yield label + ("" if unit == "1" else f" [{unit}]")


def _cells(evaluation: "Evaluation", names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    from ctsr.evaluate.report import metric_text
    from ctsr.evaluate.statistics import best_methods

    best = {name: best_methods(evaluation.means, name) for name in names}
    for method, found in evaluation.means.items():
        cells = [metric_text(name, found[name].mean) for name in names]
        starred = [f"{cell} *" if method in best[name] else cell for name, cell in zip(names, cells, strict=True)]
        yield method, *starred


def _curve_table(curve: "Curve") -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from ctsr.evaluate.report import metric_text

    columns = ("alpha", "PSNR [dB]", "SSIM", "LPIPS", "RMSE [HU]", "BIAS [HU]")
    rows: list[tuple[str, ...]] = []
    for point in sorted(curve.points, key=lambda point: point.alpha):
        values = {
            "PSNR": point.psnr_db,
            "SSIM": point.ssim,
            "LPIPS": point.lpips,
            "RMSE_HU": point.rmse_hu,
            "BIAS_HU": point.bias_hu,
        }
        rows.append((f"{point.alpha:g}", *(metric_text(name, value) for name, value in values.items())))
    return columns, rows


@dataclass(frozen=True, kw_only=True)
class View:
    r"""Show LR, interpolations, SR and HR side by side in the browser; the page is served by this computer to itself.

    ctsr view preprocessed_data/15041pp

    ctsr view preprocessed_data/15041pp --no_model --preset lung

    ctsr view preprocessed_data/15041pp --eval_summary eval_results/…/summary.json   (the evaluation's own numbers)

    ctsr view EXAMS/15041 --native       (images as they are, beside their super-resolution at a strength of choice)

    ctsr view EXAMS/15041 --native --slice_spacing 1.0 --plane coronal        (slices between slices)

    ctsr view EXAMS/15041 --native --isotropic 0.8       (the same on voxels that are as wide as they are high)

    ctsr view head.nii.gz --snapshot slice.png --plane coronal --index 120
    """

    folder: tyro.conf.Positional[Path | None] = None
    """A patient, a folder inside one, a root of several patients, or a NIfTI file."""
    dicom_folder: Path | None = None
    """The folder, as a flag."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; by default the newest run, else the bundled model;
    with --native, ctsr-x2."""
    no_model: bool = False
    """Show LR, interpolations and HR only."""
    options: Annotated[ViewOptions, tyro.conf.arg(name="viewer")] = field(default_factory=ViewOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    scale: Literal[2, 4] | None = None
    """Scale of the LR images; by default the model's, or 2 without a model."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0, also when interrupted with Ctrl-C or SIGTERM."""
        from ctsr.viewer.server import serve
        from ctsr.viewer.session import open_session
        from ctsr.viewer.state import prepare

        session = open_session(prepare(self._request(console), console), self.options)
        if self.options.snapshot is not None:
            from ctsr.viewer.embed import snapshot  # imports matplotlib, which the page does not need

            snapshot(session, self.options, progress=console)
            console.print(f"picture: {self.options.snapshot}")
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # closes as Ctrl-C does: nothing stays in the cache
        try:
            serve(session, self.options, console)
        except KeyboardInterrupt:
            console.note("closed")
        return 0

    def _request(self, console: Console) -> "ViewRequest":
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.quantized_model import Int8Network
        from ctsr.viewer.state import ViewRequest

        folder = self.folder or self.dicom_folder
        if folder is None:
            raise UsageError("no images given; give a patient's folder: ctsr view DIR")
        if self.folder is not None and self.dicom_folder is not None:
            raise UsageError(f"one folder is shown at a time, got {self.folder} and {self.dicom_folder}")
        model = self._model(console)
        degradation = self._degradation(model, console)
        int8 = Int8Network(SyntheticSlices()) if model else None
        return ViewRequest(folder, model, degradation, self.options, self.common.given, int8)

    def _model(self, console: Console) -> "ModelUnderTest | None":
        from ctsr.evaluate.methods import load_model_under_test

        if not self.no_model:
            named = self.model_path or self.options.default_model
            kind = self.options.model_kind
            return load_model_under_test(named, device=self.device, scale=self.scale, kind=kind, progress=console)
        if self.model_path is not None:
            raise UsageError("--no_model and --model_path contradict each other; give only one of them")
        return None

    def _degradation(self, model: "ModelUnderTest | None", console: Console) -> "Degradation":
        from ctsr.degrade import Degradation

        if model is None or self.options.wants_slices_between:
            return self.degradation.over(Degradation(scale=self.scale or DEFAULT_SCALE))
        if self.options.native:  # nothing is degraded, so that no flag wins
            return model.degradation
        return self.degradation.over_trained(model.degradation, console)
