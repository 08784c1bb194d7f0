"""Images of every panel in every plane, assembled from cached axial LR and SR slices; networks are run only here."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from ctsr.data.hu_cache import PADDING, StoredSeries
from ctsr.data.pairs import centered_crop, slice_pair
from ctsr.evaluate import DRAWN, ConditionsSource
from ctsr.evaluate.methods import Baseline, by_baseline, told_conditions
from ctsr.hu import AIR, BLOCK, HURange
from ctsr.models.conditioning import Conditions
from ctsr.series import Series
from ctsr.series_quality import UNLIKE
from ctsr.through_plane import SliceGrid
from ctsr.viewer import PlaneName
from ctsr.viewer.samplers import InterruptibleModel, Pixels, Setting, SliceCache
from ctsr.volume import Vector, normal, spread

PanelName: TypeAlias = Literal["LR", "Source", "Bilinear", "Bicubic", "Lanczos", "Linear", "Cubic", "SR", "HR"]
PANELS: tuple[PanelName, ...] = get_args(PanelName)
COARSE: frozenset[PanelName] = frozenset({"LR", "Source"})
"""Panels whose pixels are larger than SR's by the scale."""
INTERPOLATIONS: Mapping[PanelName, Baseline] = {"Bilinear": "bilinear", "Bicubic": "bicubic"}
"""What SR is shown beside unless something else is asked for."""

NOTHING = int(PADDING)
"""Value of pixels without a slice, or whose slice is not computed yet, in images that are sent."""
KERNEL_MARGIN = 5
"""LR pixels on either side that a pixel of the widest baseline, the linear filter, depends on, plus one."""

Missing: TypeAlias = npt.NDArray[np.bool_]

PLANES: tuple[PlaneName, ...] = get_args(PlaneName)

ROUNDING = 1e-6
"""Of the distance of two images: positions are decimals, and distances their differences."""
NO_SLICE = -1
"""Entry of `ViewGeometry.z_rows` where there is no slice."""
OBLIQUE = 0.35
"""A direction gets two letters if its second largest component is at least this, the cosine of about 70°."""
LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""For each patient axis (LPS), the letters of its positive and negative direction."""
MAX_ROWS_PER_SLICE, MAX_ROWS = 4, 2048
"""Above both, an even grid would show mostly empty rows: slices are stacked instead."""


@dataclass(frozen=True)
class EdgeLabels:
    """Anatomical direction of each image edge: R, L, A, P, S, I or two of them."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class ViewGeometry:
    """Shape and spacing of a series cropped to a multiple of the scale, as (slice, row, column).

    Rows of coronal and sagittal images lie on an even grid along the slice normal, head up.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    """mm: between rows of coronal and sagittal images, between axial rows, between axial columns."""
    crop: tuple[slice, slice]
    """Stored rows and columns that are shown."""
    z_rows: tuple[int, ...]
    """Slice of each row of a coronal or sagittal image from the top, or `NO_SLICE`."""
    edge_labels: dict[PlaneName, EdgeLabels]
    source_mm: tuple[float, ...] = ()
    """With slices between slices: where the source slices lie in coronal and sagittal images, mm from the top edge."""

    def count(self, plane: PlaneName) -> int:
        """Number of images in a plane."""
        return self.shape[PLANES.index(plane)]

    def size(self, plane: PlaneName) -> tuple[int, int]:
        """Rows and columns of an image at full resolution."""
        _, rows, columns = self.shape
        match plane:
            case "axial":
                return rows, columns
            case "coronal":
                return len(self.z_rows), columns
            case "sagittal":
                return len(self.z_rows), rows

    def pixel(self, plane: PlaneName) -> tuple[float, float]:
        """Spacing in mm between rows and between columns of an image."""
        z, row, column = self.spacing
        return {"axial": (row, column), "coronal": (z, column), "sagittal": (z, row)}[plane]


Projection: TypeAlias = Literal["max", "mean", "min"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)


@dataclass(frozen=True)
class Slab:
    """Several images of a plane projected to one: the maximum, mean or minimum of each pixel."""

    projection: Projection
    thickness: float
    """mm, half of it on either side; an image belongs to it by its middle."""


@dataclass(frozen=True)
class OpenedSeries:
    """A decoded series and its geometry."""

    number: int
    stored: StoredSeries
    geometry: ViewGeometry
    source: Series
    """As a scan found it."""
    between: SliceGrid | None = None
    """Where slices between slices are wanted: images are counted on its grid."""
    notes: tuple[str, ...] = ()
    """What had to be assumed for `between`."""

    def doubts(self, *, names: bool) -> list[str]:
        """A sentence for each slice whose values are unlike those of the slices beside it.

        Args:
            names: call it by its file, too; else by its number alone.
        """
        found: list[str] = []
        for defect in self.stored.doubts:
            (index,) = defect.slice_indices
            file, _, what = defect.detail.partition(f": {UNLIKE}")
            # Counted as the page counts, from 0; between slices, its own slices are others.
            counted = f"Slice {index}" if self.between is None else f"Source slice {index}"
            found.append(f"{counted}{f' ({file})' if names else ''}: {UNLIKE}{what}.")
        return found

    @property
    def z_mm(self) -> tuple[float, ...]:
        """Position of each axial image."""
        if self.between is None:
            return tuple(self.stored.z_mm)
        grid = self.between
        wanted, known = grid.wanted_positions(0, grid.num_wanted), grid.source_positions(0, grid.count)
        return tuple(float(z) for z in np.interp(wanted, known, self.stored.z_mm))


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

    in_hu = False
    """Whether slices are HU, not in [-1, 1]."""

    def __init__(
        self,
        cache: SliceCache,
        scale: int,
        hu_range: HURange,
        model: InterruptibleModel | None,
        source: ConditionsSource = DRAWN,
        baselines: Mapping[PanelName, Baseline] = INTERPOLATIONS,
    ) -> None:
        self.cache, self.scale, self.hu_range, self.model, self.source = cache, scale, hu_range, model, source
        self._baselines = baselines

    def lr(self, series: OpenedSeries, setting: Setting, index: int) -> Pixels:
        """LR of one slice, (h, w) in [-1, 1], bit-identical to the evaluation's."""
        key = self.key("LR", series, setting, index)
        cached = self.cache.get(key)
        if cached is None:
            cached = slice_pair(series.stored, index, setting.sampler, self.hu_range).lr[0, 0].numpy()
            self.cache.put(key, cached)
        return cached

    def has(self, panel: Literal["LR", "SR"], series: OpenedSeries, setting: Setting, index: int) -> bool:
        """Whether a slice is cached."""
        return self.cache.has(self.key(panel, series, setting, index))

    def key(self, panel: Literal["LR", "SR"], series: OpenedSeries, setting: Setting, index: int) -> Hashable:
        """What a slice is known by in the cache."""
        return panel, series.number, setting.number, index

    def batch(self, series: OpenedSeries, index: int) -> range:  # noqa: ARG002  (for `BetweenImages`)
        """Slices whose SR is computed together with that of `index`."""
        return range(index, index + 1)

    def is_tuned(self, series: OpenedSeries, setting: Setting) -> bool:  # noqa: ARG002  (for `NativeImages`)
        """Whether nothing about the whole series is left to be measured before SR is final."""
        return True

    def tune(self, series: OpenedSeries, setting: Setting, is_cancelled: Callable[[], bool]) -> None:
        """Measure what is left, by default nothing; SR that comes out otherwise is dropped.

        Raises:
            StaleRequestError: `is_cancelled` returned True meanwhile.
        """

    def compute_sr(self, series: OpenedSeries, setting: Setting, index: int, is_cancelled: Callable[[], bool]) -> None:
        """Compute and cache SR of one slice.

        Raises:
            StaleRequestError: `is_cancelled` returned True before the slice was finished.
        """
        assert self.model is not None, "asked for SR without a model"
        told = self.told(series, setting, index)
        sr = self.model(self.lr(series, setting, index), told, is_cancelled)
        self.cache.put(self.key("SR", series, setting, index), sr)

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
        return PanelImage(values, self.in_hu, missing, gaps)

    def slab(
        self, panel: PanelName, series: OpenedSeries, setting: Setting, plane: PlaneName, index: int, slab: Slab
    ) -> PanelImage:
        """Project the images of a slab around image `index`; complete once all of them are."""
        places = slab_indices(series.geometry, plane, index, slab.thickness)
        images = [self.image(panel, series, setting, plane, place) for place in places]
        project = {"max": np.max, "mean": np.mean, "min": np.min}[slab.projection]
        values = np.asarray(project(np.stack([image.values for image in images]), axis=0), np.float32)
        missing = np.any([image.missing for image in images], axis=0)
        return PanelImage(values, images[0].in_hu, missing, images[0].gaps)

    def _axial(self, panel: PanelName, series: OpenedSeries, setting: Setting, index: int) -> PanelImage:
        values = self._cached(panel, series, setting, index)
        if values is None and panel != "SR":
            values = self.lr(series, setting, index)
        if values is None:
            rows, columns = series.geometry.size("axial")
            empty = np.full((rows, columns), np.nan, np.float32)
            return PanelImage(empty, self.in_hu, np.ones(rows, np.bool_), np.zeros(rows, np.bool_))
        if panel not in COARSE and panel != "SR":
            values = self.interpolated(panel, values[None])[0]
        no_rows = np.zeros(len(values), np.bool_)
        return PanelImage(values, self.in_hu, no_rows, no_rows)

    def _cached(self, panel: PanelName, series: OpenedSeries, setting: Setting, index: int) -> Pixels | None:
        return self.cache.get(self.key("SR" if panel == "SR" else "LR", series, setting, index))

    def interpolated(self, panel: PanelName, lr: Pixels) -> Pixels:
        """(slices, h, w) → (slices, scale·h, scale·w), by the baseline that the panel is named after."""
        return by_baseline(torch.from_numpy(lr)[:, None], self.scale, self._baselines[panel])[:, 0].numpy()

    def _cut(self, panel: PanelName, slices: list[Pixels], plane: PlaneName, index: int) -> Pixels:
        """One row (coronal) or column (sagittal) of each slice, stacked to (slices, width)."""
        axis = 0 if plane == "coronal" else 1
        if panel == "SR":
            return np.stack([pixels.take(index, axis) for pixels in slices])
        lr_index = index // self.scale
        if panel in COARSE:
            return np.stack([pixels.take(lr_index, axis) for pixels in slices])
        # Interpolation reaches only a few pixels: a strip gives the values of the whole slice.
        start = max(0, lr_index - KERNEL_MARGIN)
        strip = slice(start, lr_index + KERNEL_MARGIN + 1)
        strips = np.stack([pixels[strip] if axis == 0 else pixels[:, strip] for pixels in slices])
        enlarged, line = self.interpolated(panel, strips), index - start * self.scale
        return enlarged[:, line] if axis == 0 else enlarged[:, :, line]

    def _width(self, panel: PanelName, series: OpenedSeries, plane: PlaneName) -> int:
        columns = series.geometry.size(plane)[1]
        return columns // self.scale if panel in COARSE else columns


def view_geometry(series: Series, scale: int, *, native: bool = False) -> ViewGeometry:
    """Compute the display geometry of a series.

    Args:
        series: the series.
        scale: of the super-resolution.
        native: the series is the source, made finer by `scale`; otherwise it is HR, and LR is made from it.
    """
    row_crop = slice(0, series.rows) if native else centered_crop(series.rows, scale)
    column_crop = slice(0, series.columns) if native else centered_crop(series.columns, scale)
    finer = scale if native else 1
    row_mm, column_mm = series.pixel_spacing
    step, places = _even_rows(series)
    slice_normal = normal(series.orientation)
    ascending = series.rises
    along_columns, along_rows = series.orientation[:3], series.orientation[3:]
    superior = slice_normal if ascending else _opposite(slice_normal)
    return ViewGeometry(
        shape=(
            len(series.slices),
            finer * (row_crop.stop - row_crop.start),
            finer * (column_crop.stop - column_crop.start),
        ),
        spacing=(step, row_mm / finer, column_mm / finer),
        crop=(row_crop, column_crop),
        z_rows=tuple(int(place) for place in (places[::-1] if ascending else places)),
        edge_labels={
            "axial": _edge_labels(along_columns, along_rows),
            "coronal": _edge_labels(along_columns, _opposite(superior)),
            "sagittal": _edge_labels(along_rows, _opposite(superior)),
        },
    )


def slab_indices(geometry: ViewGeometry, plane: PlaneName, index: int, thickness: float) -> list[int]:
    """Images of a plane whose middles lie within half of `thickness` mm of image `index`, that one included."""
    reach = int(thickness / 2 / geometry.spacing[PLANES.index(plane)] + ROUNDING)
    if plane == "axial":
        row = geometry.z_rows.index(index) if index in geometry.z_rows else None
        near = () if row is None else geometry.z_rows[max(0, row - reach) : row + reach + 1]
        return sorted({*near} - {NO_SLICE}) or [index]
    return list(range(max(0, index - reach), min(geometry.count(plane), index + reach + 1)))


def body_boxes(series: OpenedSeries) -> dict[PlaneName, tuple[float, float, float, float]]:
    """What of each plane's images holds the body, over all slices: left, top, right and bottom edge in mm."""
    geometry, blocks = series.geometry, series.stored.body.any(axis=0)
    (row_mm, column_mm), (rows, columns) = series.stored.pixel_spacing, geometry.size("axial")
    (height, width), depth = (rows * geometry.spacing[1], columns * geometry.spacing[2]), len(geometry.z_rows)
    sides: list[tuple[float, float]] = []
    along = (blocks.any(axis=-1), row_mm, height), (blocks.any(axis=0), column_mm, width)
    for (has_body, mm, whole), crop in zip(along, geometry.crop, strict=True):
        occupied, start = np.flatnonzero(has_body), crop.start
        ends = (int(occupied[0]) * BLOCK, (int(occupied[-1]) + 1) * BLOCK) if occupied.size else (0, whole / mm + start)
        sides.append((max(0.0, (ends[0] - start) * mm), min(whole, (ends[1] - start) * mm)))
    (top, bottom), (left, right) = sides
    below = depth * geometry.spacing[0]
    return {
        "axial": (left, top, right, bottom),
        "coronal": (left, 0.0, right, below),
        "sagittal": (top, 0.0, bottom, below),
    }


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


def _even_rows(series: Series) -> tuple[float, npt.NDArray[np.int64]]:
    """Step in mm of an even grid along the normal, and the slice nearest to each grid position, if it is near."""
    count = len(series.slices)
    step = series.slice_step or series.slice_thickness or 1.0
    along = spread([header.position for header in series.slices], series.orientation).along
    extent = float(along[-1] - along[0])
    rows = round(extent / step) + 1
    if rows > max(MAX_ROWS, MAX_ROWS_PER_SLICE * count) or (count > 1 and extent == 0):
        return extent / (count - 1) or step, np.arange(count)  # as high in all as the series is
    step = extent / (rows - 1) if rows > 1 else step
    distance = np.abs(along[0] + step * np.arange(rows)[:, None] - along)
    nearest = distance.argmin(axis=1)
    # Unevenly spaced slices may lie up to half a step off the grid.
    return step, np.where(distance.min(axis=1) <= 0.51 * step, nearest, NO_SLICE)


def _edge_labels(rightwards: Vector, downwards: Vector) -> EdgeLabels:
    return EdgeLabels(
        left=_letters(_opposite(rightwards)),
        right=_letters(rightwards),
        top=_letters(_opposite(downwards)),
        bottom=_letters(downwards),
    )


def _opposite(direction: Vector) -> Vector:
    x, y, z = direction
    return -x, -y, -z


def _letters(direction: Vector) -> str:
    """Letter of a direction; two where it is clearly oblique."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    named = [axis for rank, axis in enumerate(axes) if rank == 0 or abs(direction[axis]) >= OBLIQUE]
    return "".join(LETTERS[axis][int(direction[axis] < 0)] for axis in named[:2])
