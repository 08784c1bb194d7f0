"""What the generator minimises in fine-tuning: weighted losses, each by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctsr.degrade import Degradation, DegradationParams
from ctsr.losses import (
    GanType,
    Mean,
    PerceptualLoss,
    artifact_loss,
    consistency_loss,
    generator_loss,
    l1_loss,
)
from ctsr.train.rig import Losses

__all__ = ["Objective", "Terms"]

Terms = dict[str, Tensor]
"""Losses by name, before they are weighted; scalars."""


@dataclass(frozen=True, eq=False)
class Objective:
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


def _times(weight: float, value: float | None) -> float | None:
    return None if value is None else weight * value
