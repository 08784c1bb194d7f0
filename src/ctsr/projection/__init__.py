"""X-ray projections of a slice, filtered back projection onto any raster, and the noise of a dose in its image.

The noise is after Yu et al., J. Comput. Assist. Tomogr. 36:477, 2012, and Zeng et al., IEEE Trans. Nucl. Sci. 62:2226,
2015.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.interpolate import make_interp_spline

from ctsr.errors import DomainError
from ctsr.hu import FloatArray
from ctsr.projection.forward import (
    MU_WATER,
    Ellipse,
    FanBeam,
    ImageGrid,
    Rectangle,
    Shape,
    Sinogram,
    Values,
    project_image,
    project_shapes,
    to_hu,
    to_mu,
)

OVERSAMPLED: Final = 16
"""Samples of a filtered view between two of its rays: back projection takes the nearest."""
ROWS_AT_ONCE: Final = 64
"""Rows of the raster, so that what is added up stays in the processor's cache."""

COARSER = 4
"""Times as wide columns, and as few views, for the line integrals that only say how much noise there is."""


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: the ramp filter under a Hann window."""

    cutoff: float
    """Where the window ends, in Nyquist frequencies of the detector's columns; more is sharper and noisier."""

    def __post_init__(self) -> None:
        if not self.cutoff > 0:
            raise DomainError(f"a kernel's cut-off must be above 0, got {self.cutoff:g}")

    def window(self, frequencies_per_mm: Values, geometry: FanBeam) -> Values:
        """What the window leaves of each frequency, 1 at 0."""
        relative = np.minimum(np.abs(frequencies_per_mm) / (self.cutoff * geometry.nyquist_per_mm), 1)
        return 0.5 + 0.5 * np.cos(np.pi * relative)


SOFT = Kernel(0.85)
"""About as smooth as Siemens B30."""
SHARP = Kernel(2.05)
"""About as sharp as Siemens D45."""


@dataclass(frozen=True, eq=False)
class ParallelBeam:
    """Line integrals on parallel rays over half a turn; axes (view, ray)."""

    values: npt.NDArray[np.float32]
    angles: Values
    """θ of each view, radians."""
    spacing_mm: float
    """Between rays; they are symmetric about the isocentre."""


def reconstruct(sinogram: Sinogram, geometry: FanBeam, kernel: Kernel, grid: ImageGrid) -> npt.NDArray[np.float32]:
    """Reconstruct a raster from a full turn.

    Args:
        sinogram: (views, columns), line integrals.
        geometry: that they were taken with.
        kernel: sharpness.
        grid: any part of the plane, at any pixel size; pixels beyond the field of the scanner are
            0.

    Returns:
        ``grid.shape``, 1/mm; see `to_hu`.

    Raises:
        DomainError: the sinogram is not of the geometry's size.
    """
    return reconstruct_all(sinogram, geometry, kernel, [grid])[0]


def reconstruct_all(
    sinogram: Sinogram, geometry: FanBeam, kernel: Kernel, grids: Sequence[ImageGrid]
) -> list[npt.NDArray[np.float32]]:
    """Reconstruct several rasters, filtering the views once; see `reconstruct`."""
    parallel = to_parallel(sinogram, geometry)
    filtered = _filtered(parallel, geometry, kernel)
    return [_back_projected(filtered, parallel, geometry, grid) for grid in grids]


def to_parallel(sinogram: Sinogram, geometry: FanBeam) -> ParallelBeam:
    """Sort the rays of a turn into parallel views, opposite rays between one another.

    Along the views, which go round in a circle, rays are moved by the shift theorem; along the
    detector, equal angles become equal distances by a quintic spline. Both keep the resolution and
    the noise.

    Raises:
        DomainError: the sinogram is not of the geometry's size.
    """
    if sinogram.shape != (geometry.views, geometry.columns):
        raise DomainError(
            f"a sinogram of {sinogram.shape} is not one of {geometry.views} views and {geometry.columns} columns"
        )
    fan = geometry.fan_angles()
    harmonics = np.arange(geometry.views // 2 + 1)
    turned = np.asarray(fft.rfft(sinogram, axis=0))
    turned *= np.exp(-1j * harmonics[:, None] * fan).astype(np.complex64)
    straight = np.asarray(fft.irfft(turned, geometry.views, axis=0))
    half = geometry.views // 2
    # The opposite view sees the same lines from the other end: its columns, in reverse, lie half a column before.
    merged = np.empty((half, 2 * geometry.columns), np.float32)
    merged[:, 0::2] = straight[half:, ::-1]
    merged[:, 1::2] = straight[:half]
    step = geometry.column_angle / 2
    last = (geometry.columns - 0.5) * step
    spacing = geometry.source_isocentre_mm * step
    count = 2 * int(geometry.source_isocentre_mm * np.sin(last) / spacing + 0.5)
    rays = (np.arange(count) - (count - 1) / 2) * spacing
    place = np.arcsin(rays / geometry.source_isocentre_mm) / step + (2 * geometry.columns - 1) / 2
    values = make_interp_spline(np.arange(2 * geometry.columns), merged, k=5, axis=1)(place)
    return ParallelBeam(np.asarray(values, np.float32), geometry.view_angles[:half], spacing)


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


def _back_projected(
    filtered: npt.NDArray[np.float32], parallel: ParallelBeam, geometry: FanBeam, grid: ImageGrid
) -> npt.NDArray[np.float32]:
    """Spread filtered views over a raster: 1/mm; see `reconstruct`."""
    step = parallel.spacing_mm / OVERSAMPLED
    middle = (parallel.values.shape[1] - 1) / 2 * OVERSAMPLED
    # Half a sample more, because turning into whole numbers rounds down.
    across = np.cos(parallel.angles)[:, None] * grid.columns_mm / step + middle + 0.5
    down = np.sin(parallel.angles)[:, None] * grid.rows_mm / step
    across, down = across.astype(np.float32), down.astype(np.float32)
    image = np.zeros(grid.shape, np.float32)
    for start in range(0, grid.shape[0], ROWS_AT_ONCE):
        part = image[start : start + ROWS_AT_ONCE]
        place, taken = np.empty_like(part), np.empty_like(part)
        index = np.empty(part.shape, np.intp)
        for view, along, offset in zip(filtered, across, down[:, start : start + ROWS_AT_ONCE], strict=True):
            np.add(offset[:, None], along, out=place)
            np.copyto(index, place, casting="unsafe")
            np.take(view, index, out=taken, mode="clip")
            part += taken
    image *= np.float32(np.pi / len(parallel.angles))
    image[np.hypot(grid.rows_mm[:, None], grid.columns_mm) > geometry.field_radius_mm] = 0
    return image


def _filtered(parallel: ParallelBeam, geometry: FanBeam, kernel: Kernel) -> npt.NDArray[np.float32]:
    """Views under the apodised ramp, `OVERSAMPLED` times as fine: (view, rays · `OVERSAMPLED`), 1/mm².

    The ramp is the transform of its sampled response (Kak and Slaney, equation 61), which keeps the
    mean of an image.
    """
    rays, spacing = parallel.values.shape[1], parallel.spacing_mm
    size = 1 << (2 * rays - 1).bit_length()
    lags = np.minimum(np.arange(size), size - np.arange(size))
    odd = lags % 2 == 1
    response = np.zeros(size)
    response[odd] = -1 / (np.pi * lags[odd] * spacing) ** 2
    response[0] = 1 / (4 * spacing**2)
    ramp = np.real(np.fft.rfft(response)) * spacing
    ramp *= kernel.window(np.asarray(np.fft.rfftfreq(size, spacing), np.float64), geometry)
    spectrum = np.asarray(fft.rfft(parallel.values, size, axis=1))
    spectrum *= (ramp * OVERSAMPLED).astype(np.float32)
    finer = np.empty((len(spectrum), rays * OVERSAMPLED), np.float32)
    for view, row in zip(finer, spectrum, strict=True):
        view[:] = np.asarray(fft.irfft(row, size * OVERSAMPLED))[: rays * OVERSAMPLED]
    return finer


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


__all__ = [
    "MU_WATER",
    "SHARP",
    "SOFT",
    "Ellipse",
    "Exposure",
    "FanBeam",
    "ImageGrid",
    "Kernel",
    "Rectangle",
    "Shape",
    "added_noise",
    "exam_dose_noise",
    "expose",
    "project_image",
    "project_shapes",
    "reconstruct",
    "reconstruct_all",
    "to_hu",
    "to_mu",
]
