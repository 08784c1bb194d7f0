"""What a conditional network is told of an image whose degradation is known."""

from collections.abc import Sequence

from torch import Tensor

from ctsr.degrade import DegradationParams
from ctsr.models.conditioning import Conditions, with_conditions


def drawn_conditions(params: DegradationParams) -> Conditions:
    """The blur and the noise that an LR image was made with."""
    return Conditions(params.blur_sigma, params.noise_std)


def network_input(lr: Tensor, params: Sequence[DegradationParams], *, conditional: bool) -> Tensor:
    """What a network takes to see LR images that were made with `params`.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        params: one for each of the N images.
        conditional: whether the network takes conditions.

    Returns:
        ``(N, 1, h, w)``, or ``(N, 3, h, w)`` for a conditional network.
    """
    return with_conditions(lr, [drawn_conditions(p) for p in params]) if conditional else lr
