"""The RRDB network of BasicSR and Real-ESRGAN, so that published weights can be loaded."""

from torch import Tensor, nn
from torch.nn import functional

from ctsr.errors import DomainError
from ctsr.models.blocks import RRDB, SLOPE, check_widths, conv3x3

__all__ = ["UNSHUFFLE", "RealESRGANNet"]

UNSHUFFLE = {4: 1, 2: 2}
"""Scale → pixel unshuffle at the input. The network behind it always enlarges four times."""


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
