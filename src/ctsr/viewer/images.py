"""Images of every panel in every plane, assembled from cached axial LR and SR slices."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache

from ctsr.data.hu_cache import PADDING, StoredSeries
from ctsr.data.pairs import slice_pair
from ctsr.evaluate.conditions import told_conditions
from ctsr.hu import AIR, HURange
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import Interpolation, interpolate
from ctsr.told import DRAWN, ConditionsSource
from ctsr.viewer.geometry import NO_SLICE, ViewGeometry
from ctsr.viewer.inference import InterruptibleModel
from ctsr.viewer.options import PlaneName
from ctsr.viewer.samplers import Setting

PanelName: TypeAlias = Literal["LR", "Bilinear", "Bicubic", "SR", "HR"]
PANELS: tuple[PanelName, ...] = get_args(PanelName)

NOTHING = int(PADDING)
"""Value of pixels without a slice, or whose slice is not computed yet, in images that are sent."""
KERNEL_MARGIN = 3
"""LR pixels on either side that an interpolated pixel depends on, plus one."""

Pixels: TypeAlias = npt.NDArray[np.float32]
Missing: TypeAlias = npt.NDArray[np.bool_]


class SliceCache:
    """Least recently used cache of computed slices, limited in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        def size(pixels: Pixels) -> int:
            # A slice larger than the cache counts as all of it: it evicts everything else and is kept.
            return min(pixels.nbytes, max_bytes)

        self._slices: LRUCache[Hashable, Pixels] = LRUCache(max_bytes, getsizeof=size)
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return int(self._slices.currsize)

    def get(self, key: Hashable) -> Pixels | None:
        """Return the slice and mark it as used; None where it is not cached."""
        with self._lock:
            return self._slices.get(key)

    def has(self, key: Hashable) -> bool:
        """Whether the slice is cached; does not count as a use."""
        return key in self._slices

    def fits(self, num_bytes: int) -> bool:
        """Whether `num_bytes` more can be held without evicting anything."""
        return self._slices.currsize + num_bytes <= self._slices.maxsize

    def put(self, key: Hashable, value: Pixels) -> None:
        """Cache a slice and evict the least recently used ones beyond the limit."""
        with self._lock:
            self._slices[key] = value


@dataclass(frozen=True)
class OpenedSeries:
    """A decoded series and its geometry."""

    number: int
    stored: StoredSeries
    geometry: ViewGeometry


@dataclass(frozen=True, eq=False)
class PanelImage:
    """Image of one panel in one plane."""

    values: Pixels
    """(rows, columns): in [-1, 1], or in HU where `in_hu`; NaN in missing rows."""
    in_hu: bool
    missing: Missing
    """(rows,): True where a slice is not computed yet."""
    gaps: Missing
    """(rows,): True where the series has no slice."""

    @property
    def complete(self) -> bool:
        """Whether every slice that it needs is computed."""
        return not self.missing.any()

    def hu(self, hu_range: HURange) -> Pixels:
        """(rows, columns), HU."""
        return self.values if self.in_hu else hu_range.to_hu(self.values).astype(np.float32, copy=False)

    def int16(self, hu_range: HURange) -> npt.NDArray[np.int16]:
        """(rows, columns), rounded HU, little endian; `NOTHING` in rows without a computed slice."""
        empty = self.missing | self.gaps
        rounded = np.rint(np.clip(self.hu(hu_range), -32767, 32767))
        return np.where(empty[:, None], NOTHING, np.nan_to_num(rounded)).astype("<i2")


class PanelImages:
    """Computes and caches LR and SR slices, and assembles panel images from them. Thread-safe."""

    def __init__(
        self,
        cache: SliceCache,
        scale: int,
        hu_range: HURange,
        model: InterruptibleModel | None,
        source: ConditionsSource = DRAWN,
    ) -> None:
        self.cache, self.scale, self.hu_range, self.model, self.source = cache, scale, hu_range, model, source

    def lr(self, series: OpenedSeries, setting: Setting, index: int) -> Pixels:
        """LR of one slice, (h, w) in [-1, 1], bit-identical to the evaluation's."""
        key = _key("LR", series, setting, index)
        cached = self.cache.get(key)
        if cached is None:
            cached = slice_pair(series.stored, index, setting.sampler, self.hu_range).lr[0, 0].numpy()
            self.cache.put(key, cached)
        return cached

    def has(self, panel: Literal["LR", "SR"], series: OpenedSeries, setting: Setting, index: int) -> bool:
        """Whether a slice is cached."""
        return self.cache.has(_key(panel, series, setting, index))

    def compute_sr(self, series: OpenedSeries, setting: Setting, index: int, is_cancelled: Callable[[], bool]) -> None:
        """Compute and cache SR of one slice.

        Raises:
            StaleRequestError: `is_cancelled` returned True before the slice was finished.
        """
        assert self.model is not None, "asked for SR without a model"
        told = self.told(series, setting, index)
        sr = self.model(self.lr(series, setting, index), told, is_cancelled)
        self.cache.put(_key("SR", series, setting, index), sr)

    def told(self, series: OpenedSeries, setting: Setting, index: int) -> Conditions:
        """What a conditional model is told of one slice, as in an evaluation."""
        return told_conditions(self.source, series.stored, index, setting.sampler, self.hu_range)

    def image(
        self, panel: PanelName, series: OpenedSeries, setting: Setting, plane: PlaneName, index: int
    ) -> PanelImage:
        """Assemble one panel of one plane.

        LR that an axial image needs is computed at once; SR, and LR of other planes, is taken from the cache.
        """
        if panel == "HR":
            return _hr(series, plane, index)
        if plane == "axial":
            return self._axial(panel, series, setting, index)
        z_rows = series.geometry.z_rows
        by_row = {row: self._cached(panel, series, setting, z) for row, z in enumerate(z_rows) if z != NO_SLICE}
        computed = {row: pixels for row, pixels in by_row.items() if pixels is not None}
        values = np.full((len(z_rows), self._width(panel, series, plane)), np.nan, dtype=np.float32)
        if computed:
            values[list(computed)] = self._cut(panel, list(computed.values()), plane, index)
        gaps = _gaps(series)
        missing = ~gaps
        missing[list(computed)] = False
        return PanelImage(values, False, missing, gaps)

    def _axial(self, panel: PanelName, series: OpenedSeries, setting: Setting, index: int) -> PanelImage:
        values = self._cached(panel, series, setting, index)
        if values is None and panel != "SR":
            values = self.lr(series, setting, index)
        if values is None:
            rows, columns = series.geometry.size("axial")
            empty = np.full((rows, columns), np.nan, np.float32)
            return PanelImage(empty, False, np.ones(rows, np.bool_), np.zeros(rows, np.bool_))
        if panel in {"Bilinear", "Bicubic"}:
            values = self._interpolated(panel, values[None])[0]
        no_rows = np.zeros(len(values), np.bool_)
        return PanelImage(values, False, no_rows, no_rows)

    def _cached(self, panel: PanelName, series: OpenedSeries, setting: Setting, index: int) -> Pixels | None:
        return self.cache.get(_key("SR" if panel == "SR" else "LR", series, setting, index))

    def _interpolated(self, panel: PanelName, lr: Pixels) -> Pixels:
        kind: Interpolation = "bilinear" if panel == "Bilinear" else "bicubic"
        return interpolate(torch.from_numpy(lr)[:, None], self.scale, kind)[:, 0].numpy()

    def _cut(self, panel: PanelName, slices: list[Pixels], plane: PlaneName, index: int) -> Pixels:
        """One row (coronal) or column (sagittal) of each slice, stacked to (slices, width)."""
        axis = 0 if plane == "coronal" else 1
        if panel == "SR":
            return np.stack([pixels.take(index, axis) for pixels in slices])
        lr_index = index // self.scale
        if panel == "LR":
            return np.stack([pixels.take(lr_index, axis) for pixels in slices])
        # Interpolation reaches only a few pixels: a strip gives the values of the whole slice.
        start = max(0, lr_index - KERNEL_MARGIN)
        strip = slice(start, lr_index + KERNEL_MARGIN + 1)
        strips = np.stack([pixels[strip] if axis == 0 else pixels[:, strip] for pixels in slices])
        enlarged, line = self._interpolated(panel, strips), index - start * self.scale
        return enlarged[:, line] if axis == 0 else enlarged[:, :, line]

    def _width(self, panel: PanelName, series: OpenedSeries, plane: PlaneName) -> int:
        columns = series.geometry.size(plane)[1]
        return columns // self.scale if panel == "LR" else columns


def _key(panel: str, series: OpenedSeries, setting: Setting, index: int) -> Hashable:
    return panel, series.number, setting.number, index


def _gaps(series: OpenedSeries) -> Missing:
    return np.array(series.geometry.z_rows) == NO_SLICE


def _hr(series: OpenedSeries, plane: PlaneName, index: int) -> PanelImage:
    """Stored HU, with padding shown as air."""
    row_crop, column_crop = series.geometry.crop
    z_rows = list(series.geometry.z_rows)
    hu = series.stored.hu
    match plane:
        case "axial":
            cut = hu[index, row_crop, column_crop]
        case "coronal":
            cut = hu[z_rows, row_crop.start + index, column_crop]
        case "sagittal":
            cut = hu[z_rows, row_crop, column_crop.start + index]
    gaps = np.zeros(len(cut), np.bool_) if plane == "axial" else _gaps(series)
    values = np.where(cut == PADDING, np.float32(AIR), cut.astype(np.float32))
    values[gaps] = np.nan
    return PanelImage(values, True, np.zeros(len(values), np.bool_), gaps)
