"""Networks that compute in fp32 what 8-bit integers will: their roundings are parts of them, and can be trained with.

A rounded convolution rounds twice: its weights, for each output channel alike on both sides of 0; and its input, to 256
values of which 0 is one. Weights take 127 values, one bit less than there is room for: processors without 8-bit dot
products add two products up in 16 bits, which 8-bit weights would overflow.

What is not rounded stays in fp32: sums of residuals, and every convolution outside the trunk.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ctsr.errors import DomainError
from ctsr.models.architecture import TRUNKS, Architecture, StateDict, build

__all__ = ["LEVELS", "RoundedConv", "Rounding", "rounded", "rounded_like", "roundings"]

LEVELS = 256
"""Values that an input can have."""
MOST_WEIGHT = 63
"""Steps on each side of 0 that a weight can be away from it."""
LEAST_RANGE = 1e-6
"""For inputs and weights that are 0 throughout."""


class Rounding(nn.Module):
    """Values to the nearest of `LEVELS`; gradients pass inside the range, and stop at what it clips."""

    scale: Tensor
    """The step between levels; a scalar."""
    zero_point: Tensor
    """Which level is 0; an int32 scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))

    def cover(self, low: float, high: float) -> None:
        """Lay the levels over a range, widened to have 0 in it."""
        low, high = min(low, 0.0), max(high, 0.0)
        self.scale.fill_(max(high - low, LEAST_RANGE) / (LEVELS - 1))
        self.zero_point.fill_(round(-low / float(self.scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, LEVELS - 1)


class RoundedConv(nn.Conv2d):
    """A 3×3 convolution of rounded weights and a rounded input; its bias and its result are not rounded.

    The step of each output channel's weights is set by the weights it is made from, and kept in training.
    """

    weight_scale: Tensor
    """``(channels_out,)``."""
    zero: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, kernel_size=3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.entry = Rounding()
        largest = conv.weight.detach().abs().amax((1, 2, 3))
        self.register_buffer("weight_scale", largest.clamp_min(LEAST_RANGE) / MOST_WEIGHT)
        self.register_buffer("zero", torch.zeros(conv.out_channels, dtype=torch.int32), persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (what nn.Conv2d calls it)
        """``(N, channels_in, H, W)`` → ``(N, channels_out, H, W)``."""
        # By the whole range of 8 bits: what engines know weights by. `hold` keeps them in the half that is used.
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.weight_scale, self.zero, 0, -128, 127)
        return self._conv_forward(self.entry(input), weight, self.bias)

    @torch.no_grad()
    def hold(self) -> None:
        """Bring weights that a training step moved beyond the last level back to it."""
        most = MOST_WEIGHT * self.weight_scale[:, None, None, None]
        self.weight.clamp_(-most, most)


def rounded(net: nn.Module) -> nn.Module:
    """A copy of a network whose trunk is rounded; its input ranges are still to be set: `Rounding.cover`.

    Raises:
        DomainError: it has no trunk that is known.
    """
    net = copy.deepcopy(net)
    convs = [(name, one) for name, one in net.named_modules() if isinstance(one, nn.Conv2d) and name.startswith(TRUNKS)]
    if not convs:
        raise DomainError("the network has no trunk that could be rounded to 8 bits")
    for name, conv in convs:
        parent, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(parent), leaf, RoundedConv(conv))
    return net.eval()


def rounded_like(architecture: Architecture, state: StateDict) -> nn.Module:
    """The rounded network that these weights and ranges belong to; the global random state is left alone.

    Raises:
        DomainError: they do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        net = rounded(build(architecture))
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise DomainError(f"the weights are not those of a rounded {architecture}") from error
    return net


def roundings(net: nn.Module) -> Iterator[tuple[str, Rounding]]:
    """Those of inputs, by name, in the order of the network's parts."""
    return ((name, one) for name, one in net.named_modules() if isinstance(one, Rounding))
