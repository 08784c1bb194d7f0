"""Volumes as slices, and slices as volumes. NumPy only."""

from dataclasses import replace

import numpy as np

from ctsr.padding import SlicePixels
from ctsr.volume import PaddingMask, Plane, Volume, VoxelsHU


def plane_of(volume: Volume) -> Plane:
    """The raster of the first slice of a volume."""
    grid = volume.grid
    return Plane(grid.shape[1:], grid.spacing[1:], grid.origin, grid.directions[1:])


def finer_plane(plane: Plane, scale: int) -> Plane:
    """The raster with `scale` times as many rows and columns on the same field of view."""
    rows, columns = plane.shape
    return plane.recentred((rows * scale, columns * scale), (plane.spacing[0] / scale, plane.spacing[1] / scale))


def slice_of(volume: Volume, index: int) -> SlicePixels:
    """One slice of a volume, with its padding."""
    padding = None if volume.padding is None else volume.padding[index]
    return SlicePixels.from_padded(volume.hu[index], padding)


def volume_of(slices: list[SlicePixels], plane: Plane, like: Volume) -> Volume:
    """Slices as a volume.

    Args:
        slices: (rows, columns) each, as many as `like` has.
        plane: raster of the first slice.
        like: gives the distance and the direction from slice to slice.
    """
    hu: VoxelsHU = np.stack([pixels.hu for pixels in slices])
    padding: PaddingMask | None = None
    if any(pixels.padding is not None for pixels in slices):
        padding = np.zeros(hu.shape, np.bool_)
        for index, pixels in enumerate(slices):
            if pixels.padding is not None:
                padding[index] = pixels.padding
    grid = replace(
        like.grid,
        shape=(len(slices), *plane.shape),
        spacing=(like.grid.spacing[0], *plane.spacing),
        origin=plane.origin,
    )
    return Volume(hu, grid, padding)
