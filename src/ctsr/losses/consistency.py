"""Whether SR still says what LR said: degraded again, without noise, both must look alike."""

from collections.abc import Sequence

from torch import Tensor

from ctsr.degrade import DegradationParams, degrade
from ctsr.losses.pixel import l1_loss

__all__ = ["consistency_loss"]


def consistency_loss(
    sr: Tensor, hr: Tensor, params: Sequence[DegradationParams], *, scale: int, antialias: bool = False
) -> Tensor:
    """Mean absolute difference between SR and HR once both are blurred and downsampled as LR was.

    A network that invents or removes structure larger than an LR pixel cannot hide it here; what lies in its null
    space (detail that LR never had) does not count.

    Args:
        sr: ``(N, 1, H, W)`` in [-1, 1]; gradients reach it.
        hr: the same shape.
        params: what each LR image was made with.
        scale: the network's.
        antialias: whether LR was downsampled with a low-pass of its own (`Degradation.antialias`).

    Returns:
        A scalar, [-1, 1] units.
    """
    noiseless = [one.noiseless for one in params]
    unused = [0] * len(noiseless)
    again, wanted = (degrade(image, noiseless, unused, scale=scale, antialias=antialias) for image in (sr, hr))
    return l1_loss(again, wanted)
