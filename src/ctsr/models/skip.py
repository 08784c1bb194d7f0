"""Small networks that add detail to a bilinear enlargement: all work at LR, one pixel shuffle at the end."""

from torch import Tensor, nn
from torch.nn import functional

from ctsr.errors import DomainError
from ctsr.models.blocks import RRDB, check_widths, conv3x3
from ctsr.models.conditioning import ConditionedConv
from ctsr.models.interpolation import enlarge

SCALES = (2, 4)


class SkipNet(nn.Module):
    """SR = bilinear(LR) + detail, for one grey channel.

    The detail is made at LR: `conv_first`, a `trunk`, `conv_up` to scale² channels, and one pixel shuffle, as in ESPCN
    (Shi et al. 2016, arXiv 1609.05158). The trunk carries nothing of the image but what interpolation lacks, and with
    `conv_up` at zero the network is bilinear interpolation to the bit.

    Args:
        scale: 2 or 4.
        nf: channels of the trunk.
        trunk: ``(N, nf, h, w)`` → the same shape.
        conditional: take conditions beside the image, see `ctsr.models.conditioning`.

    Raises:
        DomainError: another scale.
    """

    def __init__(self, scale: int, nf: int, trunk: nn.Module, *, conditional: bool = False) -> None:
        super().__init__()
        if scale not in SCALES:
            raise DomainError(f"networks with a bilinear skip come in scales 2 and 4, not {scale}")
        self.scale = scale
        self.conv_first = ConditionedConv(nf) if conditional else conv3x3(1, nf)
        self.trunk = trunk
        self.conv_up = conv3x3(nf, scale**2)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)`` in [-1, 1], not clipped.

        A conditional network takes ``(N, 3, H, W)``.
        """
        detail = self.conv_up(self.trunk(self.conv_first(x)))
        return enlarge(x[:, :1], self.scale, "bilinear") + functional.pixel_shuffle(detail, self.scale)


class ResidualTrunk(nn.Module):
    """Blocks one after the other, a convolution, and the input added: the trunk of EDSR and of ESRGAN."""

    def __init__(self, nf: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = conv3x3(nf, nf)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, nf, H, W)`` → the same shape."""
        return x + self.conv(self.blocks(x))


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, and the input added; no normalisation (Lim et al. 2017, arXiv 1707.02921)."""

    def __init__(self, nf: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(nf, nf)
        self.conv2 = conv3x3(nf, nf)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, nf, H, W)`` → the same shape."""
        return x + self.conv2(functional.relu(self.conv1(x)))


class PlainTrunk(nn.Module):
    """Convolutions with a ReLU before and after each, and nothing beside them.

    Without skips no two ranges of values are ever added up: what 8-bit integers like best.
    """

    def __init__(self, nf: int, nb: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv3x3(nf, nf) for _ in range(nb))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, nf, H, W)`` → the same shape, not negative."""
        x = functional.relu(x)
        for layer in self.layers:
            x = functional.relu(layer(x))
        return x


def residual_net(scale: int, nf: int, nb: int, *, conditional: bool = False) -> SkipNet:
    """EDSR's trunk of `nb` residual blocks, at LR and with a bilinear skip.

    Raises:
        DomainError: another scale than 2 and 4, or a width below 1.
    """
    check_widths(nf, nb)
    trunk = ResidualTrunk(nf, [ResidualBlock(nf) for _ in range(nb)])
    return SkipNet(scale, nf, trunk, conditional=conditional)


def dense_net(scale: int, nf: int, nb: int, gc: int, *, conditional: bool = False) -> SkipNet:
    """ESRGAN's trunk of `nb` RRDBs with growth `gc`, with a bilinear skip.

    Raises:
        DomainError: another scale than 2 and 4, or a width below 1.
    """
    check_widths(nf, nb, gc)
    trunk = ResidualTrunk(nf, [RRDB(nf, gc) for _ in range(nb)])
    return SkipNet(scale, nf, trunk, conditional=conditional)


def plain_net(scale: int, nf: int, nb: int, *, conditional: bool = False) -> SkipNet:
    """A stack of `nb` convolutions, with a bilinear skip.

    Raises:
        DomainError: another scale than 2 and 4, or a width below 1.
    """
    check_widths(nf, nb)
    return SkipNet(scale, nf, PlainTrunk(nf, nb), conditional=conditional)
