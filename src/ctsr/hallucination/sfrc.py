"""Scanning Fourier ring correlation: patches where SR and HR part ways at a frequency they should still share.

After Kc, Zeng, Soni and Badano (FDA), "sFRC for assessing hallucinations in medical image restoration",
arXiv:2603.04673 (2026), first as doi:10.36227/techrxiv.171259560.02243347 (2024), with their parameters for CT
super-resolution: patches of 64×64 under a Hann window, threshold 0.5, limit 0.33/mm. `docs/physics.md` says where this
departs from the paper.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ctsr.body_mask import body_mask
from ctsr.errors import DomainError
from ctsr.hu import FloatArray

__all__ = ["SFRC", "FlaggedPatch", "SFRCSettings", "frc_curve", "parting_frequency", "sfrc"]

BODY_SHARE = 0.1
"""Of a patch: one with less of the body in it shows air and the table."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SFRCSettings:
    """When a patch is flagged."""

    patch: int = 64
    """Pixels along each side, even."""
    stride: int = 32
    """Pixels from one patch to the next. With `patch`, as in the paper, patches lie side by side: what lies where four
    of them meet is then hidden by the window of each."""
    threshold: float = 0.5
    """Correlation below which the images no longer agree."""
    limit_per_mm: float = 0.33
    """A patch is flagged where they part at this frequency or below."""
    floor_hu: float = 10.0
    """Not judged is a patch in which neither image varies by this much (standard deviation) up to the limit."""

    def __post_init__(self) -> None:
        if self.patch < 8 or self.patch % 2:
            raise DomainError(f"an sFRC patch has an even number of at least 8 pixels, got {self.patch}")
        if not 1 <= self.stride <= self.patch:
            raise DomainError(f"sFRC patches are 1 … {self.patch} pixels apart, got {self.stride}")


@dataclass(frozen=True)
class FlaggedPatch:
    """Where SR and HR part too early."""

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
    """In force: twice LR's noise where that is more than the settings'."""
    settings: SFRCSettings


def sfrc(
    sr_hu: FloatArray,
    hr_hu: FloatArray,
    pixel_mm: float,
    *,
    noise_hu: float = 0.0,
    settings: SFRCSettings | None = None,
) -> SFRC:
    """Scan a slice.

    Patches overlap by half; the last of a row or column is moved back so as to end at the border. A structure that
    only one of the images has is judged, too: an invented one has no counterpart in HR.

    Args:
        sr_hu: (rows, columns), HU.
        hr_hu: the same shape.
        pixel_mm: side of a pixel.
        noise_hu: standard deviation of LR's noise: what SR kept of it correlates with nothing and is no structure.
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
    flagged.sort(key=lambda one: one.frequency_per_mm)
    share = len(flagged) / judged if judged else None
    return SFRC(judged, unjudged, share, tuple(flagged), floor, settings)


def frc_curve(sr: FloatArray, hr: FloatArray) -> Values:
    """Fourier ring correlation of two square patches: ``Σ F·G* / √(Σ|F|²·Σ|G|²)`` over each ring.

    The sum is real, as a ring holds every frequency with its opposite; its sign stays, so that what is bright in one
    and dark in the other does not agree.

    Each patch is freed of its mean under the window first, so that brightness, which both share, does not leak into the
    first rings and hide what differs there.

    Args:
        sr: (n, n), n even.
        hr: the same shape.

    Returns:
        (n/2): ring k holds the frequencies that round to k/(n · pixel). Ring 0, the mean, is 1; so is a ring that
        neither patch has power in, and 0 is one that only one of them has.
    """
    one, other = (_transform(patch) for patch in (sr, hr))
    rings, count = _rings(len(sr)), len(sr) // 2
    cross, left, right = (
        np.bincount(rings, part.ravel(), count + 1)[:count]
        for part in ((one * other.conj()).real, np.abs(one) ** 2, np.abs(other) ** 2)
    )
    power = np.sqrt(left * right)
    # What rounding leaves of nothing is nothing.
    nothing = 1e-12 * max(float(left.sum()), float(right.sum()))
    same = np.where((left <= nothing) & (right <= nothing), 1.0, 0.0)
    curve = np.where(power > nothing, cross / np.where(power > nothing, power, 1), same)
    curve[0] = 1.0
    return curve


def parting_frequency(curve: Values, pixel_mm: float, threshold: float) -> float | None:
    """Where a curve first falls to the threshold, 1/mm, interpolated between rings; None where it does not."""
    below = np.flatnonzero(curve <= threshold)
    if not below.size:
        return None
    after = int(below[0])
    part = (curve[after - 1] - threshold) / (curve[after - 1] - curve[after])
    return float(after - 1 + part) / (2 * len(curve) * pixel_mm)


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
    """The ring of each frequency, flat; all beyond the inscribed circle share ring size/2."""
    axis = np.fft.fftfreq(size, 1 / size)
    return np.minimum(np.rint(np.hypot(axis[:, None], axis[None])).astype(np.int64).ravel(), size // 2)
