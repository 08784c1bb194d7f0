"""Noise: Gaussian, white or with the spectrum of CT, or that of a scan or an exam at less dose.

A Gaussian field is a function of (seed, row, column): any crop of it is that crop, whoever asks.

Noise of an exam at less dose is made of the image's own: as strong as it is in each place, and as grainy. Quantum
noise grows as 1/√dose, so an exam at a fraction a of the dose has ``1/a − 1`` times the variance more. How strong the
noise of an image is, and how it is correlated, is measured in the image itself, so nothing need be known of scanner,
kernel or exposure. Streaks, whose correlation changes over a slice, are those of projections alone: see
`projected_noise`.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtri

from ctsr.degrade.degradation import DegradationParams
from ctsr.hu import HURange
from ctsr.quality.noise import HomogeneousWindows, homogeneous_windows, rings_of
from ctsr.volume import VoxelsHU

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


REACH_PIXELS = 8.0
"""Standard deviation of the Gaussian by which a window tells the noise around it; fourfold where none is near."""
LEAST_WEIGHT = 1e-6
"""Weight of the mean over all windows, which counts where no window is near."""

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
