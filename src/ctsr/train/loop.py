"""The training loop: for each epoch, steps, validation, checkpoint."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.wrappers import (  # what Fabric.setup returns; it has no public name
    _FabricModule,  # pyright: ignore[reportPrivateUsage]
    _FabricOptimizer,  # pyright: ignore[reportPrivateUsage]
)
from torch import Tensor
from torch.utils.data import DataLoader

from ctsr.data.pairs import slice_pair
from ctsr.data.patches import EpochSampler, PatchPair
from ctsr.data.store import StoredSeries
from ctsr.degrade import DegradationSampler
from ctsr.errors import CtsrError
from ctsr.hu import HURange
from ctsr.infer import super_resolve
from ctsr.progress import Progress
from ctsr.train.history import EpochRow, TrainingState

__all__ = ["Trainer", "Validation", "fit"]

MOST_SKIPPED = 10
"""Steps in a row with a loss that is not finite after which training gives up."""


@dataclass(frozen=True)
class Validation:
    """Which slices measure progress, always degraded alike."""

    series: Sequence[StoredSeries]
    sampler: DegradationSampler
    hu_range: HURange
    per_series: int
    """At most this many slices of each, evenly spread; 0 takes all."""

    def slices(self) -> Iterator[tuple[StoredSeries, int]]:
        """The slices, in a fixed order."""
        for stored in self.series:
            count = len(stored)
            wanted = min(count, self.per_series or count)
            yield from ((stored, (2 * i + 1) * count // (2 * wanted)) for i in range(wanted))


@dataclass(frozen=True)
class Trainer:
    """Everything a step needs."""

    fabric: Fabric
    net: _FabricModule
    optimizer: _FabricOptimizer
    loader: DataLoader[PatchPair]
    sampler: EpochSampler
    validation: Validation
    micro_batch: int
    clip_grad: float
    progress: Progress


@dataclass
class EpochTotals:
    """Sums over an epoch's steps."""

    loss: float = 0.0
    patches: int = 0
    waited: float = 0.0
    """Seconds in which the network had no data."""

    @property
    def mean(self) -> float:
        """Mean loss of a patch; not a number when every step was skipped."""
        return self.loss / self.patches if self.patches else math.nan


def fit(
    trainer: Trainer,
    state: TrainingState,
    *,
    epochs: int,
    patience: int,
    keep: Callable[[TrainingState, bool, float], None],
) -> None:
    """Train until `epochs` are done or `patience` runs out.

    After each epoch ``keep(state, is_best, share of time spent waiting for data)`` writes everything down.
    """
    while state.epochs_done < epochs and not state.is_exhausted(patience):
        started = time.perf_counter()
        epoch = state.epochs_done + 1
        totals = train_epoch(trainer, state, epoch)
        trained = time.perf_counter() - started
        row = EpochRow(
            epoch=epoch,
            global_step=state.global_step,
            train_l1=totals.mean,
            val_l1=validate(trainer),
            lr=trainer.optimizer.param_groups[0]["lr"],
            time_sec=round(time.perf_counter() - started, 3),
        )
        is_best = state.close_epoch(row)
        keep(state, is_best, totals.waited / trained)


def train_epoch(trainer: Trainer, state: TrainingState, epoch: int) -> EpochTotals:
    """One pass over the training patches."""
    trainer.sampler.epoch = epoch
    trainer.net.train()
    totals = EpochTotals()
    batches = trainer.progress.track(trainer.loader, total=len(trainer.loader), what=f"Epoch {epoch}")
    asked = time.perf_counter()
    for batch in batches:
        totals.waited += time.perf_counter() - asked
        loss = step(trainer, batch)
        state.global_step += 1
        if math.isfinite(loss):
            state.skipped_in_a_row = 0
            totals.loss += loss * len(batch)
            totals.patches += len(batch)
        else:
            state.skipped_steps += 1
            state.skipped_in_a_row += 1
            if state.skipped_in_a_row >= MOST_SKIPPED:
                raise CtsrError(
                    f"the loss was not finite {MOST_SKIPPED} times in a row, at step {state.global_step}: "
                    "training has diverged; lower --lr or pass --clip_grad 1"
                )
        asked = time.perf_counter()
    return totals


def step(trainer: Trainer, batch: PatchPair) -> float:
    """Forward, backward, unscale, clip, step; returns the batch's mean L1 over all devices.

    A batch that memory does not hold is computed in parts whose gradients add up to the whole's. Where the loss is
    not finite the weights stay as they are.
    """
    fabric, device = trainer.fabric, trainer.fabric.device
    trainer.optimizer.zero_grad()
    total = torch.zeros((), device=device)
    parts = list(zip(batch.lr.split(trainer.micro_batch), batch.hr.split(trainer.micro_batch), strict=True))
    for i, (lr, hr) in enumerate(parts):
        # Gradients travel between devices once a step: with the last part.
        with fabric.no_backward_sync(trainer.net, enabled=i < len(parts) - 1):
            sr = trainer.net(lr.to(device, non_blocking=True))
            loss = F.l1_loss(sr, hr.to(device, non_blocking=True)) * (len(hr) / len(batch))
            fabric.backward(loss)
        total += loss.detach()
    mean = float(_reduced(fabric, total, "mean"))
    if math.isfinite(mean):
        if trainer.clip_grad:
            fabric.clip_gradients(trainer.net, trainer.optimizer, max_norm=trainer.clip_grad, error_if_nonfinite=False)
        trainer.optimizer.step()
    return mean


def validate(trainer: Trainer) -> float:
    """Mean L1 over full validation slices, [-1, 1] units; shared out over the devices."""
    fabric, check = trainer.fabric, trainer.validation
    mine = list(check.slices())[fabric.global_rank :: fabric.world_size]
    total = torch.zeros(2, dtype=torch.float64)
    for stored, index in trainer.progress.track(mine, total=len(mine), what="Validating"):
        pair = slice_pair(stored, index, check.sampler, check.hu_range)
        error = F.l1_loss(super_resolve(trainer.net, pair.lr).double(), pair.hr.double())
        total += torch.stack((error, torch.ones((), dtype=torch.float64)))
    error, count = _reduced(fabric, total.to(fabric.device), "sum")
    return float(error / count)


def _reduced(fabric: Fabric, value: Tensor, how: Literal["mean", "sum"]) -> Tensor:
    """The same tensor on every device; with one device, itself."""
    return cast("Tensor", fabric.all_reduce(value, reduce_op=how))
