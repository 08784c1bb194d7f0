"""Detectability d′: how well an observer tells a lesion from noise, given what resolution and noise leave of it.

The non-prewhitening matched filter of ICRU Report 54 (1996) and AAPM TG-233 (Samei et al., 2019), without an eye filter
and internal noise: ``d′² = [∬|W|²·TTF²]² / ∬|W|²·TTF²·NPS``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import j1

from ctsr.errors import DomainError
from ctsr.physics.transfer import TransferFunction
from ctsr.quality.noise_spectrum import LEAST_HU, NoiseSpectrum

__all__ = ["DiscTask", "Task", "detectability"]

Values = npt.NDArray[np.float64]
Task = Callable[[Values], Values]
"""Radial frequency in 1/mm → |W|: the Fourier transform of what is to be detected, HU·mm²."""
STEPS = 2000
"""Frequencies of the integral."""


@dataclass(frozen=True)
class DiscTask:
    """A uniform disc to be detected on a known ground."""

    diameter_mm: float
    contrast_hu: float

    def __post_init__(self) -> None:
        if not self.diameter_mm > 0:
            raise DomainError(f"a disc needs a diameter above 0 mm, got {self.diameter_mm:g}")

    def __call__(self, frequencies: Values) -> Values:
        """``|C|·(πD²/4)·2·J₁(πDf)/(πDf)``, HU·mm²."""
        x = np.pi * self.diameter_mm * frequencies
        shape = np.where(x > 1e-9, 2 * j1(x) / np.where(x > 1e-9, x, 1), 1.0)
        return abs(self.contrast_hu) * np.pi * self.diameter_mm**2 / 4 * shape


def detectability(task: Task, transfer: TransferFunction, noise: NoiseSpectrum) -> float | None:
    """d′ of the non-prewhitening observer for a task in images of that resolution and noise.

    Both curves are taken as isotropic and integrated up to the end of the noise spectrum, the image's Nyquist
    frequency; below its first ring, which detrending empties in part, the noise is that of the ring.

    Args:
        task: a `DiscTask`, or any function of the radial frequency.
        transfer: measured at the task's contrast and dose.
        noise: measured at the same dose.

    Returns:
        None where there is no noise but that of rounding, and so no limit to detecting.
    """
    frequencies, step = np.linspace(0, noise.frequencies_per_mm[-1], STEPS, retstep=True)
    ttf = np.interp(frequencies, transfer.frequencies_per_mm, transfer.values)
    nps = np.interp(frequencies, noise.frequencies_per_mm, noise.power_hu2_mm2)
    ring = 2 * np.pi * frequencies * step
    signal = ring * (task(frequencies) * ttf) ** 2
    against = float((signal * nps).sum())
    if noise.std_hu < LEAST_HU or against == 0:
        return None
    return float(signal.sum()) / against**0.5
