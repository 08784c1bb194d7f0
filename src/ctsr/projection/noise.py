"""Noise of a dose: photons and electronics in the projections, and what less dose would have added to an image.

After Yu et al., J. Comput. Assist. Tomogr. 36:477, 2012, and Zeng et al., IEEE Trans. Nucl. Sci.
62:2226, 2015.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.projection.fan_beam import FanBeam, ImageGrid, Sinogram
from ctsr.projection.forward import MU_WATER, project_image
from ctsr.projection.reconstruction import Kernel, reconstruct

COARSER = 4
"""Times as wide columns, and as few views, for the line integrals that only say how much noise there is."""


@dataclass(frozen=True)
class Exposure:
    """How many photons make a projection, and what the electronics add."""

    flux: float = 1e6
    """Photons that reach a detector column at full dose where nothing is in the way."""
    electronic: float = 10.0
    """Standard deviation of the electronic noise, photons."""
    dose: float = 1.0
    """Fraction of full dose, in (0, 1]."""

    def __post_init__(self) -> None:
        if not (self.flux > 0 and self.electronic >= 0 and 0 < self.dose <= 1):
            raise DomainError(
                "an exposure needs flux > 0, electronic noise ≥ 0 and dose in (0, 1], "
                f"got {self.flux:g}, {self.electronic:g} and {self.dose:g}"
            )


def expose(sinogram: Sinogram, exposure: Exposure, rng: np.random.Generator) -> Sinogram:
    """Line integrals as a scanner measures them: Poisson counts, electronic noise, and the logarithm.

    A ray with less than one photon counts as one.
    """
    flux = exposure.dose * exposure.flux
    counts = rng.poisson(flux * np.exp(-sinogram.astype(np.float64))) + rng.normal(
        0, exposure.electronic, sinogram.shape
    )
    return -np.log(np.maximum(counts, 1) / flux).astype(np.float32)


def added_noise(sinogram: Sinogram, exposure: Exposure, rng: np.random.Generator) -> Sinogram:
    """What projections at full dose lack to be projections at `exposure.dose`: noise alone, of mean 0.

    Its variance is ``(1/a − 1)·eᵖ/I₀ + (1/a² − 1)·σₑ²·e²ᵖ/I₀²``: right to 1 % up to p = 6. Rays
    that leave fewer photons than the electronic noise get no more noise than those that leave as
    many.
    """
    dose, flux = exposure.dose, exposure.flux
    darkest = np.log(dose * flux / max(1.0, exposure.electronic))
    absorbed = np.exp(np.minimum(sinogram.astype(np.float64), darkest)) / flux
    variance = (1 / dose - 1) * absorbed + (1 / dose**2 - 1) * (exposure.electronic * absorbed) ** 2
    return (np.sqrt(variance) * rng.standard_normal(sinogram.shape)).astype(np.float32)


def exam_dose_noise(
    hu: FloatArray,
    pixel_mm: float,
    exposure: Exposure,
    *,
    kernel: Kernel,
    seed: int,
    geometry: FanBeam | None = None,
) -> npt.NDArray[np.float32]:
    """The noise that an image would have more, had the exam been taken at ``exposure.dose`` of its dose.

    The image is projected, the noise that its projections lack is drawn and reconstructed alone:
    streaked along thick parts, with the grain of the kernel, and of mean 0. A pure function of its
    arguments.

    Args:
        hu: a whole slice, (rows, columns), HU; its own noise does not matter.
        pixel_mm: side of its pixels.
        exposure: flux and electronic noise at full dose, and the dose wanted.
        kernel: that the image was reconstructed with, or one like it.
        seed: names the noise.
        geometry: of the scanner; None takes the default.

    Returns:
        The shape of `hu`, HU, to be added to it; 0 at a dose of 1, and beyond the scanner's field.
    """
    geometry = geometry or FanBeam()
    rows, columns = hu.shape
    grid = ImageGrid((rows, columns), pixel_mm)
    if exposure.dose == 1:
        return np.zeros(grid.shape, np.float32)
    sinogram = _smooth_integrals(hu, grid, geometry)
    noise = added_noise(sinogram, exposure, np.random.default_rng(seed))
    return reconstruct(noise, geometry, kernel, grid) * np.float32(1000 / MU_WATER)


def _smooth_integrals(hu: FloatArray, grid: ImageGrid, geometry: FanBeam) -> Sinogram:
    """Line integrals by a coarser scanner, interpolated: they say how much noise there is, which changes slowly."""
    factor = COARSER
    while geometry.columns % factor or geometry.views % (2 * factor):
        factor -= 1
    coarse = replace(
        geometry,
        columns=geometry.columns // factor,
        views=geometry.views // factor,
        column_mm=geometry.column_mm * factor,
        focal_spot_mm=0,
    )
    sinogram = np.maximum(project_image(hu, grid, coarse, subrays=1), 0)
    around = np.vstack([sinogram, sinogram[:1]])
    views = np.arange(geometry.views) / factor
    turned = _between(around, views)
    # The quarter of a column that the detector is shifted by is wider where columns are.
    places = np.interp(geometry.fan_angles(), coarse.fan_angles(), np.arange(coarse.columns))
    return _between(turned.T, places).T


def _between(values: npt.NDArray[np.float32], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Linear interpolation along the first axis."""
    first = np.minimum(places.astype(np.intp), len(values) - 2)
    part = (places - first).astype(np.float32)[:, None]
    return np.asarray(values[first] * (1 - part) + values[first + 1] * part, np.float32)
