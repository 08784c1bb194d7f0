"""Conditional networks: told how blurred and how noisy their input is, they know what to undo."""

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


@dataclass(frozen=True)
class Conditions:
    """What a conditional network is told of an LR image."""

    blur_sigma: float
    """Standard deviation of the Gaussian that blurred it, in HR pixels."""
    noise_sigma: float
    """Standard deviation of the noise in it, in [-1, 1] units."""

    def __post_init__(self) -> None:
        if not (0 <= self.blur_sigma < float("inf") and 0 <= self.noise_sigma < float("inf")):
            raise DomainError(
                f"conditions must be finite and not negative: blur {self.blur_sigma}, noise {self.noise_sigma}"
            )


class ConditionedConv(nn.Conv2d):
    """The first 3×3 convolution of a conditional network: of the image and one map for each condition.

    Args:
        channels_out: feature channels.
    """

    gain: Tensor
    """``(3, 1, 1)``; kept with the weights, which it belongs to."""

    def __init__(self, channels_out: int) -> None:
        super().__init__(1 + CHANNELS, channels_out, kernel_size=3, padding=1)
        self.register_buffer("gain", torch.tensor(GAIN)[:, None, None])

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (what nn.Conv2d calls it)
        """``(N, 3, H, W)`` → ``(N, channels_out, H, W)``."""
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


def is_conditional(net: nn.Module) -> bool:
    """Whether a network takes conditions beside the image."""
    return isinstance(getattr(net, "conv_first", None), ConditionedConv)


def input_channels(net: nn.Module) -> int:
    """Channels of a network's input: 1, or 3 where it is conditional."""
    return 1 + CHANNELS if is_conditional(net) else 1
