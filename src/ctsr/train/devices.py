"""Where a training runs: one device, several, or the processes that torchrun has started."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric

from ctsr.errors import CtsrError, UsageError
from ctsr.infer.engine import pick_device
from ctsr.progress import Progress
from ctsr.train.options import RunOptions

__all__ = ["ending_in_one_line", "launch", "leader_first", "precision_of", "scaler_of"]

LOST = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Read error",
    "Socket Timeout",
    "connection failure",
    "monitoredBarrier",
    "ncclRemoteError",
    "received errors",
)
"""What communication libraries say when a process at the other end has died."""


def launch(options: RunOptions, progress: Progress) -> Fabric:
    """Fabric on the devices asked for, its processes started.

    Raises:
        UsageError: the devices contradict each other, or do not share the batch evenly.
    """
    device = pick_device(options.device, progress=progress)
    precision = options.precision
    if precision == "auto":
        precision = "16-mixed" if device.type == "cuda" else "32-true"
    elif precision == "32":
        precision = "32-true"
    if torch.distributed.is_torchelastic_launched():
        fabric = _under_torchrun(options, device, precision)
    else:
        named = ":" in options.device
        if named and options.devices > 1:
            raise UsageError(
                f"--device {options.device} names one device, --devices {options.devices} asks for several"
            )
        devices = [device.index] if named else options.devices
        fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)
    fabric.launch()
    return fabric


def _under_torchrun(options: RunOptions, device: torch.device, precision: Any) -> Fabric:
    """As many processes as torchrun has started; it tells of them in the environment."""
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if options.batch_size % world:
        raise UsageError(f"--batch_size {options.batch_size} cannot be shared evenly by {world} processes")
    # One process has nobody to talk to: Fabric's plain strategy is the same training without the detour.
    strategy = "ddp" if world > 1 else "auto"
    return Fabric(
        accelerator=device.type, devices=local, num_nodes=world // local, strategy=strategy, precision=precision
    )


@contextmanager
def leader_first(fabric: Fabric) -> Generator[None]:
    """The leading process runs the block before the others do. Where it fails, none of them goes on.

    Without this the others would wait for what never comes, and fill the screen once they give up.
    """
    if not fabric.is_global_zero:
        if not fabric.broadcast(True):
            raise SystemExit(1)  # without a word: the leading process has said why
        yield
        return
    try:
        yield
    except (CtsrError, OSError):
        fabric.broadcast(False)
        raise
    fabric.broadcast(True)


@contextmanager
def ending_in_one_line(fabric: Fabric, advice: str) -> Generator[None]:
    """Turn the two ways in which a training is ended from outside into one line with `advice`.

    Another of its processes has died, which communication notices; or this one is told to end (SIGTERM), as torchrun
    does to the others when one has died, and a cluster when time is up.
    """
    with _sigterm_raises(f"this training was told to end, or another of its processes has died; {advice}"):
        try:
            yield
        except RuntimeError as error:
            if fabric.world_size > 1 and any(words in str(error) for words in LOST):
                raise CtsrError(f"another process of this training has ended before its time; {advice}") from error
            raise


@contextmanager
def _sigterm_raises(message: str) -> Generator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise CtsrError(message)

    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def precision_of(fabric: Fabric) -> Any:
    """Fabric's precision plugin: under 16-mixed it holds the gradient scaler."""
    return fabric.strategy.precision


def scaler_of(fabric: Fabric) -> Any:
    """The gradient scaler; None where the precision needs none."""
    return getattr(precision_of(fabric), "scaler", None)
