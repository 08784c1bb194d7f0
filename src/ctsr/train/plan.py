"""What a training will cost, said before it starts, and how a batch is cut to fit into memory."""

import copy
import math
import time
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from ctsr.models.profile import training_bytes_per_pixel
from ctsr.words import duration, size

__all__ = ["Plan", "make_plan"]

USABLE = 0.7
"""Share of the free memory that activations may take: the rest is for gradients of them and for the data."""
PROBE = 32
"""Side in LR pixels of the patch that is timed."""


@dataclass(frozen=True)
class Plan:
    """The cost of one step and one epoch, and how a step is computed."""

    micro_batch: int
    """Patches at once; their gradients add up to the batch's."""
    steps: int
    """An epoch."""
    step_seconds: float
    step_bytes: float
    """What the activations of one micro-batch take."""

    def __str__(self) -> str:
        epoch = self.steps * self.step_seconds
        return (
            f"a step takes about {duration(self.step_seconds)} and {size(self.step_bytes)} "
            f"({self.micro_batch} patches at once), an epoch of {self.steps} steps about {duration(epoch)}"
        )


def make_plan(net: nn.Module, *, patch: int, batch: int, steps: int, micro_batch: int = 0) -> Plan:
    """Time a small patch and measure what it keeps for the backward pass.

    Args:
        net: on the device it will train on, in the precision of the surrounding autocast.
        patch: side of an LR patch in pixels.
        batch: patches a step on this device.
        steps: steps an epoch.
        micro_batch: patches at once, where the user has decided; 0 takes what memory allows.
    """
    per_patch = training_bytes_per_pixel(net) * patch**2
    fitting = max(1, int(USABLE * _free_bytes(net) / per_patch))
    at_once = min(batch, micro_batch or fitting)
    # Equal shares: 10 patches of which 6 fit are 5 and 5 rather than 6 and 4.
    at_once = math.ceil(batch / math.ceil(batch / at_once))
    seconds = _seconds_per_pixel(net) * patch**2 * batch
    return Plan(at_once, steps, seconds, per_patch * at_once)


def _free_bytes(net: nn.Module) -> int:
    device = next(net.parameters()).device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _seconds_per_pixel(net: nn.Module) -> float:
    """Forward and backward on a copy, so that neither gradients nor random state of the training are touched."""
    probe = copy.deepcopy(net)
    device = next(probe.parameters()).device
    image = torch.zeros(1, 1, PROBE, PROBE, device=device)
    seconds = 0.0
    for _ in range(2):  # the first run warms up
        started = time.perf_counter()
        probe(image).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return seconds / PROBE**2
