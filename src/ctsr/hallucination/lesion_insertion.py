"""Lesions put into HR: how much of each comes back after degradation and method, and whether one appears without it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, degrade_hu
from ctsr.errors import DomainError
from ctsr.hu import AERATED_LUNG, SOFT_TISSUE, FloatArray, HURange, body_mask, tissue_mask
from ctsr.infer import SuperResolver
from ctsr.physics import soft_disc
from ctsr.physics.transfer import distances
from ctsr.through_plane import Block, ThickenedVolume, along_z, thickening

Tissue: TypeAlias = Literal["soft tissue", "lung"]
TISSUES: dict[Tissue, tuple[float, float]] = {"soft tissue": SOFT_TISSUE, "lung": AERATED_LUNG}
"""HU ranges of the smoothed slice."""
EDGE_MM = 1.5
"""Width of a lesion's edge: the blur of a scanner."""
RIM_MM = 1.0
"""Width of the same tissue that a lesion needs around it."""
GAP_MM = 1.0
"""Distance from a lesion's edge to the ring it is compared with."""
RING_MM = 3.0
"""Width of that ring."""
VIEW = 64
"""LR pixels on a side of the region around a lesion that a method is given: a few times the size of a lesion."""

LEAST_LEFT = 0.5
"""Share of a lesion's contrast that the range of the models leaves, below which it is not put in: it would be a fainter
one than it is called, and shares of next to nothing have no meaning."""

Places: TypeAlias = dict[Tissue, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Lesion:
    """A nodule, as its central slice shows it: a disc with a soft edge."""

    row: float
    """Row of its centre, HR pixels."""
    column: float
    diameter_mm: float
    contrast_hu: float
    tissue: Tissue
    height: float = 0.0
    """Slice of its centre in a volume, where it is a ball."""


@dataclass(frozen=True)
class LesionSpec:
    """Sizes and contrasts of the lesions of a slice."""

    diameters_mm: tuple[float, ...] = (3.0, 5.0, 8.0)
    contrasts_hu: tuple[float, ...] = (-100.0, -50.0, -20.0, 20.0, 50.0, 100.0)
    """Against the tissue around."""

    def __post_init__(self) -> None:
        if not all(d > 0 for d in self.diameters_mm) or not all(self.contrasts_hu):
            raise DomainError("lesions need diameters above 0 mm and contrasts other than 0 HU")

    def sample(self, hr_hu: FloatArray, pixel_mm: float, rng: np.random.Generator) -> tuple[Lesion, ...]:
        """Draw one lesion of each diameter and contrast, each at a random place and sub-pixel position.

        Where a slice has both, soft tissue and lung are equally likely. A diameter that fits nowhere is left out.
        """
        lesions = list[Lesion]()
        for diameter in self.diameters_mm:
            found = places(hr_hu, diameter, pixel_mm)
            tissues: list[Tissue] = [tissue for tissue, where in found.items() if len(where)]
            for contrast in self.contrasts_hu:
                draw, shift = rng.random(2), rng.uniform(-0.5, 0.5, 2)
                if not tissues:
                    continue
                tissue = tissues[int(draw[0] * len(tissues))]
                row, column = found[tissue][int(draw[1] * len(found[tissue]))]
                lesions.append(Lesion(float(row + shift[0]), float(column + shift[1]), diameter, contrast, tissue))
        return tuple(lesions)


def places(hr_hu: FloatArray, diameter_mm: float, pixel_mm: float) -> Places:
    """Pixels where a lesion of that size fits into one tissue, and its ring into the image: (n, 2) row and column."""
    body = body_mask(hr_hu)
    border = int(np.ceil((diameter_mm / 2 + EDGE_MM / 2 + GAP_MM + RING_MM) / pixel_mm)) + 1
    inside = np.zeros(hr_hu.shape, dtype=bool)
    inside[border:-border, border:-border] = True
    found: Places = {}
    for tissue, (low, high) in TISSUES.items():
        depth = np.asarray(ndimage.distance_transform_edt(tissue_mask(hr_hu, low, high) & body))
        found[tissue] = np.argwhere((depth * pixel_mm >= diameter_mm / 2 + RIM_MM) & inside)
    return found


def insert(hr_hu: FloatArray, lesion: Lesion, pixel_mm: float) -> FloatArray:
    """Add a lesion to a slice, HU; texture and noise of the tissue remain."""
    center, radius = (lesion.row, lesion.column), lesion.diameter_mm / 2 / pixel_mm
    disc = soft_disc(hr_hu.shape, center, radius, max(1.0, EDGE_MM / pixel_mm))
    return hr_hu + (lesion.contrast_hu * disc).astype(np.float32)


def contrast_of(image: FloatArray, lesion: Lesion, pixel_mm: float) -> float:
    """Mean inside the lesion's radius less the mean of the ring around it, HU.

    Args:
        image: (rows, columns), HU, in which `lesion` has its row and column.
        lesion: where to measure, whether it is there or not.
        pixel_mm: side of a pixel.
    """
    away = distances(image.shape, (lesion.row, lesion.column)) * pixel_mm
    radius = lesion.diameter_mm / 2
    inner = radius + EDGE_MM / 2 + GAP_MM
    ring = (away >= inner) & (away < inner + RING_MM)
    return float(image[away <= radius].mean()) - float(image[ring].mean())


def displacement_mm(difference: FloatArray, lesion: Lesion, pixel_mm: float) -> float | None:
    """Distance of a lesion that came back from its true place, by the centroid of values above half of their maximum.

    Args:
        difference: image with the lesion less image without it, HU.
        lesion: as it was inserted.
        pixel_mm: side of a pixel.

    Returns:
        None where nothing of its sign came back.
    """
    near = distances(difference.shape, (lesion.row, lesion.column)) * pixel_mm <= lesion.diameter_mm / 2 + EDGE_MM
    shown = np.where(near, difference * np.sign(lesion.contrast_hu), 0)
    if not shown.max() > 0:
        return None
    weights = np.where(shown >= shown.max() / 2, shown, 0)
    rows, columns = np.indices(difference.shape)
    center_row = float((rows * weights).sum() / weights.sum())
    center_column = float((columns * weights).sum() / weights.sum())
    return pixel_mm * float(np.hypot(center_row - lesion.row, center_column - lesion.column))


def part_of(lesion: Lesion, corner: Sequence[int]) -> Lesion:
    """The lesion in the coordinates of a region that begins at `corner`."""
    return Lesion(
        lesion.row - corner[0], lesion.column - corner[1], lesion.diameter_mm, lesion.contrast_hu, lesion.tissue
    )


@dataclass(frozen=True, eq=False)
class LesionImages:
    """The region around a lesion, with and without it."""

    lesion: Lesion
    """In the region's coordinates."""
    hr_with: FloatArray
    hr_without: FloatArray
    """(rows, columns), HU, clipped to the range."""
    lr_with: FloatArray
    lr_without: FloatArray
    """(rows/scale, columns/scale), HU, with the same noise."""


@dataclass(frozen=True)
class LesionTrial:
    """One lesion and one method."""

    slice_name: str
    method: str
    lesion: Lesion
    """In the slice's coordinates."""
    recovered: float
    """Share of the contrast in HR: 1 is all of it."""
    false_contrast_hu: float
    """Contrast of SR at the lesion's place without the lesion, less that of HR."""
    position_error_mm: float | None
    """None where nothing came back."""

    @property
    def appeared(self) -> bool:
        """Whether at least half of the lesion's contrast appears without the lesion."""
        return self.false_contrast_hu * float(np.sign(self.lesion.contrast_hu)) >= abs(self.lesion.contrast_hu) / 2


@dataclass(frozen=True)
class LesionRow:
    """Results of one method over all lesions of one size and contrast."""

    method: str
    diameter_mm: float
    contrast_hu: float
    lesions: int
    recovered_mean: float
    recovered_sd: float | None
    """Over lesions; None with one."""
    position_error_mm: float | None
    """Mean over those that came back."""
    false_contrast_sd_hu: float | None
    """Standard deviation, about 0, of what appears without a lesion, over all places measured at this diameter."""
    appeared: float
    """Share of places at which half of the contrast appears without a lesion."""


def lesion_images(
    pair: SlicePair, lesion: Lesion, *, degradation: Degradation, hu_range: HURange, pixel_mm: float
) -> LesionImages:
    """Degrade the slice with the lesion, with the draw and noise of the pair, and crop the region around the lesion."""
    scale, draw = degradation.scale, pair.draw
    hr = np.clip(pair.hr_hu, hu_range.low, hu_range.high)
    changed = np.clip(insert(pair.hr_hu, lesion, pixel_mm), hu_range.low, hu_range.high)
    antialias = degradation.antialias
    lr = degrade_hu(
        changed,
        draw.params,
        draw.noise_seed,
        scale=scale,
        hu_range=hu_range,
        antialias=antialias,
        pixel_mm=pixel_mm,
    )
    before = hu_range.to_hu(pair.lr[0, 0].cpu().numpy())
    top = _start(lesion.row / scale, before.shape[0])
    left = _start(lesion.column / scale, before.shape[1])
    coarse = (slice(top, top + VIEW), slice(left, left + VIEW))
    fine = (slice(scale * top, scale * (top + VIEW)), slice(scale * left, scale * (left + VIEW)))
    here = part_of(lesion, (scale * top, scale * left))
    return LesionImages(here, changed[fine], hr[fine], lr[coarse], before[coarse])


def lesion_trials(
    slice_name: str,
    pair: SlicePair,
    lesions: Iterable[Lesion],
    super_resolvers: Mapping[str, SuperResolver],
    *,
    degradation: Degradation,
    hu_range: HURange,
    pixel_mm: float,
) -> list[LesionTrial]:
    """Run each method on each lesion's region, with and without the lesion: two runs on `VIEW`² LR pixels.

    Lesions whose contrast the range cuts off, as of thin lung made thinner, are left out (`LEAST_LEFT`).

    Args:
        slice_name: for the results.
        pair: HR and LR.
        lesions: see `LesionSpec.sample`.
        super_resolvers: name → method, told of the pair where it must be (`ctsr.infer.telling`).
        degradation: of the pair, whose draw holds the parameters.
        hu_range: of the pair.
        pixel_mm: side of an HR pixel.
    """
    trials = list[LesionTrial]()
    for lesion in lesions:
        images = lesion_images(pair, lesion, degradation=degradation, hu_range=hu_range, pixel_mm=pixel_mm)
        lesion_here = images.lesion
        hr_contrast = contrast_of(images.hr_with, lesion_here, pixel_mm)
        hr_background = contrast_of(images.hr_without, lesion_here, pixel_mm)
        whole = contrast_of(insert(np.zeros_like(images.hr_with), lesion_here, pixel_mm), lesion_here, pixel_mm)
        if (hr_contrast - hr_background) / whole < LEAST_LEFT:
            continue
        for method, super_resolver in super_resolvers.items():
            sr_with, sr_without = super_resolver(images.lr_with), super_resolver(images.lr_without)
            sr_contrast = contrast_of(sr_with, lesion_here, pixel_mm)
            sr_background = contrast_of(sr_without, lesion_here, pixel_mm)
            trials.append(
                LesionTrial(
                    slice_name,
                    method,
                    lesion,
                    recovered=(sr_contrast - sr_background) / (hr_contrast - hr_background),
                    false_contrast_hu=sr_background - hr_background,
                    position_error_mm=displacement_mm(sr_with - sr_without, lesion_here, pixel_mm),
                )
            )
    return trials


# Between slices


BETWEEN_SLICES = LesionSpec((4.0, 6.0, 8.0, 10.0), (-100.0, -50.0, 50.0, 100.0))
"""Lesions that are put between slices."""
Spacing: TypeAlias = tuple[float, float, float]
"""Mm from slice to slice, row to row, column to column."""


def draw_between(thick: ThickenedVolume, spacing: Spacing, rng: np.random.Generator) -> list[Lesion]:
    """Draw one lesion of each size and contrast, its centre between two thick slices, never on one.

    It lies in one tissue above and below, too. A diameter that fits nowhere is left out.

    Args:
        thick: thick slices, and the truth that they were made of.
        spacing: of the truth.
        rng: draws.
    """
    grid, lesions = thick.grid, list[Lesion]()
    end = (grid.num_wanted - 1) * spacing[0]
    for diameter in BETWEEN_SLICES.diameters_mm:
        reach = diameter / 2 + EDGE_MM + GAP_MM + RING_MM
        first = math.ceil(reach / grid.distance - 0.25)
        last = math.floor((end - reach) / grid.distance - 0.75)
        for contrast in BETWEEN_SLICES.contrasts_hu:
            draw, part = rng.random(3), rng.uniform(0.25, 0.75)
            if last < first:
                continue
            height = (first + int(draw[2] * (last - first + 1)) + part) * grid.distance / spacing[0]
            heights = [height + sign * diameter / 2 / spacing[0] for sign in (-1, 0, 1)]
            planes = [places(thick.truth[round(at)], diameter, spacing[1]) for at in heights]
            common: dict[Tissue, list[tuple[int, int]]] = {}
            for tissue in planes[0]:
                common[tissue] = _in_all([plane[tissue] for plane in planes])
            tissues: list[Tissue] = [tissue for tissue, where in common.items() if where]
            if tissues:
                tissue = tissues[int(draw[0] * len(tissues))]
                row, column = common[tissue][int(draw[1] * len(common[tissue]))]
                lesions.append(Lesion(row, column, diameter, contrast, tissue, height))
    return lesions


def _in_all(found: Sequence[npt.NDArray[np.int64]]) -> list[tuple[int, int]]:
    """Places that all have, sorted."""
    places = (set(map(tuple, where.tolist())) for where in found)
    return sorted(set.intersection(*places))


def trials_between(
    name: str,
    thick: ThickenedVolume,
    lesions: Iterable[Lesion],
    methods: Mapping[str, Callable[[ThickenedVolume], Block]],
    spacing: Spacing,
) -> list[LesionTrial]:
    """Run each method on the region around each lesion, with and without it.

    The ball is put into the truth, made thick with it, and brought back: all of the chain is linear but the methods.

    Args:
        name: of the series, for the results.
        thick: thick slices, and the truth that they were made of.
        lesions: see `draw_between`.
        methods: name → what makes the wanted slices of thick ones.
        spacing: of the truth.
    """
    trials = list[LesionTrial]()
    for lesion in lesions:
        top, left = _start(lesion.row, thick.truth.shape[1]), _start(lesion.column, thick.truth.shape[2])
        part = np.s_[:, top : top + VIEW, left : left + VIEW]
        away = _away(lesion, thick.truth[part].shape, (0, top, left), spacing)
        ball = lesion.contrast_hu * np.clip(0.5 + (lesion.diameter_mm / 2 - away) / EDGE_MM, 0, 1)
        added = ball.astype(np.float32)
        without = replace(thick, truth=thick.truth[part], thick=thick.thick[part], padding=None)
        grid = thick.grid
        weights = thickening(
            grid.profile, grid.source_positions(0, grid.count), grid.wanted_positions(0, grid.num_wanted)
        )
        with_it = replace(without, truth=without.truth + added, thick=without.thick + along_z(weights, added))
        true_contrast = _ball_contrast(added, away, lesion)
        background = _ball_contrast(without.truth, away, lesion)
        for method, make in methods.items():
            result, bare = make(with_it), make(without)
            trials.append(
                LesionTrial(
                    name,
                    method,
                    lesion,
                    recovered=_ball_contrast(result - bare, away, lesion) / true_contrast,
                    false_contrast_hu=_ball_contrast(bare, away, lesion) - background,
                    position_error_mm=None,
                )
            )
    return trials


def _away(lesion: Lesion, shape: Sequence[int], corner: Spacing, spacing: Spacing) -> npt.NDArray[np.float64]:
    """Mm from the centre of a ball."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    along = (z + corner[0] - lesion.height) * spacing[0]
    down, across = (y + corner[1] - lesion.row) * spacing[1], (x + corner[2] - lesion.column) * spacing[2]
    return np.sqrt(along**2 + down**2 + across**2)


def _ball_contrast(volume: Block, away: npt.NDArray[np.float64], lesion: Lesion) -> float:
    """Mean inside the ball less the mean of the shell around it, HU."""
    radius = lesion.diameter_mm / 2
    inner = radius + EDGE_MM / 2 + GAP_MM
    shell = (away >= inner) & (away < inner + RING_MM)
    return float(volume[away <= radius].mean()) - float(volume[shell].mean())


def lesion_table(trials: Sequence[LesionTrial]) -> list[LesionRow]:
    """One row for each method, diameter and contrast, in the order they first come in."""
    keys = dict.fromkeys((t.method, t.lesion.diameter_mm, t.lesion.contrast_hu) for t in trials)
    return [_row(trials, *key) for key in keys]


def _row(trials: Sequence[LesionTrial], method: str, diameter_mm: float, contrast_hu: float) -> LesionRow:
    same_size = [t for t in trials if t.method == method and t.lesion.diameter_mm == diameter_mm]
    own = [t for t in same_size if t.lesion.contrast_hu == contrast_hu]
    recovered = [t.recovered for t in own]
    errors = [t.position_error_mm for t in own if t.position_error_mm is not None]
    false = np.array([t.false_contrast_hu for t in same_size])
    return LesionRow(
        method=method,
        diameter_mm=diameter_mm,
        contrast_hu=contrast_hu,
        lesions=len(own),
        recovered_mean=float(np.mean(recovered)),
        recovered_sd=float(np.std(recovered, ddof=1)) if len(own) > 1 else None,
        position_error_mm=float(np.mean(errors)) if errors else None,
        false_contrast_sd_hu=float(np.sqrt(np.mean(false**2))) if len(false) > 1 else None,
        appeared=float(np.mean([t.appeared for t in own])),
    )


def _start(place: float, length: int) -> int:
    """First pixel of a region of `VIEW` pixels centred on a place, moved back into the image."""
    return max(0, min(round(place) - VIEW // 2, length - VIEW))
