"""The learning rate as a function of the epoch: nothing to keep, nothing to drift when a run is continued."""

import math
from collections.abc import Callable
from types import MappingProxyType

__all__ = ["SCHEDULES", "rate_at"]

MILESTONES = (0.6, 0.8)
"""Shares of the epochs after which `multistep` halves the rate."""
GAMMA = 0.5
LEAST = 0.01
"""Share of the rate at which `cosine` ends."""


def _constant(done: int, epochs: int) -> float:
    del done, epochs
    return 1.0


def _multistep(done: int, epochs: int) -> float:
    return GAMMA ** sum(done >= math.ceil(share * epochs) for share in MILESTONES)


def _cosine(done: int, epochs: int) -> float:
    return LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * done / epochs))


SCHEDULES: MappingProxyType[str, Callable[[int, int], float]] = MappingProxyType(
    {"constant": _constant, "multistep": _multistep, "cosine": _cosine}
)
"""What the learning rate is multiplied by once so many of so many epochs are done."""


def rate_at(schedule: str, lr: float, *, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch, counted from 1, of a training of `epochs`."""
    return lr * SCHEDULES[schedule](epoch - 1, epochs)
