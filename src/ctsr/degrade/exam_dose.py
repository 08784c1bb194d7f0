"""Noise of an exam at less dose, made of the image's own noise: as strong as it is in each place, and as grainy.

Quantum noise grows as 1/√dose, so an exam at a fraction a of the dose has ``1/a − 1`` times the variance more. How
strong the noise of an image is, and how it is correlated, is measured in the image itself, so nothing need be known of
scanner, kernel or exposure. Streaks, whose correlation changes over a slice, are those of projections alone: see
`ctsr.degrade.noise`.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.degrade.degradation import DegradationParams
from ctsr.degrade.noise import WholeSlice, standard_normal
from ctsr.quality.noise import HomogeneousWindows, homogeneous_windows
from ctsr.quality.noise_spectrum import rings_of
from ctsr.volume import VoxelsHU

REACH_PIXELS = 8.0
"""Standard deviation of the Gaussian by which a window tells the noise around it; fourfold where none is near."""
LEAST_WEIGHT = 1e-6
"""Of the mean over all windows: it counts where no window is near."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OwnNoise:
    """The noise of one slice."""

    sigma_hu: Values
    """(rows, columns): standard deviation in each place, HU."""
    density: Values
    """(rings): power at 0, 1, 2 … cycles a window; its shape alone counts."""
    window: int
    """Pixels along each side of a window."""

    @property
    def level_hu(self) -> float:
        """Root mean square over the slice, HU."""
        return float(np.sqrt(np.mean(self.sigma_hu**2)))

    def field(self, seed: int) -> npt.NDArray[np.float32]:
        """Noise of the same strength and correlation that belongs to `seed`: (rows, columns), HU."""
        rows, columns = self.sigma_hu.shape
        cycles = self.window * np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
        power = np.interp(cycles, np.arange(len(self.density)), self.density)
        spectrum = np.fft.rfft2(standard_normal(seed, (rows, columns)).astype(np.float64)) * np.sqrt(power)
        noise = np.fft.irfft2(spectrum, s=(rows, columns))
        return (noise / _rms_gain(power, columns) * self.sigma_hu).astype(np.float32)


def own_noise(hu: VoxelsHU, pixel_mm: float) -> OwnNoise | None:
    """Measure the noise of a slice in its homogeneous soft tissue, and carry it on to what lies around.

    Noise changes slowly over a slice: it is made by all that rays pass through. Lung, bone and edges, whose texture
    cannot be told from noise, get what soft tissue near them has.

    Args:
        hu: (rows, columns), HU.
        pixel_mm: side of a pixel.

    Returns:
        None where there is no homogeneous soft tissue to measure it in.
    """
    windows = homogeneous_windows([hu], (pixel_mm, pixel_mm))
    if windows is None or not windows.spectrum.sum():
        return None
    counts = np.bincount(rings_of(windows.size).ravel())
    return OwnNoise(_spread(windows, hu.shape), windows.spectrum / counts, windows.size)


def exam_noise(
    lr: npt.NDArray[np.float32], params: DegradationParams, seed: int, whole: WholeSlice, scale: int
) -> npt.NDArray[np.float32]:
    """The noise that an LR slice would have more at ``params.dose`` of its dose.

    Args:
        lr: (rows, columns) in [-1, 1], with its own noise.
        params: its `dose` counts; the strength is the image's own.
        seed: names the noise.
        whole: the slice.
        scale: LR pixel over HR pixel.

    Returns:
        (rows, columns), in [-1, 1] units; none where the noise of the slice cannot be measured.
    """
    own = own_noise(_in_hu(lr, whole), whole.pixel_mm * scale)
    if own is None:
        return np.zeros_like(lr)
    return own.field(seed) * np.float32(math.sqrt(1 / params.dose - 1) / whole.hu_range.hu_per_unit)


def with_own_noise(
    lr: npt.NDArray[np.float32], params: DegradationParams, whole: WholeSlice, scale: int
) -> DegradationParams:
    """`params` with the noise that a slice has at full dose, measured in it; see `exam_noise`."""
    own = own_noise(_in_hu(lr, whole), whole.pixel_mm * scale)
    return replace(params, noise_sigma=0.0 if own is None else own.level_hu / whole.hu_range.hu_per_unit)


def _in_hu(lr: npt.NDArray[np.float32], whole: WholeSlice) -> VoxelsHU:
    return whole.hu_range.to_hu(lr).astype(np.float32, copy=False)


def _spread(windows: HomogeneousWindows, shape: tuple[int, ...]) -> Values:
    """Variances of windows, each at its middle, as a map that is smooth: (rows, columns), standard deviations."""
    variances = windows.above * windows.spectrum.sum()
    total, weight = np.zeros(shape), np.zeros(shape)
    rows, columns = (windows.places[:, 1:] + windows.size // 2).T
    np.add.at(total, (rows, columns), variances)
    np.add.at(weight, (rows, columns), 1.0)
    reach = max(REACH_PIXELS, windows.size / 2)
    found: Values = np.full(shape, float(variances.mean()))
    for sigma in (4 * reach, reach):  # what lies near has the last word
        around = ndimage.gaussian_filter(total, sigma, mode="constant")
        known = ndimage.gaussian_filter(weight, sigma, mode="constant")
        found = (around + LEAST_WEIGHT * found) / (known + LEAST_WEIGHT)
    return np.sqrt(found)


def _rms_gain(power: Values, columns: int) -> float:
    """Standard deviation that white noise of 1 has after the filter; `power` is half a plane of frequencies."""
    twice = np.full(power.shape[1], 2.0)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    return math.sqrt(float((power * twice).sum()) / (len(power) * columns))
