"""The pictures of every panel in every plane, put together from slices that other rooms compute."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from ctsr.data.hu_cache import PADDING, StoredSeries
from ctsr.data.pairs import slice_pair
from ctsr.hu import AIR, HURange
from ctsr.models.interpolation import Interpolation, interpolate
from ctsr.viewer.cache import SliceCache
from ctsr.viewer.engine import Engine
from ctsr.viewer.geometry import NO_SLICE, Geometry
from ctsr.viewer.options import PlaneName
from ctsr.viewer.settings import Setting

__all__ = ["NOTHING", "PANELS", "Images", "PanelName", "Picture", "Subject"]

PanelName: TypeAlias = Literal["LR", "Bilinear", "Bicubic", "SR", "HR"]
PANELS: tuple[PanelName, ...] = get_args(PanelName)

NOTHING = int(PADDING)
"""In a picture that travels: no slice lies here, or it is not computed yet."""
REACH = 3
"""LR pixels on either side that an interpolated pixel depends on, and one to spare."""

Pixels: TypeAlias = npt.NDArray[np.float32]
Missing: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Subject:
    """An opened series: its decoded slices, and how they lie."""

    number: int
    stored: StoredSeries
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Picture:
    """What one panel shows of one plane."""

    values: Pixels
    """(rows, columns): in [-1, 1], or in HU where `in_hu`; NaN in missing rows."""
    in_hu: bool
    missing: Missing
    """(rows,): True where a slice is not computed yet."""
    gaps: Missing
    """(rows,): True where the series has no slice."""

    @property
    def complete(self) -> bool:
        """Whether every slice it needs is there."""
        return not self.missing.any()

    def hu(self, hu_range: HURange) -> Pixels:
        """(rows, columns), HU."""
        return self.values if self.in_hu else hu_range.to_hu(self.values).astype(np.float32, copy=False)

    def int16(self, hu_range: HURange) -> npt.NDArray[np.int16]:
        """(rows, columns), HU as whole numbers, little endian; `NOTHING` where there is none."""
        absent = self.missing | self.gaps
        whole = np.rint(np.clip(self.hu(hu_range), -32767, 32767))
        return np.where(absent[:, None], NOTHING, np.nan_to_num(whole)).astype("<i2")


class Images:
    """Computes and keeps LR and SR slices, and makes pictures of them. Threads may share it."""

    def __init__(self, cache: SliceCache, scale: int, hu_range: HURange, engine: Engine | None) -> None:
        self.cache, self.scale, self.hu_range, self.engine = cache, scale, hu_range, engine

    def lr(self, subject: Subject, setting: Setting, index: int) -> Pixels:
        """LR of one slice, (h, w) in [-1, 1]: the evaluation's, to the bit."""
        key = _key("LR", subject, setting, index)
        found = self.cache.get(key)
        if found is None:
            found = slice_pair(subject.stored, index, setting.sampler, self.hu_range).lr[0, 0].numpy()
            self.cache.put(key, found)
        return found

    def has(self, panel: Literal["LR", "SR"], subject: Subject, setting: Setting, index: int) -> bool:
        """Whether a slice is kept."""
        return self.cache.has(_key(panel, subject, setting, index))

    def make_sr(self, subject: Subject, setting: Setting, index: int, unwanted: Callable[[], bool]) -> None:
        """Compute and keep SR of one slice.

        Raises:
            UnwantedError: `unwanted` said so meanwhile.
        """
        assert self.engine is not None, "asked for SR without a model"
        sr = self.engine(self.lr(subject, setting, index), unwanted)
        self.cache.put(_key("SR", subject, setting, index), sr)

    def picture(self, panel: PanelName, subject: Subject, setting: Setting, plane: PlaneName, index: int) -> Picture:
        """One panel of one plane; LR slices that are missing for an axial one are made at once, SR slices are not."""
        if panel == "HR":
            return _hr(subject, plane, index)
        if plane == "axial":
            return self._axial(panel, subject, setting, index)
        kept = {row: self._kept(panel, subject, setting, one) for row, one in _rows(subject)}
        there = [row for row, values in kept.items() if values is not None]
        lines = self._lines(panel, [values for values in kept.values() if values is not None], plane, index)
        shape = (len(subject.geometry.z_rows), lines.shape[1] if there else self._width(panel, subject, plane))
        values = np.full(shape, np.nan, dtype=np.float32)
        if there:
            values[there] = lines
        gaps = _gaps(subject)
        missing = ~gaps
        missing[there] = False
        return Picture(values, False, missing, gaps)

    def _axial(self, panel: PanelName, subject: Subject, setting: Setting, index: int) -> Picture:
        values = self._kept(panel, subject, setting, index)
        if values is None and panel != "SR":
            values = self.lr(subject, setting, index)
        if values is None:
            rows, columns = subject.geometry.size("axial")
            return Picture(np.full((rows, columns), np.nan, np.float32), False, np.ones(rows, np.bool_), _none(rows))
        if panel in {"Bilinear", "Bicubic"}:
            values = self._enlarged(panel, values[None])[0]
        return Picture(values, False, _none(len(values)), _none(len(values)))

    def _kept(self, panel: PanelName, subject: Subject, setting: Setting, index: int) -> Pixels | None:
        return self.cache.get(_key("SR" if panel == "SR" else "LR", subject, setting, index))

    def _enlarged(self, panel: PanelName, lr: Pixels) -> Pixels:
        kind: Interpolation = "bilinear" if panel == "Bilinear" else "bicubic"
        return interpolate(torch.from_numpy(lr)[:, None], self.scale, kind)[:, 0].numpy()

    def _lines(self, panel: PanelName, slices: list[Pixels], plane: PlaneName, index: int) -> Pixels:
        """One row (coronal) or column (sagittal) of each slice, stacked."""
        if not slices:
            return np.zeros((0, 0), np.float32)
        if panel == "SR":
            return np.stack([one[index] if plane == "coronal" else one[:, index] for one in slices])
        own = index // self.scale
        if panel == "LR":
            return np.stack([one[own] if plane == "coronal" else one[:, own] for one in slices])
        # Interpolation looks a few pixels far: a strip is enough, and its weights are those of the whole slice.
        start = max(0, own - REACH)
        strip = slice(start, own + REACH + 1)
        strips = np.stack([one[strip] if plane == "coronal" else one[:, strip] for one in slices])
        large = self._enlarged(panel, strips)
        line = index - start * self.scale
        return large[:, line] if plane == "coronal" else large[:, :, line]

    def _width(self, panel: PanelName, subject: Subject, plane: PlaneName) -> int:
        columns = subject.geometry.size(plane)[1]
        return columns // self.scale if panel == "LR" else columns


def _key(panel: str, subject: Subject, setting: Setting, index: int) -> Hashable:
    return panel, subject.number, setting.number, index


def _rows(subject: Subject) -> list[tuple[int, int]]:
    """(row of a coronal or sagittal picture, slice there)."""
    return [(row, one) for row, one in enumerate(subject.geometry.z_rows) if one != NO_SLICE]


def _gaps(subject: Subject) -> Missing:
    return np.array([one == NO_SLICE for one in subject.geometry.z_rows], dtype=np.bool_)


def _none(rows: int) -> Missing:
    return np.zeros(rows, dtype=np.bool_)


def _hr(subject: Subject, plane: PlaneName, index: int) -> Picture:
    """Stored HU, padding as air."""
    row_crop, column_crop = subject.geometry.crop
    hu = subject.stored.hu
    match plane:
        case "axial":
            cut, gaps = hu[index, row_crop, column_crop], _none(row_crop.stop - row_crop.start)
        case "coronal":
            cut, gaps = hu[list(subject.geometry.z_rows), row_crop.start + index, column_crop], _gaps(subject)
        case "sagittal":
            cut, gaps = hu[list(subject.geometry.z_rows), row_crop, column_crop.start + index], _gaps(subject)
    values = np.where(cut == PADDING, np.float32(AIR), cut.astype(np.float32))
    values[gaps] = np.nan
    return Picture(values, True, _none(len(values)), gaps)
