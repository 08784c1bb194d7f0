"""A simulated scanner: what one scan shows on coarse pixels, beside what there was to be seen.

The truth for an image on pixels of p mm is the same object without noise, through the same kernel, on
pixels of p/scale: what super-resolution should make of it. The same noisy projections on the fine
pixels are what a scanner would give for the asking; a method must be better than that to be worth
having.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ctsr.errors import DomainError
from ctsr.hashing import rng_from
from ctsr.hu import FloatArray
from ctsr.projection import (
    SOFT,
    Ellipse,
    Exposure,
    FanBeam,
    ImageGrid,
    Kernel,
    Rectangle,
    Shape,
    expose,
    project_image,
    reconstruct_all,
    to_hu,
)
from ctsr.projection.forward import Sinogram

SliceHU = npt.NDArray[np.float32]

RING_MM = 85.0
"""How far the discs of a contrast phantom lie from its middle."""
DISC_MM = 18.0
"""Their radius."""


@dataclass(frozen=True)
class SimulatedScanner:
    """A scanner with its settings."""

    kernel: Kernel = SOFT
    exposure: Exposure = field(default_factory=Exposure)
    geometry: FanBeam = field(default_factory=FanBeam)
    scale: int = 2
    """LR pixel over HR pixel."""

    def __post_init__(self) -> None:
        if self.scale < 2:
            raise DomainError(f"the reference needs pixels at least 2 times finer, got {self.scale}")


@dataclass(frozen=True, eq=False)
class ScanPair:
    """One part of one scan, three times; all in HU, on one field of view."""

    lr: SliceHU
    """On coarse pixels, with the noise of the dose: what a method is given."""
    hr: SliceHU
    """On fine pixels, without noise: the truth."""
    direct: SliceHU
    """On fine pixels, from the noisy projections of `lr`: what the scanner itself would give."""
    grid: ImageGrid
    """Grid of `lr`."""


def scan(integrals: Sinogram, scanner: SimulatedScanner, grids: Sequence[ImageGrid], *, seed: int) -> list[ScanPair]:
    """Scan an object once and reconstruct parts of it.

    Args:
        integrals: line integrals of the object in the scanner's geometry, without noise.
        scanner: dose, kernel, and how much finer the truth is.
        grids: coarse pixels, in any place and of any size.
        seed: names the noise of the projections; parts of one scan share it.

    Returns:
        One pair for each of `grids`.
    """
    fine = [grid.finer(scanner.scale) for grid in grids]
    noisy = expose(integrals, scanner.exposure, rng_from("scan", seed))
    geometry, kernel = scanner.geometry, scanner.kernel
    truths = reconstruct_all(integrals, geometry, kernel, fine)
    images = reconstruct_all(noisy, geometry, kernel, [*grids, *fine])
    return [
        ScanPair(lr=to_hu(lr), hr=to_hu(hr), direct=to_hu(direct), grid=grid)
        for lr, hr, direct, grid in zip(images, truths, images[len(grids) :], grids, strict=False)
    ]


def enlarged_slice(hu: FloatArray, pixel_mm: float, geometry: FanBeam, *, enlargement: float = 1.0) -> Sinogram:
    """Line integrals of a real slice as an object: its pixels taken to be `enlargement` times as large.

    Enlarged, the blur and the noise of its own scanner are coarse beside what the simulated scanner
    resolves, and what is left are structures as fine as those of the body.

    Args:
        hu: (rows, columns); its own noise is part of the object.
        pixel_mm: side of its pixels.
        geometry: of the scanner.
        enlargement: of its pixels; what then reaches beyond the field of the scanner is cut off.
    """
    rows, columns = hu.shape
    return project_image(hu, ImageGrid((rows, columns), pixel_mm * enlargement), geometry)


@dataclass(frozen=True)
class ContrastPhantom:
    """A water cylinder with a disc of each contrast on a ring, and nothing but water in its middle."""

    contrasts_hu: tuple[float, ...] = (-1000.0, -100.0, -30.0, 30.0, 100.0, 1000.0)
    radius_mm: float = 140.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.contrasts_hu) <= 8 or self.radius_mm < RING_MM + DISC_MM:
            raise DomainError("a contrast phantom must have 1 to 8 discs, all inside its cylinder")

    def center_mm(self, contrast_hu: float) -> tuple[float, float]:
        """Middle of the disc of a contrast: y and x."""
        angle = 2 * np.pi * self.contrasts_hu.index(contrast_hu) / len(self.contrasts_hu)
        # Turned by an angle that no axis of symmetry has, so that each edge meets the pixels anew.
        angle += 0.137
        return RING_MM * float(np.sin(angle)), RING_MM * float(np.cos(angle))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Cylinder and discs."""
        discs = [Ellipse(contrast, self.center_mm(contrast), (DISC_MM, DISC_MM)) for contrast in self.contrasts_hu]
        return (Ellipse(1000.0, (0.0, 0.0), (self.radius_mm, self.radius_mm)), *discs)


def bar_pattern(
    pairs_per_mm: float, center_mm: tuple[float, float], contrast_hu: float, *, angle: float = 0.0
) -> tuple[Rectangle, ...]:
    """Four bars, as long as the pattern is wide.

    Args:
        pairs_per_mm: line pairs per mm.
        center_mm: y and x of its middle.
        contrast_hu: of the bars.
        angle: by which it is turned from x towards y, radians.
    """
    period = 1 / pairs_per_mm
    offsets = (np.arange(4) - 1.5) * period
    half = (1.75 * period, period / 4)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    y, x = center_mm
    return tuple(
        Rectangle(contrast_hu, (y + offset * sine, x + offset * cosine), half, angle) for offset in offsets.tolist()
    )


def random_phantom(seed: int, *, radius_mm: float = 140.0, shapes: int = 24) -> tuple[Shape, ...]:
    """A body of water with ellipses, edges and bars of many contrasts and sizes in its middle part.

    Args:
        seed: names the phantom.
        radius_mm: of the body.
        shapes: ellipses and rectangles; three patterns of bars come on top.
    """
    rng = rng_from("phantom", seed)
    found: list[Shape] = [Ellipse(1000.0, (0.0, 0.0), (0.9 * radius_mm, radius_mm))]
    inner = 0.55 * radius_mm
    for number in range(shapes):
        y, x = (rng.uniform(-inner, inner, 2)).tolist()
        contrast = float(rng.choice([-1, 1]) * 10 ** rng.uniform(1.2, 2.7))
        sides = 10 ** rng.uniform(-0.1, 1.3, 2)
        kind = Rectangle if number % 4 == 3 else Ellipse
        turned = float(rng.uniform(0, np.pi))
        found.append(kind(contrast, (y, x), (float(sides[0]), float(sides[1])), turned))
    for pairs_per_mm in (0.3, 0.45, 0.6):
        y, x = (rng.uniform(-inner, inner, 2)).tolist()
        turned = float(rng.uniform(0, np.pi))
        found.extend(bar_pattern(pairs_per_mm, (y, x), 400.0, angle=turned))
    return tuple(found)
