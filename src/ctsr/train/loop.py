"""The training loop, the same for L1 and for fine-tuning: rate, steps, validation, row, checkpoint.

It moves a network with its optimizer and keeps a moving average of the weights.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import (  # what Fabric.setup returns; it has no public name
    _FabricModule,  # pyright: ignore[reportPrivateUsage]
    _FabricOptimizer,  # pyright: ignore[reportPrivateUsage]
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ctsr.data.pairs import PatchPair
from ctsr.errors import CtsrError
from ctsr.train import RunOptions
from ctsr.train.context import Losses, TrainingContext
from ctsr.train.devices import heed_signals, scaler_of
from ctsr.train.run_folder import EpochRow, TrainingState


@dataclass(frozen=True, eq=False)
class TrainableModel:
    """One side of a training: the generator, or the discriminator."""

    net: _FabricModule
    """What a training step runs: shares gradients between devices, in the precision of the run."""
    bare: nn.Module
    """The network itself: what is saved, and run where no gradient is wanted."""
    optimizer: _FabricOptimizer
    clip_grad: float
    """Largest norm of a step's gradient; 0 does not clip."""
    average: AveragedModel | None = None

    @property
    def in_use(self) -> nn.Module:
        """The network that is judged and used: the average where there is one."""
        return self.bare if self.average is None else self.average.module

    def set_rate(self, rate: float) -> None:
        """Give the optimiser its learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, fabric: Fabric, loss: float) -> bool:
        """Unscale, clip, step: in this order, or what is clipped would be the loss scale.

        Returns:
            False where the loss or its gradient is not finite: the weights stay as they are.
        """
        if not math.isfinite(loss):
            self._spoil()
        limit = self.clip_grad or math.inf
        norm = fabric.clip_gradients(self.net, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        finite = norm is not None and math.isfinite(norm)
        # A gradient scaler leaves such a step out by itself, and must be asked to, or it would never scale down.
        if finite or scaler_of(fabric) is not None:
            self.optimizer.step()
        return finite

    def _spoil(self) -> None:
        """Let a gradient say what the loss said: a scaler looks at gradients alone."""
        for parameter in self.bare.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)

    def average_in(self) -> None:
        """Let the average follow the weights by one step."""
        if self.average is not None:
            self.average.update_parameters(self.bare)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and average, for a checkpoint."""
        return {
            "weights": self.bare.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.average is None else self.average.module.state_dict(),
            "averaged_steps": 0 if self.average is None else int(self.average.n_averaged),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.bare.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["ema"])
            self.average.n_averaged.fill_(state["averaged_steps"])


def learner(
    fabric: Fabric, bare: nn.Module, *, lr: float, clip_grad: float, ema: float = 0.0, compiled: bool = False
) -> TrainableModel:
    """Set a network up on the devices, with Adam (β 0.9, 0.999).

    Args:
        fabric: the devices and the precision.
        bare: the network.
        lr: learning rate.
        clip_grad: see `TrainableModel`.
        ema: decay of the moving average; 0 keeps none.
        compiled: run training steps through torch.compile.
    """
    optimizer = torch.optim.Adam(bare.parameters(), lr=lr, betas=(0.9, 0.999))
    run = cast("nn.Module", torch.compile(bare)) if compiled else bare
    net, wrapped = fabric.setup(run, optimizer)
    average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
    if average is not None:
        average.requires_grad_(False).eval()
        # The weights it starts from count: without that the first step would be copied, whatever it did to them.
        average.n_averaged.fill_(1)
    return TrainableModel(net, bare, wrapped, clip_grad, average)


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
    def context(self) -> TrainingContext:
        """Devices, patches, validation slices."""
        ...

    @property
    def learners(self) -> Mapping[str, TrainableModel]:
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
    context = stage.context
    context.sampler.epoch = epoch
    totals = EpochTotals()
    asked = time.perf_counter()
    for batch in context.progress.track(context.loader, total=len(context.loader), what=f"Epoch {epoch}"):
        heed_signals()
        totals.waited += time.perf_counter() - asked
        losses = stage.step(batch.to(context.fabric.device), state.global_step)
        state.global_step += 1
        if losses is None:
            _count_skipped(state)
        else:
            state.skipped_in_a_row = 0
            totals.add(losses, len(batch))
        asked = time.perf_counter()
    return totals


def _constant(_done: int, _epochs: int) -> float:
    return 1.0


def _cosine(done: int, epochs: int) -> float:
    return LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * done / epochs))


def _multistep(done: int, epochs: int) -> float:
    return GAMMA ** sum(done >= math.ceil(share * epochs) for share in MILESTONES)


SCHEDULES: Mapping[str, Callable[[int, int], float]] = {
    "constant": _constant,
    "multistep": _multistep,
    "cosine": _cosine,
}
"""Factor of the learning rate after `done` of `epochs` epochs."""


def rate_at(schedule: str, lr: float, *, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch, counted from 1, of a training of `epochs`."""
    return lr * SCHEDULES[schedule](epoch - 1, epochs)


def _count_skipped(state: TrainingState[R]) -> None:
    state.skipped_steps += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MOST_SKIPPED:
        raise CtsrError(
            f"the loss was not finite {MOST_SKIPPED} times in a row, at step {state.global_step}: "
            "training has diverged; lower `lr` or pass `clip_grad=1`"
        )
