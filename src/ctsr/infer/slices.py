"""Whole slices through a network: no tiles, no seams."""

import torch
from torch import Tensor, nn

__all__ = ["super_resolve"]


@torch.inference_mode()
def super_resolve(net: nn.Module, lr: Tensor) -> Tensor:
    """The network's answer to whole slices, one at a time so that memory does not grow with the batch.

    Args:
        net: maps ``(N, 1, h, w)`` in [-1, 1] to ``(N, 1, s·h, s·w)``; used in evaluation mode.
        lr: ``(N, 1, h, w)`` in [-1, 1].

    Returns:
        ``(N, 1, s·h, s·w)`` in [-1, 1]: what the network says beyond the range it was trained on is clipped.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    try:
        pieces = [net(one[None].to(device, memory_format=torch.channels_last)) for one in lr]
    finally:
        net.train(was_training)
    return torch.cat(pieces).clamp_(-1, 1).to(lr.device, memory_format=torch.contiguous_format)
