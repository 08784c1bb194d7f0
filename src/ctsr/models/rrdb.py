"""The generator: an RRDB trunk at low resolution, then one pixel shuffle for each factor of two."""

from torch import Tensor, nn

from ctsr.errors import DomainError
from ctsr.models.blocks import RRDB, SLOPE, check_widths, conv3x3
from ctsr.models.conditioning import ConditionedConv

STAGES = {2: 1, 4: 2}
"""Scale → pixel shuffles of 2. Literal, so that no other scale is ever rounded to one of these."""


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
            raise DomainError(f"the RRDB network comes in scales 2 and 4, not {scale}")
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


def _upsampling(nf: int) -> tuple[nn.Module, ...]:
    """Twice the height and width."""
    return conv3x3(nf, 4 * nf), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE, inplace=True)
