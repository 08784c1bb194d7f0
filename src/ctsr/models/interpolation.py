"""What every network is measured against."""

from typing import Literal, TypeAlias

import torch.nn.functional as nnf
from torch import Tensor

__all__ = ["Interpolation", "enlarge", "interpolate"]

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]


def interpolate(lr: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """Enlarge by interpolation, with the pixel centres aligned: HR pixel i lies at LR coordinate (i + ½)/scale − ½.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        scale: how many times more rows and columns.
        kind: `bilinear`, or `bicubic` with a = −0.75.

    Returns:
        ``(N, 1, scale·h, scale·w)`` in [-1, 1]: what bicubic overshoots is clipped.
    """
    return enlarge(lr, scale, kind).clamp(-1, 1)


def enlarge(image: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """As `interpolate`, of values in any range, which are left as they come out."""
    return nnf.interpolate(image, scale_factor=scale, mode=kind, align_corners=False)
