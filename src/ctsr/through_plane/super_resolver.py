"""Thin slices from thick ones: a network applied to coronal and sagittal planes, in slabs so that memory is bounded."""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ctsr.hu import AIR, HURange
from ctsr.infer import BORDER, Roi, body_roi
from ctsr.infer.engine import Engine, super_resolve
from ctsr.models.conditioning import FOLD, ThroughPlaneConditions, through_plane_input
from ctsr.padding import SlicePixels
from ctsr.through_plane import (
    REACH,
    Block,
    SliceGrid,
    along_z,
    interpolation,
    projection,
    thickening,
    to_nearest,
    whole_within,
)

MARGIN = 16
"""Wanted slices to either side of a slab that are computed with it and thrown away, at least."""
SLAB_PIXELS = 24e6
"""Of the slices in a slab that are kept: some 100 MB an array."""
FEWEST_KEPT, MOST_KEPT = 32, 128
"""Slices of a slab that are kept."""


@dataclass
class Disagreement:
    """How far the answers in coronal and in sagittal planes differ, over the body."""

    sum_hu: float = 0.0
    voxels: int = 0
    slice_hu: Block | None = None
    """(rows, columns): of the slice that was yielded last, 0 where no network was asked; None unless maps are kept."""

    @property
    def mean_hu(self) -> float | None:
        """Mean of the absolute differences; None where there was no body."""
        return self.sum_hu / self.voxels if self.voxels else None


@dataclass(frozen=True, eq=False)
class ThroughPlaneSuperResolver:
    """Makes the slices between slices.

    Source slices are interpolated (cubic) to the wanted positions. Where every value lies in the network's range, the
    mean of its answers in coronal and sagittal planes takes the place of interpolation; the air around the body and
    implants stay interpolated, as in plane. Then the result is projected onto its source: thickened by the slice
    profile it gives the source slices back.
    """

    engine: Engine
    hu_range: HURange
    skip_air: bool = True
    disagreement: Disagreement = field(default_factory=Disagreement)
    """Grows with every slab."""
    keep_maps: bool = False
    """Whether `disagreement` also holds that of each slice, for one more array of a slab's size."""

    def __call__(self, read: Callable[[int], SlicePixels], grid: SliceGrid, noise_hu: float) -> Iterator[SlicePixels]:
        """The wanted slices, in order.

        Args:
            read: gives a source slice, (rows, columns) in HU; called once for each, in order.
            grid: where source slices and wanted slices lie.
            noise_hu: what the network is told of the noise of the source slices, standard deviation.

        Returns:
            `grid.num_wanted` slices, HU.
        """
        return (made for made in self.steps(read, grid, noise_hu) if made is not None)

    def steps(
        self, read: Callable[[int], SlicePixels], grid: SliceGrid, noise_hu: float
    ) -> Iterator[SlicePixels | None]:
        """As `__call__`, for progress that is shown: `num_steps` steps, None for each that has made no slice yet."""
        window, told = _Window(read, grid), self._told(grid, noise_hu)
        rows, columns = window.pixels(0).hu.shape
        for slab in _slabs(grid, rows * columns):
            yield from self._slices(window, grid, slab, told)

    @staticmethod
    def num_steps(grid: SliceGrid, rows: int, columns: int) -> int:
        """The wanted slices, and the coronal and sagittal planes of each slab; of source slices of such a size."""
        return grid.num_wanted + (rows + columns) * sum(1 for _ in _slabs(grid, rows * columns))

    @staticmethod
    def slab_of(grid: SliceGrid, pixels: int, index: int) -> range:
        """Wanted slices that are made together with one of them; `pixels` is rows times columns."""
        slab = _slab_with(index, grid, pixels)
        return range(slab.first, slab.stop)

    def slab(
        self, read: Callable[[int], SlicePixels], grid: SliceGrid, noise_hu: float, index: int
    ) -> list[SlicePixels]:
        """The slices of the slab that holds wanted slice `index`, bit for bit those of the whole series.

        Reads the source slices that it needs, and these only; other arguments are as of the whole series.
        """
        window, told = _Window(read, grid), self._told(grid, noise_hu)
        rows, columns = window.pixels(grid.nearest(index)).hu.shape
        steps = self._slices(window, grid, _slab_with(index, grid, rows * columns), told)
        return [made for made in steps if made is not None]

    def _told(self, grid: SliceGrid, noise_hu: float) -> ThroughPlaneConditions:
        return ThroughPlaneConditions(
            grid.profile.width / grid.spacing, grid.distance / grid.spacing, noise_hu / self.hu_range.hu_per_unit
        )

    def _slices(
        self, window: "_Window", grid: SliceGrid, slab: "_Slab", told: ThroughPlaneConditions
    ) -> Iterator[SlicePixels | None]:
        block, differing = yield from self._slab(window, grid, slab, told)
        for index in range(slab.first, slab.stop):
            self.disagreement.slice_hu = None if differing is None else differing[index - slab.wide_first]
            padding = window.pixels(grid.nearest(index)).padding
            hu = block[index - slab.wide_first].copy()
            yield SlicePixels.from_padded(hu, padding)

    def _slab(
        self, window: "_Window", grid: SliceGrid, slab: "_Slab", told: ThroughPlaneConditions
    ) -> Generator[None, None, tuple[Block, Block | None]]:
        """The slices of a slab; and by how much the answers differ, where that is kept. A step for each plane."""
        first, source = window.around(slab)
        positions = grid.source_positions(first, first + len(source))
        wanted = grid.wanted_positions(slab.wide_first, slab.wide_stop)
        weights = interpolation("cubic", positions, wanted)
        result = along_z(weights, source)
        differing = np.zeros_like(result) if self.keep_maps else None
        roi, planes = self._roi(source), sum(source.shape[1:])
        if roi is not None:
            nearest = to_nearest(positions, wanted) / grid.spacing
            yield from self._infer(source, weights, result, roi, told, nearest.astype(np.float32), differing)
            planes -= roi.bottom - roi.top + roi.right - roi.left
        yield from (None for _ in range(planes))  # in the air around the body: nothing to do
        _project(source, positions, wanted, grid, result)
        return result, differing

    def _roi(self, source: Block) -> Roi | None:
        rows, columns = source.shape[1:]
        found = body_roi(source.max(axis=0)) if self.skip_air else Roi(0, rows, 0, columns)
        if found is None:
            return None
        return Roi(found.top - found.top % FOLD, found.bottom, found.left - found.left % FOLD, found.right)

    def _infer(
        self,
        source: Block,
        weights: npt.NDArray[np.float64],
        result: Block,
        roi: Roi,
        told: ThroughPlaneConditions,
        nearest: npt.NDArray[np.float32],
        differing: Block | None,
    ) -> Generator[None]:
        """Add what the network adds to interpolated planes; a step for each."""
        part = (slice(None), *roi.part)
        inside = source[part]
        low, high = self.hu_range.low, self.hu_range.high
        planes = self.hu_range.to_unit(along_z(weights, np.clip(inside, low, high))).astype(np.float32, copy=False)
        detail = np.empty_like(planes)
        for row in range(planes.shape[1]):
            detail[:, row] = self._answer(planes[:, row], told, nearest)
            yield
        total = 0.0
        for column in range(planes.shape[2]):
            other = self._answer(planes[:, :, column], told, nearest)
            apart = np.abs(other - detail[:, :, column])
            total += float(apart.sum(dtype=np.float64))
            if differing is not None:
                differing[:, roi.top : roi.bottom, roi.left + column] = apart * np.float32(self.hu_range.hu_per_unit)
            detail[:, :, column] += other
            yield
        self.disagreement.sum_hu += total * self.hu_range.hu_per_unit
        self.disagreement.voxels += detail.size
        shape = (source.shape[1], source.shape[2])
        detail *= roi.fade(shape, 1) * np.float32(self.hu_range.hu_per_unit / 2)
        if (inside > high).any():
            detail *= 1 - np.clip(along_z(np.abs(weights), (inside > high).astype(np.float32)), 0, 1)
        result[part] += detail

    def _answer(self, plane: Block, told: ThroughPlaneConditions, nearest: npt.NDArray[np.float32]) -> Block:
        """What the network adds to a plane (z, w), [-1, 1] units."""
        height, width = plane.shape
        more = -height % FOLD, -width % FOLD
        wide = np.pad(plane, ((0, more[0]), (BORDER, BORDER + more[1])), mode="edge")
        way = torch.from_numpy(np.pad(nearest, (0, more[0]), mode="edge"))[None]
        answer = super_resolve(self.engine, through_plane_input(torch.from_numpy(wide)[None, None], [told], way))
        added = answer[0, 0].cpu().numpy() - np.clip(wide, -1, 1)
        return np.asarray(added[:height, BORDER : BORDER + width], np.float32)


class _Slab(NamedTuple):
    """Wanted slices that are kept, and those that are computed."""

    first: int
    stop: int
    wide_first: int
    """Even, so that the network's blocks of pixels lie alike in all slabs."""
    wide_stop: int


class _Window:
    """The source slices that are in use now."""

    def __init__(self, read: Callable[[int], SlicePixels], grid: SliceGrid) -> None:
        self._read = read
        self._grid = grid
        self._held: dict[int, SlicePixels] = {}

    def pixels(self, index: int) -> SlicePixels:
        """A source slice."""
        if index not in self._held:
            self._held[index] = self._read(index)
        return self._held[index]

    def around(self, slab: _Slab) -> tuple[int, Block]:
        """Index of the first source slice that a slab needs, and these slices; earlier ones are let go."""
        grid = self._grid
        beyond = max(REACH["cubic"] * grid.distance, grid.profile.reach)
        first = max(0, math.floor((slab.wide_first * grid.spacing - beyond) / grid.distance))
        stop = min(grid.count, math.ceil((slab.wide_stop * grid.spacing + beyond) / grid.distance) + 1)
        for index in [index for index in self._held if index < first]:
            del self._held[index]
        return first, np.stack([_filled(self.pixels(index)) for index in range(first, stop)])


def _slabs(grid: SliceGrid, pixels: int) -> Iterator[_Slab]:
    margin = max(MARGIN, 2 * math.ceil(grid.profile.reach * 2 / grid.spacing) + 2)
    beyond = math.ceil(grid.profile.reach / grid.spacing) + BORDER
    kept = min(MOST_KEPT, max(FEWEST_KEPT, int(SLAB_PIXELS / pixels)))
    for first in range(0, grid.num_wanted, kept):
        stop = min(grid.num_wanted, first + kept)
        wide_first = max(-beyond, first - margin)
        yield _Slab(first, stop, wide_first - wide_first % FOLD, min(grid.num_wanted + beyond, stop + margin))


def _slab_with(index: int, grid: SliceGrid, pixels: int) -> _Slab:
    return next(slab for slab in _slabs(grid, pixels) if slab.first <= index < slab.stop)


def _project(
    source: Block, positions: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], grid: SliceGrid, result: Block
) -> None:
    """Bring what thickening makes of the result to the source slices, as far as these lie whole within the slab."""
    whole = whole_within(grid.profile, positions, wanted)
    if not whole.any():
        return
    thick = thickening(grid.profile, positions[whole], wanted)
    result += along_z(projection(thick), source[whole] - along_z(thick, result))


def _filled(pixels: SlicePixels) -> Block:
    """HU with every padded pixel given the value of the nearest one that was reconstructed."""
    if pixels.padding is None or not pixels.padding.any():
        return pixels.hu
    if pixels.padding.all():
        return np.full_like(pixels.hu, AIR)
    nearest = np.asarray(ndimage.distance_transform_edt(pixels.padding, return_distances=False, return_indices=True))
    rows, columns = nearest.astype(np.intp)
    return np.asarray(pixels.hu[rows, columns], np.float32)
