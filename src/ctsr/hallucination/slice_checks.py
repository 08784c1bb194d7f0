"""Checks of one SR slice for invented detail: LR-consistency, and scanning Fourier ring correlation (sFRC) with HR.

LR-consistency: SR that is degraded again must give LR but for LR's noise.

sFRC finds patches where SR and HR lose their correlation at a frequency that they should still share. Source: Kc, Zeng,
Soni and Badano (FDA), "sFRC for assessing hallucinations in medical image restoration", arXiv:2603.04673 (2026),
first as doi:10.36227/techrxiv.171259560.02243347 (2024), with their parameters for CT super-resolution: patches of
64×64 under a Hann window, threshold 0.5, limit 0.33/mm. `docs/explanation/physics.md` describes the
departures from the paper.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import convolve2d
from scipy.special import ndtr, ndtri

from ctsr.degrade import DegradationParams, degrade_hu
from ctsr.degrade.degradation import WHOLE_SLICE_MODELS
from ctsr.degrade.noise import noise_kernel
from ctsr.errors import DomainError
from ctsr.hu import FloatArray, HURange, body_mask

NOISE_PIXELS, NOISE_QUANTILES = 2048, 800
"""Pixels of a slice, and values of its noise at each, from which the level of a perfect SR is computed."""

BODY_SHARE = 0.1
"""Least share of body in a patch: those with less show air and the table."""

Values = npt.NDArray[np.float64]


# LR-consistency


@dataclass(frozen=True)
class ResidualPatch:
    """A square of LR pixels."""

    row: int
    column: int
    size: int
    mean_hu: float
    """Mean of SR degraded again − LR: noise averages out, added and lost detail does not."""
    in_noise: float | None
    """`mean_hu` in standard deviations of the mean of so many pixels of LR's noise, white or correlated; None where
    there is none, and where it is that of a scan or an exam, which differs from place to place."""


@dataclass(frozen=True)
class Consistency:
    """Residual of one slice: SR degraded again without noise, less LR."""

    mean_abs_hu: float
    p95_hu: float
    """95th percentile of the absolute residual."""
    worst_hu: float
    """Its maximum."""
    noise_mean_abs_hu: float
    """`mean_abs_hu` of an SR that holds everything that LR holds but its noise: σ·√(2/π) where nothing is clipped."""
    noise_p95_hu: float
    """The same of `p95_hu`: 1.96 σ where nothing is clipped."""
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
    """Degrade SR as LR was, without noise, and subtract LR.

    LR was clipped to the range after its noise was added: in air only the upper half of the noise is left, and its mean
    is 0.4 σ above air. SR is compared with this mean.

    Args:
        sr_hu: (rows, columns), HU.
        lr_hu: (rows/scale, columns/scale), HU.
        params: of LR.
        scale: rows of SR / rows of LR.
        hu_range: to which LR was clipped.
        antialias: see `Degradation.antialias`.

    Returns:
        The shape of LR, HU.

    Raises:
        DomainError: the shapes do not fit.
    """
    again = degrade_hu(sr_hu, params.noiseless, 0, scale=scale, hu_range=hu_range, antialias=antialias)
    if again.shape != lr_hu.shape:
        raise DomainError(f"SR of {sr_hu.shape} at scale {scale} does not match LR of {lr_hu.shape}")
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
        patch: side in LR pixels; patches do not overlap, and pixels left over below and at the right are in none.
    """
    residual = residual_hu(sr_hu, lr_hu, params, scale=scale, hu_range=hu_range, antialias=antialias)
    noise, size = _noise_hu(params, hu_range), np.abs(residual)
    again = degrade_hu(sr_hu, params.noiseless, 0, scale=scale, hu_range=hu_range, antialias=antialias)
    left = _noise_left(again.astype(np.float64), noise, hu_range)
    return Consistency(
        mean_abs_hu=float(size.mean()),
        p95_hu=float(np.percentile(size, 95)),
        worst_hu=float(size.max()),
        noise_mean_abs_hu=float(left.mean()),
        noise_p95_hu=float(np.percentile(left, 95)),
        worst_patch=_worst_patch(residual, _noise_of_means(params, patch) * noise, patch),
    )


def _noise_hu(params: DegradationParams, hu_range: HURange) -> float:
    return params.noise_std * hu_range.hu_per_unit


def _clipped_mean(values: Values, noise: float, hu_range: HURange) -> Values:
    """Mean of noisy values after clipping to the range."""
    if noise == 0:
        return values
    below, above = (values - hu_range.low) / noise, (hu_range.high - values) / noise
    return values + noise * (_overshoot(below) - _overshoot(above))


def _noise_left(values: Values, noise: float, hu_range: HURange) -> Values:
    """Absolute noise about its mean once clipped to the range, at evenly spread pixels and quantiles of the normal law.

    Args:
        values: (rows, columns), HU without noise.
        noise: standard deviation in HU.
        hu_range: to which LR is clipped.

    Returns:
        (quantiles, pixels), HU.
    """
    step = max(1, round((values.size / NOISE_PIXELS) ** 0.5))
    pixels = values[::step, ::step].ravel()
    quantiles = ndtri((np.arange(NOISE_QUANTILES) + 0.5) / NOISE_QUANTILES)
    noisy = np.clip(pixels + noise * quantiles[:, None], hu_range.low, hu_range.high)
    return np.abs(noisy - _clipped_mean(pixels, noise, hu_range))


def _overshoot(distance: Values) -> Values:
    """Mean of max(z − `distance`, 0) for a standard normal z."""
    return np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi) - distance * ndtr(-distance)


@lru_cache(maxsize=64)
def _noise_of_means(params: DegradationParams, patch: int) -> float:
    """Standard deviation of the mean of patch×patch pixels, as a part of the noise's; 0 where it is not known."""
    if params.noise_model in WHOLE_SLICE_MODELS:
        return 0.0
    if params.noise_model == "white":
        return 1 / patch
    # White noise under a kernel: the mean weighs each pixel of it by the sum of the kernel over the patch.
    weights = convolve2d(noise_kernel(params.noise_cutoff).astype(np.float64), np.full((patch, patch), 1 / patch**2))
    return float(np.sqrt((weights**2).sum()))


def _worst_patch(residual: Values, noise: float, patch: int) -> ResidualPatch | None:
    """The patch whose mean is farthest from 0, beside the standard deviation of such a mean."""
    rows, columns = residual.shape[0] // patch, residual.shape[1] // patch
    if not rows or not columns:
        return None
    means = residual[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch).mean(axis=(1, 3))
    row, column = divmod(int(np.abs(means).argmax()), columns)
    mean = float(means[row, column])
    return ResidualPatch(row * patch, column * patch, patch, mean, mean / noise if noise else None)


# Scanning Fourier ring correlation


@dataclass(frozen=True)
class SFRCSettings:
    """Criteria for flagging a patch."""

    patch: int = 64
    """Pixels along each side, even."""
    stride: int = 32
    """Pixels from one patch to the next. Equal to `patch`, as in the paper, patches lie side by side, and the window of
    each hides what lies where four of them meet."""
    threshold: float = 0.5
    """Correlation below which the images no longer agree."""
    limit_per_mm: float = 0.33
    """A patch is flagged where the correlation falls to the threshold at this frequency or below."""
    floor_hu: float = 10.0
    """A patch is not judged where neither image varies by this much (standard deviation) up to the limit."""

    def __post_init__(self) -> None:
        if self.patch < 8 or self.patch % 2:
            raise DomainError(f"an sFRC patch needs an even number of at least 8 pixels, got {self.patch}")
        if not 1 <= self.stride <= self.patch:
            raise DomainError(f"sFRC patches must be 1 … {self.patch} pixels apart, got {self.stride}")


@dataclass(frozen=True)
class FlaggedPatch:
    """A patch where the correlation falls to the threshold at `frequency_per_mm`, within the limit."""

    row: int
    column: int
    frequency_per_mm: float


@dataclass(frozen=True)
class SFRC:
    """The patches of one slice."""

    judged: int
    """Patches with structure."""
    unjudged: int
    """Patches outside the body, and flat ones."""
    share: float | None
    """Flagged of judged; None where none was judged."""
    flagged: tuple[FlaggedPatch, ...]
    """The lowest frequency first."""
    floor_hu: float
    """The greater of the settings' and twice LR's noise."""
    settings: SFRCSettings


def sfrc(
    sr_hu: FloatArray,
    hr_hu: FloatArray,
    pixel_mm: float,
    *,
    noise_hu: float = 0.0,
    settings: SFRCSettings | None = None,
) -> SFRC:
    """Check the patches of a slice.

    Patches overlap by half; the last of a row or column is moved back to end at the border. A structure in only one of
    the images is judged, too: an invented one has no counterpart in HR.

    Args:
        sr_hu: (rows, columns), HU.
        hr_hu: the same shape.
        pixel_mm: side of a pixel.
        noise_hu: standard deviation of LR's noise; noise that SR kept is uncorrelated and no structure.
        settings: see `SFRCSettings`.

    Raises:
        DomainError: the shapes differ.
    """
    settings = settings or SFRCSettings()
    if sr_hu.shape != hr_hu.shape:
        raise DomainError(f"SR and HR must have one shape, got {sr_hu.shape} and {hr_hu.shape}")
    floor, body = max(settings.floor_hu, 2 * noise_hu), body_mask(hr_hu)
    flagged, judged, unjudged = list[FlaggedPatch](), 0, 0
    for row in _places(sr_hu.shape[0], settings):
        for column in _places(sr_hu.shape[1], settings):
            part = (slice(row, row + settings.patch), slice(column, column + settings.patch))
            sr, hr = sr_hu[part], hr_hu[part]
            outside = float(body[part].mean()) < BODY_SHARE
            if outside or not _has_structure(sr, hr, pixel_mm, settings.limit_per_mm, floor):
                unjudged += 1
                continue
            judged += 1
            parting = parting_frequency(frc_curve(sr, hr), pixel_mm, settings.threshold)
            if parting is not None and parting <= settings.limit_per_mm:
                flagged.append(FlaggedPatch(row, column, parting))
    flagged.sort(key=lambda found: found.frequency_per_mm)
    share = len(flagged) / judged if judged else None
    return SFRC(judged, unjudged, share, tuple(flagged), floor, settings)


def frc_curve(sr: FloatArray, hr: FloatArray) -> Values:
    """Compute the Fourier ring correlation of two square patches: ``Σ F·G* / √(Σ|F|²·Σ|G|²)`` over each ring.

    The sum is real, as a ring holds every frequency with its opposite. Its sign is kept: opposite contrast does not
    correlate. The mean of each patch under the window is subtracted first, so that the common brightness does not leak
    into the first rings and hide differences there.

    Args:
        sr: (n, n), n even.
        hr: the same shape.

    Returns:
        (n/2): ring k holds the frequencies that round to k/(n · pixel). Ring 0, the mean, is 1; so is a ring that
        neither patch has power in, and 0 is one that only one of them has.
    """
    f, g = _transform(sr), _transform(hr)
    cross = _ring_sums((f * g.conj()).real)
    f_power, g_power = _ring_sums(np.abs(f) ** 2), _ring_sums(np.abs(g) ** 2)
    power = np.sqrt(f_power * g_power)
    # Power at the level of rounding errors counts as none.
    nothing = 1e-12 * max(float(f_power.sum()), float(g_power.sum()))
    same = np.where((f_power <= nothing) & (g_power <= nothing), 1.0, 0.0)
    curve = np.where(power > nothing, cross / np.where(power > nothing, power, 1), same)
    curve[0] = 1.0
    return curve


def _ring_sums(spectrum: Values) -> Values:
    count = len(spectrum) // 2
    sums = np.bincount(_rings(len(spectrum)), spectrum.ravel(), count + 1)[:count]
    return np.asarray(sums, np.float64)


def parting_frequency(curve: Values, pixel_mm: float, threshold: float) -> float | None:
    """Frequency where a curve first falls to the threshold, 1/mm, interpolated between rings; None if it never does."""
    below = np.flatnonzero(curve <= threshold)
    if not below.size:
        return None
    after = int(below[0])
    fraction = (curve[after - 1] - threshold) / (curve[after - 1] - curve[after])
    return float(after - 1 + fraction) / (2 * len(curve) * pixel_mm)


def _places(length: int, settings: SFRCSettings) -> list[int]:
    last = length - settings.patch
    regular = list(range(0, last + 1, settings.stride))
    return [*regular, last] if regular and regular[-1] != last else regular


def _has_structure(sr: FloatArray, hr: FloatArray, pixel_mm: float, limit_per_mm: float, floor_hu: float) -> bool:
    size = len(sr)
    rings = _rings(size)
    band = (rings > 0) & (rings <= limit_per_mm * size * pixel_mm)
    # Parseval: the variance of a stationary patch, from its windowed transform.
    share = size**2 * float((_window(size) ** 2).sum())
    strongest = max(float((np.abs(_transform(patch)).ravel()[band] ** 2).sum()) for patch in (sr, hr))
    return bool(strongest > floor_hu**2 * share)


def _transform(patch: FloatArray) -> npt.NDArray[np.complex128]:
    window = _window(len(patch))
    mean = float((patch * window).sum() / window.sum())
    return np.fft.fft2((patch.astype(np.float64) - mean) * window)


@lru_cache(maxsize=4)
def _window(size: int) -> Values:
    return np.outer(np.hanning(size), np.hanning(size))


@lru_cache(maxsize=4)
def _rings(size: int) -> npt.NDArray[np.int64]:
    """Ring number of each frequency, flattened; all beyond the inscribed circle share ring size/2."""
    axis = np.fft.fftfreq(size, 1 / size)
    return np.minimum(np.rint(np.hypot(axis[:, None], axis[None])).astype(np.int64).ravel(), size // 2)
