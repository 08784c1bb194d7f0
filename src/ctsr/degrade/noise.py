"""Noise: Gaussian, white or with the spectrum of CT, or that of a scan at less dose.

A Gaussian field is a function of (seed, row, column): any crop of it is that crop, whoever asks.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from ctsr.degrade.degradation import DegradationParams
from ctsr.hu import HURange

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)

RADIUS = 8
"""Pixels that correlated noise reaches: beyond it the kernel has less than 1 % of its energy."""

BODY_HU = -500.0
"""Above it is the body, which the noise's standard deviation is that of."""


def standard_normal(seed: int, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> npt.NDArray[np.float32]:
    """The pixels ``origin … origin + shape`` (row, column) of the noise field that belongs to `seed`.

    A counter-based generator: pixel (r, c) of a field is output number r·2³² + c of SplitMix64 (Steele, Lea
    and Flood, OOPSLA 2014), mapped to a normal deviate by the inverse distribution function. Both act on one
    pixel at a time, so neither the crop, the batch nor the number of threads can change a bit of it.

    Returns:
        ``shape``, float32, mean 0 and standard deviation 1.
    """
    (rows, columns), (top, left) = shape, origin
    row = np.arange(top, top + rows, dtype=np.uint64)[:, None] << np.uint64(32)
    counter = row + np.arange(left, left + columns, dtype=np.uint64)
    # Two fields must not be shifts of one another: the seed is mixed before the counter is added to it.
    start = _mix(np.array([seed], dtype=np.uint64) * GAMMA)
    word = _mix(start + (counter + np.uint64(1)) * GAMMA)
    uniform = ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(ndtri(uniform), dtype=np.float32)


def correlated_normal(
    seed: int, shape: tuple[int, int], origin: tuple[int, int] = (0, 0), *, cutoff: float
) -> npt.NDArray[np.float32]:
    """As `standard_normal`, with the noise power spectrum of filtered back-projection.

    White noise is convolved with a kernel of (2·RADIUS + 1)² pixels, summed in a fixed order.

    Args:
        seed: names the field.
        shape: rows and columns wanted.
        origin: row and column of the first of them within the field.
        cutoff: see `noise_kernel`.
    """
    (rows, columns), (top, left) = shape, origin
    # The field of white noise begins RADIUS earlier, where no pixel has a negative index.
    white = standard_normal(seed, (rows + 2 * RADIUS, columns + 2 * RADIUS), (top, left))
    kernel = noise_kernel(cutoff)
    total = np.zeros(shape, dtype=np.float32)
    for i, weights in enumerate(kernel):
        for k, weight in enumerate(weights):
            total += weight * white[i : i + rows, k : k + columns]
    return total


@lru_cache(maxsize=256)
def noise_kernel(cutoff: float) -> npt.NDArray[np.float32]:
    """The kernel whose power spectrum is ``f·H(f)²``, H being Hann's window that ends at `cutoff`.

    Noise in projections is white; the ramp of filtered back-projection makes its power grow with the frequency f, the
    apodisation H of the reconstruction kernel ends it (Riederer, Pelc and Chesler 1978, Phys Med Biol 23:446).

    Args:
        cutoff: as a fraction of the Nyquist frequency; the noise of a sharp kernel on coarse pixels reaches beyond 1.

    Returns:
        (2·RADIUS + 1, 2·RADIUS + 1), float32, symmetric, with an energy of 1.
    """
    side = 8 * RADIUS
    along = np.fft.fftfreq(side)
    frequency = np.hypot(along[:, None], along[None, :])
    end = cutoff / 2
    window = np.where(frequency < end, np.cos(np.pi * frequency / (2 * end)) ** 2, 0.0)
    spatial = np.fft.fftshift(np.fft.ifft2(np.sqrt(frequency) * window).real)
    middle = side // 2
    kernel = spatial[middle - RADIUS : middle + RADIUS + 1, middle - RADIUS : middle + RADIUS + 1]
    return np.asarray(kernel / np.sqrt((kernel**2).sum()), dtype=np.float32)


@dataclass(frozen=True)
class WholeSlice:
    """What projections need to know of images: that they are whole, how large, and in which HU."""

    pixel_mm: float
    """Side of an HR pixel."""
    hu_range: HURange
    """HU of -1 and 1."""


def projected_noise(
    lr: npt.NDArray[np.float32], params: DegradationParams, seed: int, whole: WholeSlice, scale: int
) -> npt.NDArray[np.float32]:
    """The noise that an LR slice would have more at ``params.dose`` of its dose.

    See `ctsr.projection.exam_dose_noise` for how it lies: streaked along thick parts, and stronger where
    rays pass through more. Its root mean square over the body is ``params.noise_std``.

    Args:
        lr: (rows, columns) in [-1, 1], without noise.
        params: its `noise_cutoff` is where the reconstruction kernel ends, as a fraction of LR's
            Nyquist frequency.
        seed: names the noise.
        whole: the slice.
        scale: LR pixel over HR pixel.

    Returns:
        (rows, columns), in [-1, 1] units; 0 beyond the field of the scanner.
    """
    # Only this noise model needs projections.
    from ctsr.projection import Exposure, FanBeam, Kernel, exam_dose_noise

    hu, pixel_mm, geometry = whole.hu_range.to_hu(lr), whole.pixel_mm * scale, FanBeam()
    kernel = Kernel(params.noise_cutoff * geometry.column_at_isocentre_mm / pixel_mm)
    exposure = Exposure(dose=params.dose)
    noise = exam_dose_noise(hu, pixel_mm, exposure, kernel=kernel, seed=seed, geometry=geometry)
    body = hu > BODY_HU
    level = float(np.sqrt(np.mean(noise[body if body.any() else slice(None)] ** 2)))
    return noise * np.float32(params.noise_std / level if level > 0 else 0)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: a bijection of 64-bit words in which every bit depends on every other."""
    word = (word ^ (word >> np.uint64(30))) * MIX_1
    word = (word ^ (word >> np.uint64(27))) * MIX_2
    return word ^ (word >> np.uint64(31))
