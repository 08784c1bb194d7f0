"""Methods as functions from an LR slice in HU to an SR slice in HU: what tests of a method's behaviour call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from ctsr.degrade import DegradationParams
from ctsr.hu import FloatArray, HURange
from ctsr.infer.conditions import drawn_conditions
from ctsr.infer.engine import Engine, TorchEngine
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.models.conditioning import Conditions, is_conditional
from ctsr.models.interpolation import Interpolation, interpolate
from ctsr.padding import SlicePixels

SuperResolver: TypeAlias = Callable[[FloatArray], FloatArray]
"""(rows, columns) in HU → (scale·rows, scale·columns) in HU, on the same field of view."""


def by_interpolation(kind: Interpolation, scale: int, hu_range: HURange) -> SuperResolver:
    """A baseline of evaluations, see `ctsr.models.interpolation.interpolate`."""

    def resolve(lr_hu: FloatArray) -> FloatArray:
        sr = interpolate(torch.from_numpy(hu_range.to_unit(lr_hu))[None, None], scale, kind)
        return hu_range.to_hu(sr[0, 0].numpy())

    return resolve


@dataclass(frozen=True)
class NetworkMethod:
    """A network as a function of slices; a conditional one must be told how LR was made first."""

    resolver: SliceSuperResolver
    conditions: Conditions | None = None
    fixed: Conditions | None = None
    """What it is told of every image, whatever that was made with."""

    def __call__(self, lr_hu: FloatArray) -> FloatArray:
        """(rows, columns) in HU → (scale·rows, scale·columns) in HU, within the network's range."""
        pixels = SlicePixels(np.asarray(lr_hu, np.float32), None)
        sr = self.resolver(pixels, self.conditions).hu
        return np.clip(sr, self.resolver.hu_range.low, self.resolver.hu_range.high)


def by_network(net: nn.Module | Engine, scale: int, hu_range: HURange, *, conditional: bool = False) -> NetworkMethod:
    """A network, or an engine that runs it, as `ctsr upscale` applies it to slices.

    Args:
        net: the network, or an engine that runs it.
        scale: how many times finer SR is than LR.
        hu_range: HU that the network sees as [-1, 1].
        conditional: whether an engine's network takes conditions; read off a network.
    """
    if isinstance(net, nn.Module):
        conditional, net = is_conditional(net), TorchEngine(net)
    return NetworkMethod(SliceSuperResolver(net, scale, hu_range, conditional=conditional))


def telling(method: SuperResolver, made_with: DegradationParams | Conditions) -> SuperResolver:
    """The method told how its LR images were made, or what to take them for; others are returned as they are."""
    if isinstance(method, NetworkMethod) and method.resolver.conditional:
        drawn = drawn_conditions(made_with) if isinstance(made_with, DegradationParams) else made_with
        return replace(method, conditions=method.fixed or drawn)
    return method
