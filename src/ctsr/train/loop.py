"""The training loop, the same for L1 and for fine-tuning: rate, steps, validation, row, checkpoint."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol, TypeVar

from ctsr.data.pairs import PatchPair
from ctsr.errors import CtsrError
from ctsr.train.context import Losses, Rig
from ctsr.train.history import EpochRow, TrainingState
from ctsr.train.options import RunOptions
from ctsr.train.trainable_model import Learner

MOST_SKIPPED = 10
"""Steps in a row with a loss that is not finite after which training gives up."""

R = TypeVar("R", bound=EpochRow)

Keep = Callable[[TrainingState[R], bool, float], None]
"""Told after each epoch: where training stands, whether this is the best, the share of time spent waiting for data."""

MILESTONES = (0.6, 0.8)
"""Shares of the epochs after which `multistep` halves the rate."""
GAMMA = 0.5
LEAST = 0.01
"""Share of the rate at which `cosine` ends."""


class Stage(Protocol[R]):
    """What training with L1 and fine-tuning do each in their own way."""

    @property
    def rig(self) -> Rig:
        """Devices, patches, validation slices."""
        ...

    @property
    def learners(self) -> Mapping[str, Learner]:
        """The networks that are trained, the generator first."""
        ...

    def step(self, batch: PatchPair, steps_done: int) -> Losses | None:
        """Move the networks by one batch; its losses over all devices, None where they were not finite."""
        ...

    def row(self, known: EpochRow, trained: Losses) -> R:
        """Validate, and make the epoch's line of what is known of it and the mean losses of its steps."""
        ...

    def score(self, row: R) -> float:
        """What the best epoch has least of."""
        ...


@dataclass
class EpochTotals:
    """Sums over an epoch's steps."""

    losses: Losses = field(default_factory=dict[str, float])
    patches: dict[str, int] = field(default_factory=dict[str, int])
    waited: float = 0.0
    """Seconds in which the networks had no data."""

    def add(self, losses: Losses, patches: int) -> None:
        """Take in one step."""
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value * patches
            self.patches[name] = self.patches.get(name, 0) + patches

    @property
    def means(self) -> Losses:
        """Mean losses of a patch; those that no step had are not there."""
        return {name: total / self.patches[name] for name, total in self.losses.items()}


def fit(stage: Stage[R], state: TrainingState[R], options: RunOptions, *, keep: Keep[R]) -> None:
    """Train until all epochs are done or patience runs out.

    Raises:
        CtsrError: too many steps in a row were not finite.
    """
    while state.epochs_done < options.epochs and not state.is_exhausted(options.epochs_of_patience):
        started = time.perf_counter()
        epoch = state.epochs_done + 1
        rate = rate_at(options.lr_schedule, options.lr, epoch=epoch, epochs=options.epochs)
        for learner in stage.learners.values():
            learner.set_rate(rate)
        totals = train_epoch(stage, state, epoch)
        trained = time.perf_counter() - started
        known = EpochRow(epoch=epoch, global_step=state.global_step, lr=rate, time_sec=0.0)
        row = stage.row(known, totals.means)
        row = replace(row, time_sec=round(time.perf_counter() - started, 3))
        is_best = state.close_epoch(row, stage.score(row))
        keep(state, is_best, totals.waited / trained)


def train_epoch(stage: Stage[R], state: TrainingState[R], epoch: int) -> EpochTotals:
    """One pass over the training patches."""
    rig = stage.rig
    rig.sampler.epoch = epoch
    totals = EpochTotals()
    asked = time.perf_counter()
    for batch in rig.progress.track(rig.loader, total=len(rig.loader), what=f"Epoch {epoch}"):
        totals.waited += time.perf_counter() - asked
        losses = stage.step(batch.to(rig.fabric.device), state.global_step)
        state.global_step += 1
        if losses is None:
            _count_skipped(state)
        else:
            state.skipped_in_a_row = 0
            totals.add(losses, len(batch))
        asked = time.perf_counter()
    return totals


def _constant(done: int, epochs: int) -> float:
    del done, epochs
    return 1.0


def _cosine(done: int, epochs: int) -> float:
    return LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * done / epochs))


def _multistep(done: int, epochs: int) -> float:
    return GAMMA ** sum(done >= math.ceil(share * epochs) for share in MILESTONES)


SCHEDULES: MappingProxyType[str, Callable[[int, int], float]] = MappingProxyType(
    {"constant": _constant, "multistep": _multistep, "cosine": _cosine}
)
"""What the learning rate is multiplied by once so many of so many epochs are done."""


def rate_at(schedule: str, lr: float, *, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch, counted from 1, of a training of `epochs`."""
    return lr * SCHEDULES[schedule](epoch - 1, epochs)


def _count_skipped(state: TrainingState[R]) -> None:
    state.skipped_steps += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MOST_SKIPPED:
        raise CtsrError(
            f"the loss was not finite {MOST_SKIPPED} times in a row, at step {state.global_step}: "
            "training has diverged; lower --lr or pass --clip_grad 1"
        )
