"""Random textures that exist at every point of space, so that no pixel grid or slice step shows in them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.demo.shapes import Plane

__all__ = ["BodyTextures", "RandomField", "sheets"]

Values: TypeAlias = npt.NDArray[np.floating]

_WAVES = 24


@dataclass(frozen=True, eq=False)
class RandomField:
    """A sum of plane waves with random directions and phases: nearly Gaussian, mean 0, standard deviation 1."""

    waves: npt.NDArray[np.float32]
    """Wave vectors in radians per mm; shape (n, 3)."""
    phases: npt.NDArray[np.float32]

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        wavelengths: tuple[float, float],
        *,
        stretch: tuple[float, float, float] = (1, 1, 1),
        waves: int = _WAVES,
    ) -> "RandomField":
        """Waves from the shortest to the longest of `wavelengths` mm, and `stretch` times that along x, y, z."""
        directions = rng.normal(size=(waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = np.geomspace(*wavelengths, waves)[:, None]
        vectors = 2 * np.pi * directions / lengths / np.array(stretch)
        return cls(vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, waves).astype(np.float32))

    def __call__(self, x: Values, y: Values, z: float) -> Values:
        """The field's values at points of one plane; the shape of `x`."""
        total = np.zeros_like(x)
        for (kx, ky, kz), phase in zip(self.waves, self.phases, strict=True):
            total += np.sin(x * kx + (y * ky + np.float32(kz * np.float32(z) + phase)))
        return total * np.float32(np.sqrt(2 / len(self.phases)))

    def within(self, plane: Plane, where: npt.NDArray[np.bool_]) -> Values:
        """The values at those pixels of a plane, as one row: textures are costly, tissues are small."""
        return self(plane.x[where], plane.y[where], plane.z)


def sheets(field: Values, thickness: float) -> Values:
    """Thin membranes in [0, 1] where a field passes through zero: septa in fat, struts in spongy bone.

    `thickness` is in standard deviations of the field, so a share of about ``0.7·thickness`` of space is filled.
    """
    return np.exp(-((field * np.float32(1 / thickness)) ** 2))


@dataclass(frozen=True, eq=False)
class BodyTextures:
    """The textures of one body's tissues; wavelengths in mm."""

    septa: RandomField
    septa_gaps: RandomField
    marbling: RandomField
    soft: RandomField
    lung: RandomField
    fissure: RandomField
    gland: RandomField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "BodyTextures":
        """A person's own."""
        return cls(
            septa=RandomField.draw(rng, (11, 34), stretch=(1.3, 1, 1.6), waves=16),
            septa_gaps=RandomField.draw(rng, (20, 60), waves=8),
            marbling=RandomField.draw(rng, (7, 24), stretch=(1.2, 0.7, 4), waves=16),
            soft=RandomField.draw(rng, (4, 14), waves=14),
            lung=RandomField.draw(rng, (2.5, 11), waves=18),
            fissure=RandomField.draw(rng, (150, 320), waves=8),
            gland=RandomField.draw(rng, (7, 22), waves=12),
        )
