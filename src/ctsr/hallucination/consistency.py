"""Whether SR still says what LR said: degraded again, it must give LR but for LR's noise."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from ctsr.degrade import DegradationParams, degrade_hu
from ctsr.errors import DomainError
from ctsr.hu import FloatArray, HURange

__all__ = ["Consistency", "ResidualPatch", "consistency", "residual_hu"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ResidualPatch:
    """A square of LR pixels."""

    row: int
    column: int
    size: int
    mean_hu: float
    """Mean of SR degraded again − LR: noise averages out, what was added or taken away does not."""
    in_noise: float | None
    """`mean_hu` in standard deviations of the mean of that many pixels' noise; None where LR has no noise."""


@dataclass(frozen=True)
class Consistency:
    """The residual of one slice: SR degraded again without noise, less LR."""

    mean_abs_hu: float
    p95_hu: float
    """95th percentile of the absolute residual."""
    worst_hu: float
    """Its maximum."""
    noise_mean_abs_hu: float
    """What `mean_abs_hu` is for an SR that holds everything LR holds but its noise: σ·√(2/π)."""
    noise_p95_hu: float
    """The same of `p95_hu`: 1.96 σ."""
    worst_patch: ResidualPatch | None
    """The patch whose mean is farthest from 0; None where LR is smaller than a patch."""


def residual_hu(
    sr_hu: FloatArray,
    lr_hu: FloatArray,
    params: DegradationParams,
    *,
    scale: int,
    hu_range: HURange,
    antialias: bool = False,
) -> Values:
    """SR blurred and downsampled as LR was, without noise, less LR.

    LR was clipped to the range after its noise was added: in air only the upper half of the noise is left, so its mean
    lies 0.4 σ above air. SR is compared with that mean, not blamed for it.

    Args:
        sr_hu: (rows, columns), HU.
        lr_hu: (rows/scale, columns/scale), HU.
        params: what LR was made with.
        scale: rows of SR / rows of LR.
        hu_range: what LR was clipped to.
        antialias: see `Degradation.antialias`.

    Returns:
        The shape of LR, HU.

    Raises:
        DomainError: the shapes do not fit.
    """
    again = degrade_hu(sr_hu, params.noiseless, 0, scale=scale, hu_range=hu_range, antialias=antialias)
    if again.shape != lr_hu.shape:
        raise DomainError(f"SR of {sr_hu.shape} at scale {scale} does not belong to LR of {lr_hu.shape}")
    return _clipped_mean(again.astype(np.float64), _noise_hu(params, hu_range), hu_range) - lr_hu


def consistency(
    sr_hu: FloatArray,
    lr_hu: FloatArray,
    params: DegradationParams,
    *,
    scale: int,
    hu_range: HURange,
    antialias: bool = False,
    patch: int = 16,
) -> Consistency:
    """Summary of `residual_hu`, as a whole and by patches.

    Args: as `residual_hu`, and
        patch: side in LR pixels; patches do not overlap, what is left at the lower and right border is in none.
    """
    residual = residual_hu(sr_hu, lr_hu, params, scale=scale, hu_range=hu_range, antialias=antialias)
    noise, size = _noise_hu(params, hu_range), np.abs(residual)
    return Consistency(
        mean_abs_hu=float(size.mean()),
        p95_hu=float(np.percentile(size, 95)),
        worst_hu=float(size.max()),
        noise_mean_abs_hu=noise * float(np.sqrt(2 / np.pi)),
        noise_p95_hu=1.96 * noise,
        worst_patch=_worst_patch(residual, noise, patch),
    )


def _noise_hu(params: DegradationParams, hu_range: HURange) -> float:
    return params.noise_std * hu_range.hu_per_unit


def _clipped_mean(values: Values, noise: float, hu_range: HURange) -> Values:
    """The mean that noisy values have once they are clipped to the range."""
    if noise == 0:
        return values
    below, above = (values - hu_range.low) / noise, (hu_range.high - values) / noise
    return values + noise * (_overshoot(below) - _overshoot(above))


def _overshoot(distance: Values) -> Values:
    """Mean of what a standard normal deviate exceeds `distance` by, counted as 0 where it does not."""
    return np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi) - distance * ndtr(-distance)


def _worst_patch(residual: Values, noise: float, patch: int) -> ResidualPatch | None:
    rows, columns = (n // patch for n in residual.shape)
    if not rows or not columns:
        return None
    means = residual[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch).mean(axis=(1, 3))
    row, column = (int(i) for i in np.unravel_index(int(np.abs(means).argmax()), means.shape))
    mean = float(means[row, column])
    return ResidualPatch(row * patch, column * patch, patch, mean, mean / (noise / patch) if noise else None)
