"""Tiles, where a slice as a whole would not fit into memory: planned before anything runs, their error measured."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ctsr.infer.engine import Engine
from ctsr.models import Architecture, receptive_radius
from ctsr.models.profile import profile

__all__ = ["Tiled", "Tiling", "plan_tiles", "seam_error"]

WORKSPACE = 2.0
"""What a convolution library takes beside the activations, as a factor on them."""
PROBE_SIDE = 64
"""LR pixels: activations grow with the area, so one size tells of all."""
FAR_ENOUGH = 32
"""LR pixels: a margin beyond it gains little, even where a network could see farther."""
SMALLEST_CORE = 16
"""LR pixels: smaller tiles would be all margin."""


@dataclass(frozen=True)
class Tiling:
    """Squares that cover a slice; each is inferred with a margin of real pixels around it, which is thrown away."""

    core: int
    """LR pixels along a side of what is kept."""
    margin: int
    """LR pixels around it."""
    is_exact: bool
    """The margin reaches as far as the network sees."""

    @property
    def label(self) -> str:
        """For names: `in tiles of 128+32`."""
        return f"in tiles of {self.core}+{self.margin}"

    @property
    def text(self) -> str:
        """For people."""
        exact = "as far as the network sees" if self.is_exact else "less than the network sees"
        return f"tiles of {self.core} LR pixels with a margin of {self.margin}, {exact}"


def plan_tiles(architecture: Architecture, size: tuple[int, int], budget_bytes: float) -> Tiling | None:
    """How a slice of `size` LR pixels must be cut for the network to stay within `budget_bytes`; None if not at all.

    Where even the smallest tiles are too much, these are taken.
    """
    per_pixel = WORKSPACE * profile(architecture, (PROBE_SIDE, PROBE_SIDE)).inference_bytes / PROBE_SIDE**2
    if per_pixel * size[0] * size[1] <= budget_bytes:
        return None
    radius = receptive_radius(architecture)
    side = math.isqrt(int(budget_bytes / per_pixel))
    margin = min(radius, FAR_ENOUGH)
    if side > 2 * radius + FAR_ENOUGH:
        margin = radius  # exact, and not mostly margin
    return Tiling(max(SMALLEST_CORE, side - 2 * margin), margin, margin >= radius)


@dataclass(frozen=True, eq=False)
class Tiled:
    """An engine that runs another one tile by tile."""

    engine: Engine
    scale: int
    tiling: Tiling

    @property
    def name(self) -> str:
        """The engine's, and how it is tiled: the result depends on it."""
        return f"{self.engine.name} {self.tiling.label}"

    def __call__(self, lr: Tensor) -> Tensor:
        """See `ctsr.infer.engine.Engine`."""
        height, width = lr.shape[2:]
        sr = torch.empty(1, 1, height * self.scale, width * self.scale)
        for (top, bottom), (left, right) in product(self._parts(height), self._parts(width)):
            above, before = max(0, top - self.tiling.margin), max(0, left - self.tiling.margin)
            seen = lr[..., above : bottom + self.tiling.margin, before : right + self.tiling.margin]
            answer = self.engine(seen)[
                ...,
                (top - above) * self.scale : (bottom - above) * self.scale,
                (left - before) * self.scale : (right - before) * self.scale,
            ]
            sr[..., top * self.scale : bottom * self.scale, left * self.scale : right * self.scale] = answer
        return sr

    def _parts(self, length: int) -> Iterator[tuple[int, int]]:
        count = -(-length // self.tiling.core)
        for i in range(count):
            yield i * length // count, (i + 1) * length // count


def seam_error(engine: Engine, scale: int, tiling: Tiling, lr: Tensor) -> float:
    """Largest difference between tiles and the whole, in units of [-1, 1].

    Args:
        engine: runs the network.
        scale: the network's.
        tiling: what is to be measured.
        lr: ``(1, 1, h, w)``; a part of a slice from its middle, as large as memory allows, is enough: what matters is
            the seams.
    """
    side = tiling.core + 2 * tiling.margin
    top, left = (max(0, (length - side) // 2) for length in lr.shape[2:])
    whole = lr[..., top : top + side, left : left + side]
    halves = Tiled(engine, scale, Tiling(-(-min(whole.shape[2:]) // 2), tiling.margin, tiling.is_exact))
    return float((halves(whole).cpu() - engine(whole).cpu()).abs().max())
