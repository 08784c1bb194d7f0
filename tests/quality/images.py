"""Images with known noise and known blur."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

Image: TypeAlias = npt.NDArray[np.float32]


def ct_noise(
    shape: tuple[int, int], sigma: float, rng: np.random.Generator, cutoff_per_mm: float, pixel_mm: float
) -> Image:
    """Noise with the spectrum of filtered backprojection: a ramp times a Gaussian; its σ is that of the ensemble."""
    rows, columns = np.fft.fftfreq(shape[0], pixel_mm)[:, None], np.fft.fftfreq(shape[1], pixel_mm)[None]
    frequency = np.hypot(rows, columns)
    transfer = np.sqrt(frequency) * np.exp(-((frequency / cutoff_per_mm) ** 2) / 2)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * transfer).real
    return (sigma * noise / np.sqrt((transfer**2).mean())).astype(np.float32)


def mean_frequency(cutoff_per_mm: float, pixel_mm: float) -> float:
    """Of `ct_noise`, by its formula."""
    f = np.linspace(0, 0.5 / pixel_mm, 2001)
    power = f * np.exp(-((f / cutoff_per_mm) ** 2))
    return float((f * power).sum() / power.sum())


def torso(size: int = 256, blur: float = 0.8) -> Image:
    """An ellipse of soft tissue with shading, a fat rim, two lungs and vessels in them; HU."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    hu = np.full((size, size), -1000.0)
    hu[np.hypot(x / 0.92, y / 0.75) < 1] = -100
    inside = np.hypot(x / 0.85, y / 0.68) < 1
    hu[inside] = (50 + 15 * y + 10 * x**2)[inside]
    for side in (-0.42, 0.42):
        hu[np.hypot((x - side) / 0.25, (y + 0.1) / 0.35) < 1] = -870
    hu[np.hypot(x, y - 0.45) < 0.11] = 600
    return np.asarray(ndimage.gaussian_filter(hu, blur), np.float32)


def blurred_discs(size: int, sigma: float, rng: np.random.Generator, low: float = -1000.0, high: float = 50.0) -> Image:
    """Discs whose edges are exact Gaussian-blurred steps of `sigma` pixels, at sub-pixel positions."""
    hu = np.full((size, size), low)
    rows, columns = np.mgrid[:size, :size]
    centers = (0.27 * size, 0.73 * size)
    for row in centers:
        for column in centers:
            distance = np.hypot(rows - row - rng.random(), columns - column - rng.random())
            hu += (high - low) * special.ndtr((0.16 * size + rng.random() - distance) / sigma)
    return hu.astype(np.float32)
