"""`ctsr upscale` and `ctsr node`: real series super-resolved, once or as they arrive from an archive."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ctsr.cli.console import Console, mm, pixels
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.files import unpacked
from ctsr.hashing import digest
from ctsr.node import EventLog, NodeOptions
from ctsr.paths import native_path, resolve_path
from ctsr.reporting import duration
from ctsr.upscale import UpscaleOptions

if TYPE_CHECKING:
    from ctsr.checkpoint import Model
    from ctsr.infer import EngineRequest
    from ctsr.quantization.quantized_model import Int8Network
    from ctsr.reporting import Progress
    from ctsr.upscale.between import Models
    from ctsr.upscale.plan import Job
    from ctsr.upscale.run import Report
    from ctsr.upscale.series import Outcome

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
    precision: Literal["fp32", "bf16", "int8", "fp16"] = "fp32"
    """What it computes in: bf16 and int8 are OpenVINO's, and used only where they pass a check; fp16 is a GPU's."""
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
        from ctsr.infer import EngineRequest
        from ctsr.infer.engine import pick_device
        from ctsr.pool import executor_for, threads_each
        from ctsr.upscale.between import pick_models
        from ctsr.upscale.run import upscale

        source, out = resolve_path(self.source, progress=console), native_path(self.out)
        # A network that was trained here for trial is not meant for real series.
        named = find_model(self.model_path, kind="any", progress=console) if self.model_path else None
        slice_model = find_model(self.slice_model, kind="any", progress=console) if self.slice_model else None
        models = pick_models(named, slice_model, self.options, partial(find_model, kind="any", progress=console))
        model = models.model
        device = pick_device(self.device, progress=console)
        int8 = self._int8(console) if self.precision == "int8" else None
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
        from ctsr.upscale.run import watch

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

    def _int8(self, console: Console) -> "Int8Network":
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.calibration import ExamSlices
        from ctsr.quantization.quantized_model import Int8Network

        if self.calibration is None:
            return Int8Network(SyntheticSlices())
        root = resolve_path(self.calibration, progress=console)
        options = self.options
        correction = options.hu_correction
        return Int8Network(ExamSlices.below(root, assume_hu=options.assume_hu, correction=correction, progress=console))


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
    if job.between is None:
        return str(before)
    grid = job.between.grid
    return f"{before} → {job.num_slices} ({grid.distance:.4g} → {grid.spacing:.4g} mm)"


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


QUEUE_COLUMNS = ("job", "state", "from", "images", "sent", "last image", "study", "reason")


@dataclass(frozen=True, kw_only=True)
class Node:
    """Receive CT series as a DICOM node, upscale them, and send the results to an archive. Not for diagnosis.

    ctsr node --aet CTSR --port 11112 --send_to PACS@127.0.0.1:4242

    ctsr node --host 0.0.0.0 --allow ROUTER --send_to https://archive.example/dicom-web

    ctsr node --list

    ctsr node --retry
    """

    node: NodeOptions = field(default_factory=NodeOptions)
    list: bool = False
    """Show the queue and end."""
    retry: bool = False
    """Let everything that failed be tried again, and end; a running node takes it up."""
    drop_failed: bool = False
    """Remove everything that failed from the queue, images included, and end."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; left out, ctsr-x2, which comes with ctsr. With --slice_spacing and
    --isotropic: none in plane when left out."""
    slice_model: str | None = None
    """Checkpoint file, run folder or name of the model between slices; left out, ctsr-z."""
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the network: auto takes OpenVINO on a CPU where it is installed, else PyTorch."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """What it computes in: fp16 is a GPU's."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0, also when ended by SIGTERM or Ctrl-C."""
        if self.list or self.retry or self.drop_failed:
            return self._manage(console)
        if find_spec("pynetdicom") is None:
            raise UsageError("ctsr node needs pynetdicom: pip install '.[node]' in ctsr's source folder")
        if self.options.format == "nifti":
            raise UsageError("--format nifti: an archive takes DICOM only")
        from ctsr.checkpoint import find_model
        from ctsr.infer import EngineRequest
        from ctsr.infer.engine import pick_device
        from ctsr.node.service import serve
        from ctsr.upscale.between import pick_models
        from ctsr.upscale.run import check_packages

        check_packages(self.options)  # said now, rather than of every job
        named = find_model(self.model_path, kind="any", progress=console) if self.model_path else None
        slice_model = find_model(self.slice_model, kind="any", progress=console) if self.slice_model else None
        models = pick_models(named, slice_model, self.options, partial(find_model, kind="any", progress=console))
        device = pick_device(self.device, progress=console)
        asked = EngineRequest(self.engine, self.precision, str(device))
        # Nobody looks at pictures in a queue.
        options = replace(self.options, picture=False, format="dicom", uncertainty=False)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        serve(self.node, ModelUpscaler(models.model, asked, options, models.between), EventLog(_line_writer()), stop)
        return 0

    def _manage(self, console: Console) -> int:
        from ctsr.node.queue import Queue
        from ctsr.node.service import page_address

        queue = Queue(self.node.queue, exclusive=False)
        try:
            if self.retry:
                console.print(f"{queue.retry_failed()} jobs are tried again")
            if self.drop_failed:
                console.print(f"{queue.drop_failed()} failed jobs removed")
            if self.list:
                rows = [
                    (
                        str(job.id),
                        str(job.state),
                        job.caller,
                        str(job.num_images),
                        str(job.num_sent),
                        datetime.fromtimestamp(job.received).astimezone().isoformat(" ", "seconds"),
                        job.study_uid,
                        job.reason,
                    )
                    for job in queue.jobs()
                ]
                console.table(f"Queue of {self.node.queue}", QUEUE_COLUMNS, rows)
                if address := page_address(self.node.queue):
                    console.print(f"Page: {address}")
        finally:
            queue.close()
        return 0


@dataclass(frozen=True)
class ModelUpscaler:
    """`ctsr.upscale.run.upscale` with a model and options; see `ctsr.node.service.Upscaler`."""

    model: "Model"
    asked: "EngineRequest"
    options: UpscaleOptions
    between: "Model | None" = None
    """Makes the slices between slices, where `options` want those."""

    @property
    def settings(self) -> str:
        """A digest of model and options."""
        engine = f"{self.asked.engine} {self.asked.precision}"
        between = () if self.between is None else (self.between.sha256,)
        return digest(self.model.sha256, repr(self.options), engine, *between, size=6).hex()

    def __call__(self, source: Path, out: Path, progress: "Progress") -> "Report":
        """Upscale the series in a folder."""
        from ctsr.upscale.run import upscale

        return upscale(source, out, self.model, self.asked, self.options, between=self.between, progress=progress)


def _line_writer() -> Callable[[str], object]:
    return lambda line: print(line, flush=True)
