"""Noise of a scan at less dose, for whole slices: drawn in projections of the slice, not in its pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.degrade.degradation import DegradationParams
from ctsr.hu import HURange
from ctsr.projection import Exposure, FanBeam, Kernel, exam_dose_noise

BODY_HU = -500.0
"""Above it is the body, which the noise's standard deviation is that of."""


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
    hu, pixel_mm, geometry = whole.hu_range.to_hu(lr), whole.pixel_mm * scale, FanBeam()
    kernel = Kernel(params.noise_cutoff * geometry.column_at_isocentre_mm / pixel_mm)
    exposure = Exposure(dose=params.dose)
    noise = exam_dose_noise(hu, pixel_mm, exposure, kernel=kernel, seed=seed, geometry=geometry)
    body = hu > BODY_HU
    level = float(np.sqrt(np.mean(noise[body if body.any() else slice(None)] ** 2)))
    return noise * np.float32(params.noise_std / level if level > 0 else 0)
