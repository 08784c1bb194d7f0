"""Where a training runs, what it will cost there, and how a batch is cut to fit into memory.

One device, several, or the processes that torchrun has started.
"""

import copy
import gc
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ctsr.errors import CtsrError, UsageError
from ctsr.infer.engine import pick_device
from ctsr.models.conditioning import input_channels
from ctsr.models.profile import saved_bytes, training_bytes_per_pixel
from ctsr.reporting import Progress, duration, size
from ctsr.train import RunOptions

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

P = ParamSpec("P")
T = TypeVar("T")

USABLE = 0.7
"""Share of the free memory that activations may take: the rest is for gradients of them and for the data."""
PROBE = 32
"""Side in LR pixels of the patch that is timed."""
HR_PROBE = 64
"""The same in HR pixels, for networks that look at SR and HR."""


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
                f"`device` {options.device} names one device, `devices` {options.devices} asks for several"
            )
        devices = [device.index] if named else options.devices
        fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)
    fabric.launch()
    return fabric


def ending_its_process_group(run: Callable[P, T]) -> Callable[P, T]:
    """Wrap a training so that, once it has succeeded, no thread of its communication is left.

    Every process destroys its group here, and not while the interpreter goes. Gloo's threads release the tensors of the
    last collective operation after whoever waited for it has gone on, and need the interpreter's lock for that; a
    thread that asks for the lock of an interpreter that is ending is unwound by Python in the middle of C++, which
    aborts the process: "terminate called without an active exception", exit status -6 after a finished training. What
    holds on to the group (DistributedDataParallel, with every network of the training) is local to `run`. A training
    that failed leaves the group alone: its threads may wait for a process that has ended.
    """

    @wraps(run)
    def ending(*args: P.args, **kwargs: P.kwargs) -> T:
        result = run(*args, **kwargs)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gc.collect()  # modules and their hooks refer to one another
            torch.distributed.destroy_process_group()
        return result

    return ending


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
    with _signals_raise(f"this training was told to end, or another of its processes has died; {advice}"):
        try:
            yield
        except RuntimeError as error:
            if fabric.world_size > 1 and any(words in str(error) for words in LOST):
                raise CtsrError(f"another process of this training ended early; {advice}") from error
            raise


def precision_of(fabric: Fabric) -> Any:
    """Fabric's precision plugin: under 16-mixed it holds the gradient scaler."""
    return fabric.strategy.precision


def scaler_of(fabric: Fabric) -> Any:
    """The gradient scaler; None where the precision needs none."""
    return getattr(precision_of(fabric), "scaler", None)


@dataclass(frozen=True)
class Cost:
    """Cost of a network beside the generator, for the whole batch of a step."""

    bytes: float
    seconds: float

    def __mul__(self, passes: int) -> "Cost":
        """Several passes in a row: each gives its memory back before the next."""
        return Cost(self.bytes, self.seconds * passes)


@dataclass(frozen=True)
class Plan:
    """The cost of one step and one epoch, and how a step is computed."""

    micro_batch: int
    """Patches at once; their gradients add up to the batch's."""
    steps: int
    """An epoch."""
    step_seconds: float
    step_bytes: float
    """What the activations of one micro-batch take, and those of other networks for the batch."""

    def __str__(self) -> str:
        epoch = self.steps * self.step_seconds
        return (
            f"a step takes about {duration(self.step_seconds)} and {size(self.step_bytes)} "
            f"({self.micro_batch} patches at once), an epoch of {self.steps} steps about {duration(epoch)}"
        )


def make_plan(
    net: nn.Module,
    *,
    patch: int,
    batch: int,
    steps: int,
    at_once: int = 0,
    micro_batch: int = 0,
    others: Sequence[Cost] = (),
    processes: int = 1,
) -> Plan:
    """Time a small patch and measure what it keeps for the backward pass.

    Args:
        net: on the device it will train on, in the precision of the surrounding autocast.
        patch: side of an LR patch in pixels.
        batch: patches a step on this device.
        steps: steps an epoch.
        at_once: most patches at once; 0 takes the whole batch.
        micro_batch: patches at once, where the user has decided; 0 takes what memory allows.
        others: what other networks take for the whole batch.
        processes: how many share this machine's memory; a GPU belongs to one.
    """
    per_patch = training_bytes_per_pixel(net) * patch**2
    taken = sum(other.bytes for other in others)
    fitting = max(1, int((USABLE * _free_bytes(net, processes) - taken) / per_patch))
    at_once = min(batch, micro_batch or fitting, at_once or batch)
    # Equal shares: 10 patches of which 6 fit are 5 and 5 rather than 6 and 4.
    at_once = math.ceil(batch / math.ceil(batch / at_once))
    seconds = _seconds_per_pixel(net) * patch**2 * batch + sum(other.seconds for other in others)
    return Plan(at_once, steps, seconds, per_patch * at_once + taken)


def cost_on_patches(run: Callable[[Tensor], Tensor], device: torch.device, *, patch: int, batch: int) -> Cost:
    """What one forward and backward pass over a batch of HR patches takes, measured on a small patch.

    Args:
        run: a network, or whatever else makes something to differentiate of ``(1, 1, H, W)``.
        device: where it lives.
        patch: side of an HR patch in pixels.
        batch: patches a step on this device.
    """
    image = torch.zeros(1, 1, HR_PROBE, HR_PROBE, device=device, requires_grad=True)
    share = batch * patch**2 / HR_PROBE**2
    kept = saved_bytes(run, image)
    seconds = _timed(lambda: torch.autograd.grad(run(image).sum(), image), device)
    return Cost(kept * share, seconds * share)


def _under_torchrun(options: RunOptions, device: torch.device, precision: Any) -> Fabric:
    """As many processes as torchrun has started; it tells of them in the environment."""
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if options.batch_size % world:
        raise UsageError(f"`batch_size` {options.batch_size} cannot be shared evenly by {world} processes")
    # One process has nobody to talk to: Fabric's plain strategy is the same training without the detour.
    strategy = "ddp" if world > 1 else "auto"
    return Fabric(
        accelerator=device.type, devices=local, num_nodes=world // local, strategy=strategy, precision=precision
    )


_TOLD: list[BaseException] = []
"""What signals have asked for since `ending_in_one_line` began."""


def heed_signals() -> None:
    """End a training that was told to end, where Python has lost the error of the signal's handler.

    It loses one that is raised in a finalizer or while a process is forked, as those of loaders are: before each step
    training asks again.

    Raises:
        CtsrError: SIGTERM.
        KeyboardInterrupt: SIGINT.
    """
    if _TOLD:
        raise _TOLD[0]


@contextmanager
def _signals_raise(message: str) -> Generator[None]:
    def end(number: int, _frame: FrameType | None) -> None:
        _TOLD.append(KeyboardInterrupt() if number == signal.SIGINT else CtsrError(message))
        raise _TOLD[-1]

    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield
        return
    _TOLD.clear()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        before[signal.SIGINT] = signal.signal(signal.SIGINT, end)
    try:
        yield
        heed_signals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _TOLD.clear()


def _free_bytes(net: nn.Module, processes: int) -> int:
    device = next(net.parameters()).device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available // processes


def _seconds_per_pixel(net: nn.Module) -> float:
    """Forward and backward on a copy, so that neither gradients nor random state of the training are touched."""
    probe = copy.deepcopy(net)
    device = next(probe.parameters()).device
    image = torch.zeros(1, input_channels(net), PROBE, PROBE, device=device)
    return _timed(lambda: probe(image).sum().backward(), device) / PROBE**2


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the second run: the first warms up."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return seconds
