"""Whole slices through a network: no tiles, no seams."""

import torch
from torch import Tensor, nn

from ctsr.infer.engine import Engine, TorchEngine

__all__ = ["super_resolve"]


@torch.inference_mode()
def super_resolve(net: nn.Module | Engine, lr: Tensor) -> Tensor:
    """The network's answer to whole slices, one at a time so that memory does not grow with the batch.

    Args:
        net: maps ``(N, 1, h, w)`` in [-1, 1] to ``(N, 1, s·h, s·w)``, used in evaluation mode; or an engine that runs
            such a network.
        lr: ``(N, 1, h, w)`` in [-1, 1]; for a conditional network ``(N, 3, h, w)``, see `ctsr.infer.conditions`.

    Returns:
        ``(N, 1, s·h, s·w)`` in [-1, 1]: what the network says beyond the range it was trained on is clipped.
    """
    engine = TorchEngine(net) if isinstance(net, nn.Module) else net
    pieces = [engine(one[None]) for one in lr]
    return torch.cat(pieces).clamp_(-1, 1).to(lr.device, memory_format=torch.contiguous_format)
