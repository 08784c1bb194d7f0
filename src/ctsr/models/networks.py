"""The networks: ESRGAN's generator, small ones on a bilinear enlargement, Real-ESRGAN's; what they begin with."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctsr.errors import DomainError
from ctsr.models.conditioning import FOLD, THROUGH_PLANE_GAIN, ConditionedConv
from ctsr.models.interpolation import enlarge

STAGES = {2: 1, 4: 2}
"""Scale → pixel shuffles of 2. Literal, so that no other scale is ever rounded to one of these."""

SCALES = (2, 4)

UNSHUFFLE = {4: 1, 2: 2}
"""Scale → pixel unshuffle at the input. The network behind it always enlarges four times."""

SLOPE = 0.2
"""Slope of every LeakyReLU for negative inputs."""
RESIDUAL_SCALING = 0.2
"""What a block's residual is multiplied by before it is added: keeps a deep sum of residuals stable."""
INIT_SCALE = 0.1
"""What freshly drawn residual weights are multiplied by, for the same reason."""
CONVS_PER_BLOCK = 15
"""3×3 convolutions one after the other in an `RRDB`: three dense blocks of five."""


class RRDBNet(nn.Module):
    """ESRGAN's generator with pixel-shuffle upsampling, for one grey channel.

    The names of its parts are those of the keys in its checkpoints: `conv_first`, `RRDB_trunk.N.rdbM.convK`,
    `trunk_conv`, `upsampler.0` (and `upsampler.3` at ×4), `conv_last`. The convolutions of the trunk's blocks start
    at a tenth of Kaiming-normal (see `DenseBlock`), the others at PyTorch's default.

    Args:
        scale: 2 or 4.
        nf: channels of the trunk.
        nb: number of RRDBs.
        gc: growth of the dense blocks.
        conditional: take conditions beside the image, see `ctsr.models.conditioning`.

    Raises:
        DomainError: another scale, or a width below 1.
    """

    def __init__(self, scale: int = 2, nf: int = 64, nb: int = 23, gc: int = 32, *, conditional: bool = False) -> None:
        super().__init__()
        if scale not in STAGES:
            raise DomainError(f"the RRDB network is available at scales 2 and 4, not {scale}")
        check_widths(nf, nb, gc)
        self.conv_first = ConditionedConv(nf) if conditional else conv3x3(1, nf)
        self.RRDB_trunk = nn.Sequential(*(RRDB(nf, gc) for _ in range(nb)))
        self.trunk_conv = conv3x3(nf, nf)
        self.upsampler = nn.Sequential(*(part for _ in range(STAGES[scale]) for part in _upsampling(nf)))
        self.conv_last = conv3x3(nf, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)`` in [-1, 1], not clipped."""
        features = self.conv_first(x)
        features = features + self.trunk_conv(self.RRDB_trunk(features))
        return self.conv_last(self.upsampler(features))


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
            raise DomainError(f"networks with a bilinear skip are available at scales 2 and 4, not {scale}")
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


class ThroughPlaneNet(nn.Module):
    """Out = in + detail, for planes along the normal of slices that were interpolated to the distance that is wanted.

    Interpolated planes hold little of what is finer than two pixels, so blocks of 2 × 2 pixels become channels and the
    trunk works on a quarter of the pixels, as in FFDNet (Zhang, Zuo and Zhang 2018, arXiv 1710.04026): it sees twice as
    far at a quarter of the work. With `conv_last` at zero the network gives back its input.

    Args:
        nf: channels of the trunk.
        nb: its residual blocks.

    Raises:
        DomainError: a width below 1.
    """

    def __init__(self, nf: int, nb: int) -> None:
        super().__init__()
        check_widths(nf, nb)
        self.conv_first = ConditionedConv(nf, THROUGH_PLANE_GAIN)
        self.trunk = ResidualTrunk(nf, [ResidualBlock(nf) for _ in range(nb)])
        self.conv_last = conv3x3(nf, FOLD**2)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 5, z, w)``, see `through_plane_input` → ``(N, 1, z, w)`` in [-1, 1], not clipped; z and w even."""
        planes, told = x[:, :1], x[:, 1:, ::FOLD, ::FOLD]
        folded = torch.cat((functional.pixel_unshuffle(planes, FOLD), told), dim=1)
        detail = self.conv_last(self.trunk(self.conv_first(folded)))
        return planes + functional.pixel_shuffle(detail, FOLD)


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


class RealESRGANNet(nn.Module):
    """BasicSR's `RRDBNet` for one grey channel, seen from outside as any other network here.

    It differs from `RRDBNet` in three ways. It enlarges by nearest neighbour and convolution (`conv_up1`, `conv_up2`,
    `conv_hr`). At ×2 it folds each 2×2 block of pixels into channels first. And inside it works on [0, 1]: the two
    affine maps in `forward` are the adapter, so that callers give and get [-1, 1]. Its keys are BasicSR's.

    Args:
        scale: 2 or 4.
        nf: channels of the trunk.
        nb: number of RRDBs.
        gc: growth of the dense blocks.

    Raises:
        DomainError: another scale, or a width below 1.
    """

    def __init__(self, scale: int = 4, nf: int = 64, nb: int = 23, gc: int = 32) -> None:
        super().__init__()
        if scale not in UNSHUFFLE:
            raise DomainError(f"the Real-ESRGAN network is supported in scales 2 and 4, not {scale}")
        check_widths(nf, nb, gc)
        self.unshuffle = UNSHUFFLE[scale]
        self.conv_first = conv3x3(self.unshuffle**2, nf)
        self.body = nn.Sequential(*(RRDB(nf, gc) for _ in range(nb)))
        self.conv_body = conv3x3(nf, nf)
        self.conv_up1 = conv3x3(nf, nf)
        self.conv_up2 = conv3x3(nf, nf)
        self.conv_hr = conv3x3(nf, nf)
        self.conv_last = conv3x3(nf, 1)
        self.lrelu = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)`` in [-1, 1], not clipped.

        Where H or W is odd and pixels are unshuffled, a row or column is mirrored on and its result cut off again.
        """
        height, width = x.shape[-2:]
        scale = 4 // self.unshuffle
        enlarged = self._enlarge(self._unshuffled((x + 1) / 2))
        return (enlarged * 2 - 1)[..., : scale * height, : scale * width]

    def _unshuffled(self, image: Tensor) -> Tensor:
        if self.unshuffle == 1:
            return image
        height, width = image.shape[-2:]
        even = functional.pad(image, (0, width % self.unshuffle, 0, height % self.unshuffle), mode="reflect")
        return functional.pixel_unshuffle(even, self.unshuffle)

    def _enlarge(self, image: Tensor) -> Tensor:
        """``(N, unshuffle², H, W)`` in [0, 1] → ``(N, 1, 4H, 4W)`` in [0, 1]: BasicSR's forward pass."""
        features = self.conv_first(image)
        features = features + self.conv_body(self.body(features))
        for conv in (self.conv_up1, self.conv_up2):
            features = self.lrelu(conv(functional.interpolate(features, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(features)))


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


def _upsampling(nf: int) -> tuple[nn.Module, ...]:
    """Twice the height and width."""
    return conv3x3(nf, 4 * nf), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE, inplace=True)


def _init_residual(conv: nn.Conv2d) -> None:
    if conv.weight.is_meta:
        # Shapes only: there is nothing to draw, and to draw nothing PyTorch would import its compiler, for seconds.
        return
    nn.init.kaiming_normal_(conv.weight)
    with torch.no_grad():
        conv.weight.mul_(INIT_SCALE)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


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
