"""Networks with known answers."""

import pytest
import torch
from torch import nn

from ctsr.models import Architecture, build
from ctsr.models.rrdb import RRDBNet
from ctsr.models.warm_start import start_as_bilinear


@pytest.fixture
def bilinear_net() -> nn.Module:
    """×2, enlarges bilinearly up to rounding."""
    torch.manual_seed(0)
    net = build(Architecture("rrdb", 2, nf=4, nb=1, gc=2))
    assert isinstance(net, RRDBNet)
    start_as_bilinear(net)
    return net.eval()
