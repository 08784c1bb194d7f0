"""What every network is measured against."""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as nnf
from torch import Tensor

__all__ = ["Interpolation", "enlarge", "interpolate"]

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos"]

LOBES = 3
"""Of the Lanczos kernel: it reaches so many LR pixels to each side."""


def interpolate(lr: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """Enlarge by interpolation, with the pixel centres aligned: HR pixel i lies at LR coordinate (i + ½)/scale − ½.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        scale: how many times more rows and columns.
        kind: `bilinear`; `bicubic` with a = −0.75; `lanczos`, windowed by three lobes.

    Returns:
        ``(N, 1, scale·h, scale·w)`` in [-1, 1]: what a kernel overshoots is clipped.
    """
    return enlarge(lr, scale, kind).clamp(-1, 1)


def enlarge(image: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """As `interpolate`, of values in any range, which are left as they come out."""
    if kind == "lanczos":
        rows, columns = (_lanczos(size, scale).to(image) for size in image.shape[-2:])
        return rows @ image @ columns.T
    return nnf.interpolate(image, scale_factor=scale, mode=kind, align_corners=False)


def _lanczos(size: int, scale: int) -> Tensor:
    """``(scale·size, size)``: each HR pixel's weights, ``sinc(x)·sinc(x/3)``, over the LR pixels that exist, sum 1."""
    centres = (torch.arange(scale * size, dtype=torch.float64) + 0.5) / scale - 0.5
    away = centres[:, None] - torch.arange(size, dtype=torch.float64)
    weights = torch.sinc(away) * torch.sinc(away / LOBES) * (away.abs() < LOBES)
    return weights / weights.sum(dim=1, keepdim=True)
