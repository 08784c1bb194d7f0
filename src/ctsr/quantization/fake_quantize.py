"""Fake quantization: modules that compute in fp32 what 8-bit integers will compute, and can be trained.

A quantized convolution quantizes its weights per output channel, symmetrically about 0, and its input per tensor to 256
levels with a zero point. Weights use 127 of their 256 levels, 7 bits: processors without 8-bit dot products add two
products in 16 bits, which would overflow with 8-bit weights. Residual sums, and every convolution outside the trunk,
stay in fp32.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ctsr.errors import DomainError
from ctsr.models.architecture import TRUNKS, Architecture, StateDict, build

NUM_LEVELS = 256
"""Levels of an input."""
MAX_WEIGHT_STEP = 63
"""Largest magnitude of a quantized weight, in steps."""
MIN_RANGE = 1e-6
"""Smallest range of inputs and weights, so that scales are positive even where all values are 0."""


class FakeQuantize(nn.Module):
    """Round to the nearest of `NUM_LEVELS` levels; the gradient is 1 within the range and 0 outside."""

    scale: Tensor
    """Step between levels; a scalar."""
    zero_point: Tensor
    """Index of the level that is 0; an int32 scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))

    def set_range(self, low: float, high: float) -> None:
        """Spread the levels over ``[low, high]``, extended to contain 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        self.scale.fill_(max(high - low, MIN_RANGE) / (NUM_LEVELS - 1))
        self.zero_point.fill_(round(-low / float(self.scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, NUM_LEVELS - 1)


class QuantizedConv2d(nn.Conv2d):
    """A 3×3 convolution with quantized weights and input; bias and output stay in fp32.

    The scale of each output channel's weights is set from the initial weights and fixed during training.
    """

    weight_scale: Tensor
    """``(channels_out,)``."""
    weight_zero_point: Tensor
    """``(channels_out,)``, all 0."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, kernel_size=3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.input_quantizer = FakeQuantize()
        largest = conv.weight.detach().abs().amax((1, 2, 3))
        self.register_buffer("weight_scale", largest.clamp_min(MIN_RANGE) / MAX_WEIGHT_STEP)
        zeros = torch.zeros(conv.out_channels, dtype=torch.int32)
        self.register_buffer("weight_zero_point", zeros, persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (named as in nn.Conv2d)
        """``(N, channels_in, H, W)`` → ``(N, channels_out, H, W)``."""
        # The full 8-bit range, by which engines recognise quantized weights; `clamp_weights` keeps them to 7 bits.
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, self.weight_zero_point, 0, -128, 127
        )
        return self._conv_forward(self.input_quantizer(input), weight, self.bias)

    @torch.no_grad()
    def clamp_weights(self) -> None:
        """Clip weights to the quantized range, which a training step may have left."""
        limit = MAX_WEIGHT_STEP * self.weight_scale[:, None, None, None]
        self.weight.clamp_(-limit, limit)


def fake_quantized(net: nn.Module) -> nn.Module:
    """A copy of a network with a quantized trunk, in evaluation mode; input ranges are still to be calibrated.

    Raises:
        DomainError: the network has no known trunk.
    """
    net = copy.deepcopy(net)
    trunk_convs: list[tuple[str, nn.Conv2d]] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith(TRUNKS):
            trunk_convs.append((name, module))
    if not trunk_convs:
        raise DomainError("the network has no trunk that can be quantized")
    for name, conv in trunk_convs:
        parent, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(parent), attribute, QuantizedConv2d(conv))
    return net.eval()


def build_quantized(architecture: Architecture, state: StateDict) -> nn.Module:
    """Build the quantized network of an architecture and load weights and scales; the global RNG is not advanced.

    Raises:
        DomainError: `state` does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        net = fake_quantized(build(architecture))
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise DomainError(f"the weights are not those of a quantized {architecture}") from error
    return net


def input_quantizers(net: nn.Module) -> Iterator[tuple[str, FakeQuantize]]:
    """Quantizers of a network by name, in the order of its modules."""
    for name, module in net.named_modules():
        if isinstance(module, FakeQuantize):
            yield name, module
