"""Locally discriminative learning: a penalty where a GAN makes artifacts (Liang, Zeng and Zhang, CVPR 2022)."""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from ctsr.losses.pixel import l1_loss

__all__ = ["artifact_loss", "artifact_map"]

NEIGHBOURHOOD = 7
"""Side in pixels of the square whose variance tells texture from error."""


def artifact_loss(sr: Tensor, hr: Tensor, steady: Tensor) -> Tensor:
    """L1 between SR and HR, weighted with the probability that a pixel's error is an artifact.

    Args:
        sr: ``(N, 1, H, W)`` in [-1, 1]; gradients reach it, not the weights.
        hr: the same shape.
        steady: what the averaged generator (EMA) makes of the same LR.

    Returns:
        A scalar, [-1, 1] units.
    """
    weights = artifact_map(sr.detach(), hr, steady)
    return l1_loss(weights * sr, weights * hr)


@torch.no_grad()
def artifact_map(sr: Tensor, hr: Tensor, steady: Tensor) -> Tensor:
    """The paper's equations 3 to 6: local variance of the residual × patch-wide variance^⅕, where EMA errs less.

    Returns:
        ``(N, 1, H, W)``, at least 0.
    """
    residual = (hr - sr).abs()
    reach = NEIGHBOURHOOD // 2
    padded = nnf.pad(residual, (reach, reach, reach, reach), mode="reflect")
    neighbours = padded.unfold(2, NEIGHBOURHOOD, 1).unfold(3, NEIGHBOURHOOD, 1)
    local = neighbours.var(dim=(-1, -2), unbiased=True)
    wide = residual.var(dim=(1, 2, 3), keepdim=True) ** 0.2
    return torch.where(residual < (hr - steady).abs(), 0.0, wide * local)
