"""`ctsr node`."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.hashing import digest
from ctsr.node.settings import EventLog, NodeOptions
from ctsr.upscale.options import UpscaleOptions

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.checkpoint import Model
    from ctsr.infer.selection import EngineRequest
    from ctsr.progress import Progress
    from ctsr.upscale.run import Report

COLUMNS = ("job", "state", "from", "images", "sent", "last image", "study", "reason")


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
        from ctsr.infer.engine import pick_device
        from ctsr.infer.selection import EngineRequest
        from ctsr.node.service import serve
        from ctsr.upscale.between import pick_models

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
        from ctsr.node.page import page_address
        from ctsr.node.queue import Queue

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
                console.table(f"Queue of {self.node.queue}", COLUMNS, rows)
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
