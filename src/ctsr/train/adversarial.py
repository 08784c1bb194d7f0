"""The stage of fine-tuning: L1, perceptual and adversarial loss, generator and discriminator in turn (ESRGAN)."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import PatchPair
from ctsr.degrade import Degradation, DegradationParams
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.losses import (
    GanType,
    Mean,
    PerceptualLoss,
    artifact_loss,
    consistency_loss,
    discriminator_loss,
    generator_loss,
    l1_loss,
)
from ctsr.models.conditioning import is_conditional
from ctsr.models.discriminators import iterate_norms
from ctsr.train import FinetuneOptions
from ctsr.train.context import Losses, TrainingContext
from ctsr.train.devices import scaler_of
from ctsr.train.loop import TrainableModel
from ctsr.train.run_folder import EpochRow, FinetuneRow

Terms = dict[str, Tensor]
"""Losses by name, before they are weighted; scalars."""


@dataclass(frozen=True, eq=False)
class WeightedLoss:
    """The losses of a fine-tuning and their weights."""

    weights: Losses
    """By the names of the terms: l1, perc, gan, consistency, artifact. Those of weight 0 are not computed, but L1."""
    perceptual: PerceptualLoss | None
    gan_type: GanType
    degradation: Degradation

    def pixel_terms(
        self, sr: Tensor, hr: Tensor, params: Sequence[DegradationParams], steady: Callable[[], Tensor] | None = None
    ) -> Terms:
        """Everything but the adversarial loss.

        Args:
            sr: ``(N, 1, H, W)`` in [-1, 1].
            hr: the same shape.
            params: what each LR image was made with.
            steady: gives the averaged generator's SR, where the artifact loss may be wanted.
        """
        terms = {"l1": l1_loss(sr, hr)}
        if self.perceptual is not None:
            terms["perc"] = self.perceptual(sr, hr)
        if self.weights["consistency"]:
            kind = self.degradation
            terms["consistency"] = consistency_loss(sr, hr, params, scale=kind.scale, antialias=kind.antialias)
        if self.weights["artifact"] and steady is not None:
            terms["artifact"] = artifact_loss(sr, hr, steady())
        return terms

    def adversarial_term(self, critic: nn.Module, sr: Tensor, hr: Tensor, mean: Mean) -> Tensor:
        """The generator's side of the game against a critic whose weights hold still."""
        with torch.no_grad():
            real = critic(hr).float()
        return generator_loss(self.gan_type, real, critic(sr).float(), mean=mean)

    def total(self, terms: Terms) -> Tensor:
        """The weighted sum."""
        return torch.stack([self.weights[name] * value.float() for name, value in terms.items()]).sum()

    def columns(self, found: Losses | dict[str, float | None], prefix: str) -> dict[str, float | None]:
        """The loss columns of metrics.csv, `train_…` or `val_…`, from mean losses by name."""
        weighted = {name: _times(self.weights[name], found.get(name)) for name in self.weights}
        without = [value for name, value in weighted.items() if name != "gan" and value is not None]
        columns: dict[str, float | None] = {
            "total": found.get("total"),
            "total_no_gan": sum(without) if without else None,
        }
        for name in ("l1", "perc", "gan"):
            columns[name] = found.get(name)
            columns[f"{name}_weighted"] = weighted[name]
        return {f"{prefix}_{name}": value for name, value in columns.items()}


class FinetuneStage:
    """A step: the generator against a discriminator that holds still, then the discriminator on what it made."""

    def __init__(
        self,
        context: TrainingContext,
        generator: TrainableModel,
        critic: TrainableModel,
        objective: WeightedLoss,
        options: FinetuneOptions,
    ) -> None:
        self.context = context
        self.generator = generator
        self.critic = critic
        self.objective = objective
        self.options = options
        self.learners = {"generator": generator, "critic": critic}
        self.critic.bare.requires_grad_(False)
        self.steps_done = 0

    def step(self, batch: PatchPair, steps_done: int) -> Losses | None:
        """One batch. While warming up the discriminator takes no part, and gives the generator no gradient.

        Where the discriminator's own loss is not finite, the generator has moved by then and keeps what it has
        learned; the step counts as skipped all the same.
        """
        self.steps_done = steps_done
        adversarial = self._plays(steps_done)
        if adversarial:
            iterate_norms(self.critic.bare)
        sr, losses = self._generator_step(batch, adversarial=adversarial)
        if losses is None:
            return None
        self.generator.average_in()
        if adversarial:
            disc = self._critic_step(sr, batch.hr)
            if disc is None:
                return None
            losses |= disc
        return losses

    def row(self, known: EpochRow, trained: Losses) -> FinetuneRow:
        """Validation on full slices by the network in use, and the epoch's line."""
        found = self.context.over_validation(self._measure)
        values: dict[str, Any] = asdict(known)
        values |= self.objective.columns(trained, "train") | self.objective.columns(found, "val")
        values |= {name: found[name] for name in ("psnr", "mae", "hu_bias", "val_consistency_hu")}
        values |= {f"train_{name}": trained.get(name) for name in ("disc", "consistency", "artifact")}
        return FinetuneRow(**values)

    def score(self, row: FinetuneRow) -> float:
        """By `early_metric`; lower is better."""
        match self.options.early_metric:
            case "total_no_gan":
                return row.val_total_no_gan
            case "mae":
                return row.mae
            case "psnr":
                return -math.inf if row.psnr is None else -row.psnr

    def _plays(self, steps_done: int) -> bool:
        return self.options.lambda_gan > 0 and steps_done >= self.options.warmup_g_only

    def _generator_step(self, batch: PatchPair, *, adversarial: bool) -> tuple[Tensor, Losses | None]:
        """SR, and the losses it was made to lower; None where they were not finite."""
        fabric, generator = self.context.fabric, self.generator
        generator.optimizer.zero_grad()
        inputs = network_input(batch.lr, batch.params, scale=batch.scale, conditional=is_conditional(generator.bare))
        whole = len(batch) <= self.context.micro_batch
        sr = generator.net(inputs) if whole else self._in_parts(inputs)
        terms = self._terms(sr, batch, inputs, adversarial=adversarial)
        total = self.objective.total(terms)
        fabric.backward(total)
        if not whole:
            self._replay(inputs, sr)
        losses = self.context.mean(terms | {"total": total})
        finite = generator.update(fabric, losses["total"])
        return sr.detach(), losses if finite else None

    def _terms(self, sr: Tensor, batch: PatchPair, inputs: Tensor, *, adversarial: bool) -> Terms:
        average = self.generator.average
        steady = None if average is None else lambda: _without_gradient(average.module, inputs)
        with self.context.fabric.autocast():
            terms = self.objective.pixel_terms(sr, batch.hr, batch.params, steady)
            if adversarial:
                mean = self.context.mean_over_devices
                terms["gan"] = self.objective.adversarial_term(self.critic.bare, sr, batch.hr, mean)
        return terms

    def _in_parts(self, lr: Tensor) -> Tensor:
        """SR without the graph that memory does not hold; its gradient is gathered in it."""
        with torch.no_grad():
            parts = [self.generator.net(part) for part in lr.split(self.context.micro_batch)]
        return torch.cat(parts).requires_grad_()

    def _replay(self, lr: Tensor, sr: Tensor) -> None:
        """Make SR again part by part, and hand its gradient down to the weights: the same as in one piece.

        The losses are not sums over patches (relativistic means join them), but their gradient by SR is all that the
        generator needs of them.
        """
        assert sr.grad is not None, "the losses have been differentiated"
        fabric, net, size = self.context.fabric, self.generator.net, self.context.micro_batch
        scaler = scaler_of(fabric)
        # It has been scaled, and will be again: scales are powers of two, so that nothing is lost on the way.
        gradient = sr.grad / (scaler.get_scale() if scaler else 1.0)
        parts = list(zip(lr.split(size), gradient.split(size), strict=True))
        for i, (part, wanted) in enumerate(parts):
            # Gradients travel between devices once a step: with the last part.
            with fabric.no_backward_sync(net, enabled=i < len(parts) - 1):
                fabric.backward((net(part) * wanted).sum())

    def _critic_step(self, sr: Tensor, hr: Tensor) -> Losses | None:
        """The discriminator's loss, once it has moved; None where it was not finite."""
        fabric, critic = self.context.fabric, self.critic
        critic.optimizer.zero_grad()
        with _learning(critic):
            # One pass for both: devices share gradients once for each pass.
            real, fake = critic.net(torch.cat((hr, sr))).float().chunk(2)
            loss = discriminator_loss(self.options.gan_type, real, fake, mean=self.context.mean_over_devices)
            fabric.backward(loss)
            losses = self.context.mean({"disc": loss})
            return losses if critic.update(fabric, losses["disc"]) else None

    @torch.no_grad()
    def _measure(self, stored: StoredSeries, index: int) -> dict[str, float | None]:
        """One slice: the losses that have a column, and how far SR is from HR."""
        pair = self.context.validation.pair(stored, index)
        device, hu = self.context.fabric.device, self.context.validation.hu_range.width / 2
        kind = self.objective.degradation
        net = self.generator.in_use
        sr = super_resolve(
            net, network_input(pair.lr, [pair.draw.params], scale=pair.scale, conditional=is_conditional(net))
        )
        error = (sr - pair.hr).double()
        squared = float(error.square().mean())
        again = consistency_loss(sr, pair.hr, [pair.draw.params], scale=kind.scale, antialias=kind.antialias)
        terms = self.objective.pixel_terms(sr.to(device), pair.hr.to(device), [pair.draw.params])
        if self.options.val_compute_gan and self._plays(self.steps_done):
            critic = self.critic.bare
            terms["gan"] = self.objective.adversarial_term(critic, sr.to(device), pair.hr.to(device), Tensor.mean)
        # The sum that training minimises is known where all of its terms are.
        known = "gan" in terms or not self._plays(self.steps_done)
        return {name: float(value) for name, value in terms.items()} | {
            "total": float(self.objective.total(terms)) if known else None,
            "psnr": 10 * math.log10(4 / squared) if squared else None,
            "mae": float(error.abs().mean()) / 2,
            "hu_bias": float(error.mean()) * hu,
            "val_consistency_hu": float(again) * hu,
        }


@contextmanager
def _learning(critic: TrainableModel) -> Generator[None]:
    """The critic's weights take gradients inside the block only: not while the generator plays against it."""
    critic.bare.requires_grad_(True)
    try:
        yield
    finally:
        critic.bare.requires_grad_(False)


@torch.no_grad()
def _without_gradient(net: torch.nn.Module, lr: Tensor) -> Tensor:
    return net(lr)


def _times(weight: float, value: float | None) -> float | None:
    return None if value is None else weight * value
