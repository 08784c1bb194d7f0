"""Methods as functions from an LR slice in HU to an SR slice in HU: what tests of a method's behaviour call."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ctsr.hu import FloatArray, HURange
from ctsr.infer.engine import Engine
from ctsr.infer.slices import super_resolve
from ctsr.models.interpolation import Interpolation, interpolate

__all__ = ["SuperResolver", "by_interpolation", "by_network"]

SuperResolver: TypeAlias = Callable[[FloatArray], FloatArray]
"""(rows, columns) in HU → (scale·rows, scale·columns) in HU, on the same field of view."""


def by_interpolation(kind: Interpolation, scale: int, hu_range: HURange) -> SuperResolver:
    """The baseline of the evaluation: see `ctsr.models.interpolate`."""
    return _in_hu(lambda lr: interpolate(lr, scale, kind), hu_range)


def by_network(net: nn.Module | Engine, hu_range: HURange) -> SuperResolver:
    """A network, or an engine that runs it: see `super_resolve`."""
    return _in_hu(lambda lr: super_resolve(net, lr), hu_range)


def _in_hu(method: Callable[[Tensor], Tensor], hu_range: HURange) -> SuperResolver:
    def resolve(lr_hu: FloatArray) -> FloatArray:
        sr = method(torch.from_numpy(hu_range.to_unit(lr_hu))[None, None])
        return hu_range.to_hu(sr[0, 0].cpu().numpy())

    return resolve
