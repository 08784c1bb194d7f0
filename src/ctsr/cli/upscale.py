"""`ctsr upscale`."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ctsr.archives import unpacked
from ctsr.cli.console import Console, mm, pixels
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.paths import native_path, resolve_path
from ctsr.text import duration
from ctsr.upscale.options import UpscaleOptions

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.checkpoint import Model
    from ctsr.infer.selection import EngineRequest
    from ctsr.quantization.quantized_model import Int8Network
    from ctsr.upscale.between import Models
    from ctsr.upscale.plan import Job
    from ctsr.upscale.run import Report
    from ctsr.upscale.series import Outcome

__all__ = ["Upscale"]

COLUMNS = ("patient", "series", "slices", "size", "spacing mm", "new size", "new mm", "noise", "result")


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Make real CT series sharper with a trained model: DICOM in, valid DICOM out. Not for diagnosis.

    The images are taken as they are; a ×2 model makes 1024² pixels of 512². The originals are only read.

    ctsr upscale EXAMS/patient1/series3 sharper

    ctsr upscale EXAMS sharper --strength strong

    ctsr upscale EXAMS sharper --only "chest*" --target_spacing 0.4

    ctsr upscale EXAMS thinner --slice_spacing 1.0          (slices between slices)

    ctsr upscale denoised.nii.gz sharper --reference EXAMS/patient1/series3        (NIfTI in, DICOM out)

    ctsr upscale INBOX sharper --watch
    """

    source: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="IN")]] = None
    """A series, a patient, a folder of patients, a zip archive of these, or a NIfTI file."""
    out: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="OUT")]] = None
    """Receives the result: one series fills it (or a .nii.gz file), several go to <patient>/<series> below."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; left out, ctsr-x2, which comes with ctsr (`ctsr models` lists others).
    With --slice_spacing and --isotropic: none in plane when left out."""
    slice_model: str | None = None
    """Checkpoint file, run folder or name of the model between slices; left out, ctsr-z."""
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    reference: Path | None = None
    """For a NIfTI input: a DICOM series of the same examination. The result is then DICOM with its patient, study,
    frame of reference and acquisition."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the network: auto takes OpenVINO on a CPU where it is installed, else PyTorch."""
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    """What it computes in: int8 is OpenVINO's, and used only where it passes a check; fp16 is a GPU's."""
    calibration: Path | None = None
    """For int8: a folder of exams like these, to set its scales by; a synthetic set when left out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    jobs: int = 1
    """Series worked on at once, each in a process of its own with its share of the cores."""
    dask: str | None = None
    """Address of a dask scheduler, tcp://host:8786, whose workers take the series; they must see the same files."""
    watch: bool = False
    """Go on with series as they arrive in IN, each when it has stopped growing, until Ctrl-C."""
    settle: float = 30.0
    """For --watch: seconds without change after which a series is complete."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series or a file could not be used."""
        if self.source is None or self.out is None:
            raise UsageError("ctsr upscale: give the input and the output: ctsr upscale IN OUT")
        from ctsr.checkpoint import find_model
        from ctsr.infer.engine import pick_device
        from ctsr.infer.selection import EngineRequest
        from ctsr.pool import executor_for, threads_each
        from ctsr.upscale.between import pick_models
        from ctsr.upscale.run import upscale

        source, out = resolve_path(self.source, progress=console), native_path(self.out)
        # A network that was trained here as a trial is no reason to treat real series with it.
        named = find_model(self.model_path, kind="any", progress=console) if self.model_path else None
        slice_model = find_model(self.slice_model, kind="any", progress=console) if self.slice_model else None
        models = pick_models(named, slice_model, self.options, partial(find_model, kind="any", progress=console))
        model = models.model
        if self.precision == "int8" and model is models.between:
            raise UsageError("`precision=int8` is for models in plane; leave it out")
        device = pick_device(self.device, progress=console)
        int8 = self._int8(model, console) if self.precision == "int8" else None
        asked = EngineRequest(self.engine, self.precision, str(device), int8, threads_each(self.jobs))
        if self.watch:
            return self._watch(source, out, models, asked, console)
        with unpacked(source, progress=console) as folder, executor_for(self.jobs, self.dask) as executor:
            report = upscale(
                folder,
                out,
                model,
                asked,
                self.options,
                between=models.between,
                reference=None if self.reference is None else resolve_path(self.reference, progress=console),
                executor=executor,
                progress=console,
            )
        show(console, report, out)
        return int(report.failed > 0)

    def _watch(self, source: Path, out: Path, models: "Models", asked: "EngineRequest", console: Console) -> int:
        from ctsr.upscale.watch import watch

        if self.reference is not None:
            raise UsageError("`watch` makes DICOM of DICOM; leave out `reference`")
        if self.jobs > 1 or self.dask is not None:
            raise UsageError("`watch` takes one series after the other; leave out `jobs` and `dask`")
        if not self.settle >= 0:
            raise UsageError(f"`settle` must not be negative, got {self.settle:g}")
        try:
            watch(
                source,
                out,
                models.model,
                asked,
                self.options,
                settle_s=self.settle,
                between=models.between,
                progress=console,
            )
        except KeyboardInterrupt:
            console.note("closed")
        return 0

    def _int8(self, model: "Model", console: Console) -> "Int8Network":
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.calibration import ExamSlices
        from ctsr.quantization.quantized_model import Int8Network

        if self.calibration is None:
            return Int8Network(SyntheticSlices.of(model))
        root = resolve_path(self.calibration, progress=console)
        return Int8Network(ExamSlices.below(root, model))


def show(console: Console, report: "Report", out: Path) -> None:
    """The table of series, what could not be used, the counts, and where the results are."""
    rows = [_cells(job, outcome) for job, outcome in zip(report.jobs, report.outcomes, strict=True)]
    console.table("Super-resolved series, not for diagnosis", COLUMNS, rows)
    for line in report.unusable:
        console.error(line)
    made = sum(not outcome.kept and not outcome.error for outcome in report.outcomes)
    kept = sum(outcome.kept for outcome in report.outcomes)
    console.print(f"{made} series made, {kept} kept from before, {report.failed} failed")
    if made or kept:
        console.print(f"Results: {out}")


def _slices(job: "Job") -> str:
    before = len(job.series.slices)
    return str(before) if job.between is None else f"{before} → {job.num_slices}"


def _cells(job: "Job", outcome: "Outcome") -> tuple[str, ...]:
    series, plane = job.series, job.plane(0)
    done = f"{duration(outcome.seconds)}, {duration(outcome.seconds / max(1, outcome.num_slices))} a slice"
    return (
        series.patient_id,
        series.title,
        _slices(job),
        pixels(series.rows, series.columns),
        mm(*series.pixel_spacing),
        pixels(*plane.shape),
        mm(*plane.spacing),
        "" if outcome.noise_ratio is None else f"×{outcome.noise_ratio:.2f}",
        "failed, see above" if outcome.error else "kept" if outcome.kept else done,
    )
