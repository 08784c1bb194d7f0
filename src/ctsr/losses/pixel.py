"""The distance of pixels."""

import torch.nn.functional as nnf
from torch import Tensor

__all__ = ["l1_loss"]


def l1_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference; ``(N, 1, H, W)`` against the same, any linear unit → a scalar in that unit."""
    return nnf.l1_loss(sr, hr)
