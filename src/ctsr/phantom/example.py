"""A small synthetic CT volume for examples and first steps: a chest with known anatomy, made in seconds."""

from functools import lru_cache

import numpy as np

from ctsr.errors import DomainError
from ctsr.hashing import rng_from
from ctsr.phantom.patients import Acquisition, Body, patient
from ctsr.phantom.scanner import KERNELS, acquire
from ctsr.volume import Grid, Volume

FIELD_OF_VIEW = 360.0
"""mm; holds the body and some of the table."""
THICKNESS = 2.5
"""mm, and the distance between slices."""
FEWEST_PIXELS = 32


def example_volume(slices: int = 3, size: int = 256, *, seed: int = 0) -> Volume:
    """Make a synthetic chest: organs, vessels, ribs and vertebrae, with the blur and the noise of a scanner.

    Args:
        slices: at least 1, 2.5 mm thick and apart, around the heart.
        size: rows and columns, at least 32; the field of view is 360 mm.
        seed: the same seed gives the same volume.

    Returns:
        HU, ``(slices, size, size)``, float32; spacing ``(2.5, 360/size, 360/size)`` mm.

    Raises:
        DomainError: no slice, or fewer pixels.

    Examples:
        >>> volume = ctsr.example_volume(slices=3, size=256)
        >>> volume.hu.shape, volume.grid.spacing
        ((3, 256, 256), (2.5, 1.40625, 1.40625))
    """
    if slices < 1 or size < FEWEST_PIXELS:
        raise DomainError(f"`slices` must be at least 1 and `size` at least {FEWEST_PIXELS}, got {slices} and {size}")
    person = patient(1)
    acquisition = Acquisition("STANDARD", FIELD_OF_VIEW / size, size, THICKNESS, THICKNESS)
    pixels = acquisition.grid()
    body = _body(seed)
    heights = acquisition.heights(person.focus, slices)
    hu = np.empty((slices, size, size), np.float32)
    for index, z in enumerate(heights):
        hu[index] = acquire(
            body.render(pixels, z),
            person.scanner,
            KERNELS[acquisition.kernel],
            spacing=acquisition.spacing,
            thickness=THICKNESS,
            rng=rng_from("example volume", seed, index),
        )
    grid = Grid(
        shape=hu.shape,
        spacing=(THICKNESS, acquisition.spacing, acquisition.spacing),
        origin=(pixels.left, pixels.top, heights[0]),
        directions=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    return Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.float32), grid)


@lru_cache(maxsize=1)
def _body(seed: int) -> Body:
    """The body; cached, because growing its vessel trees takes half a second."""
    return Body(patient(1).plan, seed)
