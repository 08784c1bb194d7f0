"""The region of a slice that a network is run on: the tissue and a margin around it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.body_mask import BLOCK, tissue_blocks
from ctsr.volume import VoxelsHU

MARGIN = 16
"""LR pixels of air around the tissue that the network sees as well. What lies farther away changes its answer inside
the body by less than 1 HU: `tests/upscale/test_real_ct.py` measures it on real series."""
FADE = 8
"""LR pixels, the outermost of the margin, over which the network's answer gives way to interpolation."""
STEP = 32
"""Regions grow to sides that are multiples of so many LR pixels: a series then has few different ones, and engines
prepare for each size."""


@dataclass(frozen=True)
class Roi:
    """A part of a slice: rows and columns from the first to before the last, in LR pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def part(self) -> tuple[slice, slice]:
        """As an index into a slice."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, scale: int) -> "Roi":
        """The same part of the slice made `scale` times finer."""
        return Roi(self.top * scale, self.bottom * scale, self.left * scale, self.right * scale)

    def fade(self, shape: tuple[int, int], scale: int) -> npt.NDArray[np.float32]:
        """Weight of the network's answer over the region made finer: 1, falling linearly to 0 towards its sides.

        A side that is the border of the slice, `shape` LR pixels large, does not fall.
        """
        rows = _ramp(self.bottom - self.top, scale, self.top > 0, self.bottom < shape[0])
        columns = _ramp(self.right - self.left, scale, self.left > 0, self.right < shape[1])
        return rows[:, None] * columns[None, :]


def body_roi(hu: VoxelsHU) -> Roi | None:
    """The smallest region around everything that is no air, with its margin; None where all is air.

    Args:
        hu: (rows, columns).
    """
    blocks = tissue_blocks(hu)
    if not blocks.any():
        return None
    rows, columns = np.nonzero(blocks)
    (top, bottom), (left, right) = _side(rows, hu.shape[0]), _side(columns, hu.shape[1])
    return Roi(top, bottom, left, right)


def _side(occupied: npt.NDArray[np.intp], size: int) -> tuple[int, int]:
    """From where to where the region reaches along an axis, whose blocks these are."""
    start = max(0, int(occupied.min()) * BLOCK - MARGIN)
    stop = min(size, (int(occupied.max()) + 1) * BLOCK + MARGIN)
    more = -(stop - start) % STEP
    start = max(0, start - more // 2)
    return start, min(size, stop + more - more // 2)


def _ramp(size: int, scale: int, falls_at_start: bool, falls_at_end: bool) -> npt.NDArray[np.float32]:
    steps = (np.arange(size * scale, dtype=np.float32) + 0.5) / (FADE * scale)
    weight = np.ones_like(steps)
    if falls_at_start:
        weight = np.minimum(weight, steps)
    if falls_at_end:
        weight = np.minimum(weight, steps[::-1])
    return weight.astype(np.float32, copy=False)
