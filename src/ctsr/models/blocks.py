"""The residual-in-residual dense block, and the convolution that all networks are made of."""

import torch
from torch import Tensor, nn

from ctsr.errors import DomainError

__all__ = ["CONVS_PER_BLOCK", "RRDB", "SLOPE", "DenseBlock", "check_widths", "conv3x3"]

SLOPE = 0.2
"""Of every LeakyReLU for negative inputs."""
RESIDUAL_SCALING = 0.2
"""What a block's residual is multiplied by before it is added: keeps a deep sum of residuals stable."""
INIT_SCALE = 0.1
"""What freshly drawn residual weights are multiplied by, for the same reason."""
CONVS_PER_BLOCK = 15
"""3×3 convolutions one after the other in an `RRDB`: three dense blocks of five."""


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps height and width (zero padding)."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def check_widths(nf: int, nb: int, gc: int | None = None) -> None:
    """Refuse hyper-parameters that make no network.

    Args:
        nf: channels of the trunk.
        nb: its blocks.
        gc: growth, where there are dense blocks.

    Raises:
        DomainError: one of them is below 1.
    """
    if gc is None and min(nf, nb) < 1:
        raise DomainError(f"a network needs nf and nb of at least 1, got nf={nf}, nb={nb}")
    if gc is not None and min(nf, nb, gc) < 1:
        raise DomainError(f"a network needs nf, nb and gc of at least 1, got nf={nf}, nb={nb}, gc={gc}")


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each seeing the outputs of all before it, added to the input after scaling.

    Weights start as Kaiming-normal × 0.1 with zero bias, as in ESRGAN (Wang et al. 2018, arXiv 1809.00219, §3.1):
    a fresh block is nearly the identity.

    Args:
        nf: channels in and out.
        gc: growth, channels that each of the first four convolutions adds.
    """

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(nf, gc)
        self.conv2 = conv3x3(nf + gc, gc)
        self.conv3 = conv3x3(nf + 2 * gc, gc)
        self.conv4 = conv3x3(nf + 3 * gc, gc)
        self.conv5 = conv3x3(nf + 4 * gc, nf)
        self.lrelu = nn.LeakyReLU(SLOPE, inplace=True)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            _init_residual(conv)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, nf, H, W)`` → the same shape."""
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = self.lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        x5 = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return x5 * RESIDUAL_SCALING + x


class RRDB(nn.Module):
    """Residual-in-residual dense block: three dense blocks and a scaled residual around them."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(nf, gc)
        self.rdb2 = DenseBlock(nf, gc)
        self.rdb3 = DenseBlock(nf, gc)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, nf, H, W)`` → the same shape."""
        return self.rdb3(self.rdb2(self.rdb1(x))) * RESIDUAL_SCALING + x


def _init_residual(conv: nn.Conv2d) -> None:
    if conv.weight.is_meta:
        # Shapes only: there is nothing to draw, and to draw nothing PyTorch would import its compiler, for seconds.
        return
    nn.init.kaiming_normal_(conv.weight)
    with torch.no_grad():
        conv.weight.mul_(INIT_SCALE)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
