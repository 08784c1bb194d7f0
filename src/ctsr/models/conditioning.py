"""Conditional networks: told how blurred and how noisy their input is, they know what to undo."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctsr.errors import DomainError

CHANNELS = 2
"""Input channels that carry conditions: blur and noise."""
GAIN = (1.0, 1.0, 60.0)
"""Image, blur and noise times this are of the order of 1: noise of 25 HU is 0.017 in [-1, 1] units."""
GAIN_KEY = "conv_first.gain"
"""What weights of a conditional network have, and no others."""
FOLD = 2
"""Side of the blocks of pixels that a network between slices takes as channels."""
THROUGH_PLANE_CHANNELS = 4
"""Input channels that tell a network between slices of its input: thickness, distance, noise, and how far the nearest
slice is."""
THROUGH_PLANE_GAIN = (1.0,) * FOLD**2 + (0.25, 0.25, 60.0, 0.5)
"""As `GAIN`, for the folded image and what `through_plane_input` adds to it."""


ANCHOR = 2.0
"""LR pixels, standard deviation of the Gaussian below whose frequencies a result keeps to its source: wide enough to
bring back a seventh of white noise at most, narrow enough to hold the mean HU of any organ."""


@dataclass(frozen=True)
class Conditions:
    """What a conditional network is told of an LR image, and how much of that image its result keeps."""

    blur_sigma: float
    """Standard deviation of the Gaussian that blurred it, in HR pixels."""
    noise_sigma: float
    """Standard deviation of the noise in it, in [-1, 1] units."""
    anchor: float = ANCHOR
    """LR pixels, see `ANCHOR`. The network is not told it. Narrower, more comes back of faint anatomy that the network
    took for noise, and of noise."""

    def __post_init__(self) -> None:
        if not all(0 <= value < float("inf") for value in (self.blur_sigma, self.noise_sigma, self.anchor)):
            raise DomainError(
                f"conditions must be finite and not negative: blur {self.blur_sigma}, noise {self.noise_sigma}, "
                f"anchor {self.anchor}"
            )


@dataclass(frozen=True)
class ThroughPlaneConditions:
    """What a network between slices is told of the series that its input was interpolated from.

    Lengths are in units of the distance between the slices that are wanted.
    """

    thickness: float
    """Width of the slice profile."""
    distance: float
    """From one source slice to the next."""
    noise_sigma: float
    """Standard deviation of the noise in the source slices, in [-1, 1] units."""

    def __post_init__(self) -> None:
        if not (0 < self.thickness < math.inf and 0 < self.distance < math.inf and 0 <= self.noise_sigma < math.inf):
            raise DomainError(
                f"thickness {self.thickness} and distance {self.distance} of slices must be above 0 and finite, "
                f"noise {self.noise_sigma} not negative"
            )


class ConditionedConv(nn.Conv2d):
    """The first 3×3 convolution of a conditional network: of the image and one map for each condition.

    Args:
        channels_out: feature channels.
        gain: of each input channel.
    """

    gain: Tensor
    """``(channels, 1, 1)``; kept with the weights, which it belongs to."""

    def __init__(self, channels_out: int, gain: Sequence[float] = GAIN) -> None:
        super().__init__(len(gain), channels_out, kernel_size=3, padding=1)
        self.register_buffer("gain", torch.tensor(gain)[:, None, None])

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (what nn.Conv2d calls it)
        """``(N, channels, H, W)`` → ``(N, channels_out, H, W)``."""
        return super().forward(input * self.gain)


def with_conditions(lr: Tensor, conditions: Sequence[Conditions]) -> Tensor:
    """The input of a conditional network.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        conditions: one for each of the N images.

    Returns:
        ``(N, 3, h, w)``: the image, its blur in HR pixels, its noise in [-1, 1] units.
    """
    if len(conditions) != len(lr):
        raise DomainError(f"{len(lr)} images need as many conditions, got {len(conditions)}")
    values = torch.tensor([(c.blur_sigma, c.noise_sigma) for c in conditions], dtype=lr.dtype)
    maps = values.to(lr.device)[:, :, None, None].expand(-1, -1, *lr.shape[-2:])
    return torch.cat((lr, maps), dim=1)


def through_plane_input(planes: Tensor, conditions: Sequence[ThroughPlaneConditions], to_nearest: Tensor) -> Tensor:
    """The input of a network between slices.

    Args:
        planes: ``(N, 1, z, w)`` in [-1, 1]: along the slices' normal, interpolated to the distance that is wanted.
        conditions: one for each of the N planes.
        to_nearest: ``(N, z)``: from each row to the nearest source slice along z, in rows, with its sign.

    Returns:
        ``(N, 5, z, w)``: the plane, thickness and distance in rows, noise in [-1, 1] units, `to_nearest`.
    """
    if len(conditions) != len(planes):
        raise DomainError(f"{len(planes)} planes need as many conditions, got {len(conditions)}")
    values = torch.tensor([(c.thickness, c.distance, c.noise_sigma) for c in conditions], dtype=planes.dtype)
    constant = values.to(planes.device)[:, :, None, None].expand(-1, -1, *planes.shape[-2:])
    rows = to_nearest.to(planes)[:, None, :, None].expand(-1, 1, -1, planes.shape[-1])
    return torch.cat((planes, constant, rows), dim=1)


def is_conditional(net: nn.Module) -> bool:
    """Whether a network takes `Conditions` beside the image."""
    return input_channels(net) == 1 + CHANNELS


def is_through_plane(net: nn.Module) -> bool:
    """Whether a network makes slices between slices, and takes what `through_plane_input` makes."""
    return input_channels(net) == 1 + THROUGH_PLANE_CHANNELS


def input_channels(net: nn.Module) -> int:
    """Channels of a network's input: 1; 3 where it is conditional, 5 between slices."""
    first = getattr(net, "conv_first", None)
    if not isinstance(first, ConditionedConv):
        return 1
    return 1 + (THROUGH_PLANE_CHANNELS if first.in_channels == len(THROUGH_PLANE_GAIN) else CHANNELS)
