"""Initial weights with which a network is bilinear interpolation."""

import torch
from torch import nn

from ctsr.models.networks import RRDBNet, SkipNet, ThroughPlaneNet

CARRIER = 0
"""The feature channel that carries the image through the network."""
LIFT = 1.0
"""Added on the way in and taken off on the way out: [-1, 1] becomes [0, 2], which LeakyReLU leaves as it is."""


@torch.no_grad()
def start_as_bilinear(net: nn.Module) -> None:
    """Set the weights so that the network enlarges an image bilinearly.

    Where a skip interpolates beside the network, the network begins with adding nothing. An `RRDBNet` has none and is
    made to interpolate. A network of another kind keeps the weights it has.

    Args:
        net: freshly built; changed in place.
    """
    if isinstance(net, SkipNet):
        net.conv_up.weight.zero_()
        _bias(net.conv_up).zero_()
    elif isinstance(net, ThroughPlaneNet):
        net.conv_last.weight.zero_()
        _bias(net.conv_last).zero_()
    elif isinstance(net, RRDBNet):
        _interpolate_in_stages(net)


def _interpolate_in_stages(net: RRDBNet) -> None:
    """Enlarge by two at each stage.

    The first channel carries the image past the trunk into the upsampling convolutions, whose kernels there are the
    weights ¾ and ¼ of bilinear interpolation; the last convolution listens to that channel only. All other weights
    keep their random values, and begin to matter with the first step. The architecture is untouched: training merely
    need not spend its first thousands of steps on learning to copy. Within a border of one LR pixel a stage, where
    convolutions see zeros instead of the image, the result is darker than bilinear.
    """
    _pass_through(net.conv_first, CARRIER, source=0, bias=LIFT)
    _silence(net.trunk_conv, CARRIER)
    for layer in net.upsampler:
        if isinstance(layer, nn.Conv2d):
            _interpolate(layer)
    net.conv_last.weight.zero_()
    _pass_through(net.conv_last, 0, source=CARRIER, bias=-LIFT)


def _silence(conv: nn.Conv2d, channel: int) -> None:
    conv.weight[channel] = 0
    _bias(conv)[channel] = 0


def _pass_through(conv: nn.Conv2d, channel: int, *, source: int, bias: float) -> None:
    """Make an output channel a copy of an input channel, plus `bias`."""
    _silence(conv, channel)
    conv.weight[channel, source, 1, 1] = 1
    _bias(conv)[channel] = bias


def _interpolate(conv: nn.Conv2d) -> None:
    """Make the four outputs that pixel shuffling turns into the carrier's 2×2 block its bilinear samples.

    Seen from an LR pixel, its four HR pixels lie a quarter of a pixel off its centre.
    """
    before, after = torch.tensor([0.25, 0.75, 0.0]), torch.tensor([0.0, 0.75, 0.25])
    for place in range(4):
        row, column = divmod(place, 2)
        channel = 4 * CARRIER + place
        _silence(conv, channel)
        conv.weight[channel, CARRIER] = torch.outer((before, after)[row], (before, after)[column])


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None, "the generator's convolutions have biases"
    return conv.bias
