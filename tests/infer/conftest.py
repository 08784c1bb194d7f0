"""Networks with known answers."""

import pytest
import torch
from torch import nn

from ctsr.models import Architecture, build
from ctsr.models.networks import RRDBNet, start_as_bilinear


def interpolating(nf: int = 4, nb: int = 1, gc: int = 2) -> RRDBNet:
    """×2, enlarges bilinearly up to rounding."""
    torch.manual_seed(0)
    net = build(Architecture("rrdb", 2, nf=nf, nb=nb, gc=gc))
    assert isinstance(net, RRDBNet)
    start_as_bilinear(net)
    return net.eval()


@pytest.fixture
def bilinear_net() -> nn.Module:
    return interpolating()


@pytest.fixture
def busy_net() -> nn.Module:
    """The same, and its trunk has a say of some ten HU in the result."""
    net = interpolating(nf=8, nb=2, gc=4)
    for weights in net.RRDB_trunk.parameters():
        weights.data *= 3
    net.conv_last.weight.data += 0.02 * torch.randn(net.conv_last.weight.shape)
    return net
