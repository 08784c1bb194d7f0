"""Adversarial losses of generator and discriminator, from scores before any sigmoid."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch.nn.functional as nnf
from torch import Tensor

GanType: TypeAlias = Literal["ragan", "vanilla", "lsgan", "hinge"]
Mean: TypeAlias = Callable[[Tensor], Tensor]
"""Mean of all scores of a step as a scalar; with several devices, over the scores of all."""


def generator_loss(kind: GanType, real: Tensor, fake: Tensor, *, mean: Mean = Tensor.mean) -> Tensor:
    """Loss of the generator.

    Args:
        kind: `ragan`: relativistic average, as in ESRGAN (Jolicoeur-Martineau, ICLR 2019); `vanilla`, non-saturating
            (Goodfellow et al., NeurIPS 2014); `lsgan` (Mao et al., ICCV 2017); `hinge` (Lim and Ye, 2017).
        real: scores of HR, any shape; used by `ragan` only.
        fake: scores of SR, the same shape; gradients reach them.
        mean: how scores are averaged for `ragan`.

    Returns:
        A scalar.
    """
    match kind:
        case "ragan":
            # Relative to the mean of the other kind: SR should score above HR, and HR below SR.
            return 0.5 * (_as_fake(real - mean(fake)) + _as_real(fake - mean(real)))
        case "vanilla":
            return _as_real(fake)
        case "lsgan":
            return (fake - 1).square().mean()
        case "hinge":
            return -fake.mean()


def discriminator_loss(kind: GanType, real: Tensor, fake: Tensor, *, mean: Mean = Tensor.mean) -> Tensor:
    """Loss of the discriminator; arguments and result as for `generator_loss`."""
    match kind:
        case "ragan":
            return 0.5 * (_as_real(real - mean(fake)) + _as_fake(fake - mean(real)))
        case "vanilla":
            return 0.5 * (_as_real(real) + _as_fake(fake))
        case "lsgan":
            return 0.5 * ((real - 1).square().mean() + fake.square().mean())
        case "hinge":
            return 0.5 * (nnf.relu(1 - real).mean() + nnf.relu(1 + fake).mean())


def _as_real(score: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(score) and 1, without overflow."""
    return nnf.softplus(-score).mean()


def _as_fake(score: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(score) and 0."""
    return nnf.softplus(score).mean()
