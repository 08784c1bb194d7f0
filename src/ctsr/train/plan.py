"""What a training will cost, said before it starts, and how a batch is cut to fit into memory."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from ctsr.models.conditioning import input_channels
from ctsr.models.profile import saved_bytes, training_bytes_per_pixel
from ctsr.text import duration, size

__all__ = ["Cost", "Plan", "cost_on_patches", "make_plan"]

USABLE = 0.7
"""Share of the free memory that activations may take: the rest is for gradients of them and for the data."""
PROBE = 32
"""Side in LR pixels of the patch that is timed."""
HR_PROBE = 64
"""The same in HR pixels, for networks that look at SR and HR."""


@dataclass(frozen=True)
class Cost:
    """Of a network beside the generator, for the whole batch of a step."""

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
        at_once: at most so many patches at once; 0 is the whole batch.
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
