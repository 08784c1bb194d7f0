"""Noise and sharpness of real series, and the bounds a result should keep beside its source. NumPy and SciPy only."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.hu import TISSUE_CORES, body_mask, core_masks
from ctsr.quality.noise import LEAST_HU, HomogeneousWindows, cut_windows, detrended, homogeneous_windows, noise_in
from ctsr.quality.sharpness import FEWEST, REACH, TEN_TO_NINETY, edge_points, fit_edges
from ctsr.volume import PaddingMask, VoxelsHU, block_means

NEIGHBOURHOOD = 5
"""Source pixels along each side of what a result's pixel is compared with."""
OVERSHOOT_HU = 20.0
"""HU beyond the range of that neighbourhood: less is what any interpolation of noise does."""
AGREEMENT_SMOOTHING = 2.0
"""Source pixels, standard deviation: removed noise does not count as disagreement, a shift of HU does."""
INTERIOR = 3
"""Source pixels from the border of a tissue's mask to its inside. Masks are thresholds on a source with noise: at their
borders, pixels are in or out by their noise, and whatever removes noise is biased there, however true it is."""
FEWEST_PIXELS = 200
"""Pixels of a tissue, over all slices, below which its mean is that of its noise."""


class SourceAndResult(NamedTuple):
    """One slice before and after."""

    source: VoxelsHU
    """(rows, columns), HU."""
    result: VoxelsHU
    """(scale·rows, scale·columns), HU, on the same field of view."""
    padding: PaddingMask | None = None
    """(rows, columns), True where nothing was reconstructed."""


@dataclass(frozen=True)
class BeforeAfter:
    """What super-resolution did to a series, pooled over the slices that were looked at. None is: not measurable."""

    source_noise_hu: float | None
    """σ of the noise in homogeneous soft tissue of the source."""
    noise_ratio: float | None
    """σ of the result over σ of the source, in the same windows."""
    overshoot_share: float | None
    """Share of the body's pixels beyond the range of the source's neighbourhood by more than `OVERSHOOT_HU`."""
    overshoot_most_hu: float | None
    """The farthest any pixel of the body lies beyond that range."""
    agreement_hu: float | None
    """Mean of |mean of scale×scale pixels − source|, smoothed, in the body."""
    bias_hu: Mapping[str, float]
    """Tissue → mean of result − source, `INTERIOR` pixels inside of it; tissues that do not occur are left out."""
    slices: int
    edge_width_mm: float | None = None
    """From 10 to 90 % of the result's edges, median."""
    edge_width_ratio: float | None = None
    """Edge width of the result over that of another one, such as bicubic interpolation: median over the same edges."""
    bias_to_the_rim_hu: Mapping[str, float] = field(default_factory=dict[str, float])
    """As `bias_hu`, up to the borders of the masks."""

    @property
    def largest_bias_hu(self) -> float | None:
        """The largest bias of all tissues, by absolute value."""
        return max(map(abs, self.bias_hu.values()), default=None)

    @property
    def largest_bias_to_the_rim_hu(self) -> float | None:
        """The same up to the borders of the masks."""
        return max(map(abs, self.bias_to_the_rim_hu.values()), default=None)


def measure_before_after(
    pairs: Sequence[SourceAndResult],
    *,
    scale: int,
    pixel_spacing: tuple[float, float],
    others: Sequence[VoxelsHU] | None = None,
) -> BeforeAfter:
    """Compare a few slices of a result with those of its source.

    Args:
        pairs: of one series.
        scale: how many times finer the result is.
        pixel_spacing: of the source, mm between rows, between columns.
        others: the same slices by another method, whose edges the result's are compared with.

    Raises:
        DomainError: no pairs, or a result that is not `scale` times its source.
    """
    if not pairs:
        raise DomainError("before and after are compared on at least one slice")
    beyond, apart = list[npt.NDArray[np.float32]](), list[npt.NDArray[np.float32]]()
    inside: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in TISSUE_CORES}
    whole: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in TISSUE_CORES}
    for pair in pairs:
        lowered = block_means(pair.result, scale)
        if lowered.shape != pair.source.shape:
            raise DomainError(f"a result of {pair.result.shape} pixels is not {scale} times {pair.source.shape}")
        difference = (lowered - pair.source).astype(np.float32)
        body = _body(pair)
        beyond.append(excess_hu(pair.source, pair.result, scale)[np.kron(body, np.ones((scale, scale), bool))])
        apart.append(np.abs(ndimage.gaussian_filter(difference, AGREEMENT_SMOOTHING))[body])
        for name, mask in core_masks(pair.source).items():
            whole[name].append(difference[mask & body])
            interior = np.asarray(ndimage.binary_erosion(mask & body, iterations=INTERIOR), dtype=bool)
            inside[name].append(difference[interior])
    excess, disagreement = np.concatenate(beyond), np.concatenate(apart)
    sources = [pair.source for pair in pairs]
    windows = homogeneous_windows(sources, pixel_spacing, [pair.padding for pair in pairs])
    widths = edge_widths(pairs, [pair.result for pair in pairs], scale)
    width = _median(widths)
    return BeforeAfter(
        source_noise_hu=None if windows is None else noise_in(windows, pixel_spacing).sigma_hu,
        noise_ratio=None if windows is None else noise_ratio(pairs, windows, scale),
        overshoot_share=float((excess > OVERSHOOT_HU).mean()) if excess.size else None,
        overshoot_most_hu=float(excess.max()) if excess.size else None,
        agreement_hu=float(disagreement.mean()) if disagreement.size else None,
        bias_hu=_means(inside),
        slices=len(pairs),
        edge_width_mm=None if width is None else width * math.sqrt(pixel_spacing[0] * pixel_spacing[1]),
        edge_width_ratio=None if others is None else _median(widths / edge_widths(pairs, others, scale)),
        bias_to_the_rim_hu=_means(whole),
    )


def _means(by_tissue: Mapping[str, Sequence[npt.NDArray[np.float32]]]) -> dict[str, float]:
    """Over all slices; without tissues that hardly occur."""
    pooled = {name: np.concatenate(found) for name, found in by_tissue.items()}
    return {name: float(e.mean(dtype=np.float64)) for name, e in pooled.items() if e.size >= FEWEST_PIXELS}


def edge_widths(pairs: Sequence[SourceAndResult], images: Sequence[VoxelsHU], scale: int) -> npt.NDArray[np.float64]:
    """From 10 to 90 % of the edges that are clear in the source, in source pixels: (edges), NaN where one is not found.

    Args:
        pairs: of one series: their sources tell where edges are, the same ones for every method.
        images: (scale·rows, scale·columns) for each pair, HU.
        scale: how many times finer they are.
    """
    widths = list[npt.NDArray[np.float64]]()
    reach = round(REACH * (1 + scale) / 2)
    for pair, image in zip(pairs, images, strict=True):
        found = fit_edges(pair.source, edge_points(pair.source, pair.padding))
        points = found.points[found.good] * scale + scale // 2
        points = points[(points >= reach).all(axis=1) & (points < np.array(image.shape) - reach).all(axis=1)]
        fits = fit_edges(image, points, reach=reach)
        widths.append(np.where(fits.good, fits.sigma * TEN_TO_NINETY / scale, np.nan))
    return np.concatenate(widths)


def _median(values: npt.NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= FEWEST else None


def noise_ratio(pairs: Sequence[SourceAndResult], windows: HomogeneousWindows, scale: int) -> float | None:
    """σ of the result over σ of the source: median over the same homogeneous windows, each without its trend.

    Args:
        pairs: of one series.
        windows: of the sources.
        scale: how many times finer the result is.

    Returns:
        None where the source has no noise.
    """
    finer = windows.places * (1, scale, scale)
    sources, results = [pair.source for pair in pairs], [pair.result for pair in pairs]
    before = detrended(cut_windows(sources, windows.places, windows.size)).var(axis=(1, 2))
    after = detrended(cut_windows(results, finer, windows.size * scale)).var(axis=(1, 2))
    noisy = before > LEAST_HU**2
    return math.sqrt(float(np.median(after[noisy] / before[noisy]))) if noisy.any() else None


def excess_hu(source: VoxelsHU, result: VoxelsHU, scale: int) -> npt.NDArray[np.float32]:
    """How far each pixel of the result lies beyond the range of the source around it, HU; 0 within it.

    Args:
        source: (rows, columns), HU.
        result: (scale·rows, scale·columns), HU.
        scale: how many times finer the result is.
    """
    ones = np.ones((scale, scale), np.float32)
    highest = np.kron(ndimage.maximum_filter(source, NEIGHBOURHOOD, mode="nearest"), ones)
    lowest = np.kron(ndimage.minimum_filter(source, NEIGHBOURHOOD, mode="nearest"), ones)
    return np.maximum(np.maximum(result - highest, lowest - result), 0).astype(np.float32)


def _body(pair: SourceAndResult) -> npt.NDArray[np.bool_]:
    body = body_mask(pair.source)
    return body if pair.padding is None else body & ~pair.padding


class Checked(NamedTuple):
    """One bound beside what was measured."""

    bound: "Bound"
    value: float | None
    """None where it could not be measured."""
    limit: float

    @property
    def kept(self) -> bool:
        """Also where there is no value."""
        return self.value is None or self.value <= self.limit

    @property
    def warning(self) -> str:
        """One sentence for the user, with both figures."""
        unit = self.bound.unit
        value = "not measured" if self.value is None else f"{self.value:.3g}{unit}"
        return f"{self.bound.sentence} ({self.bound.name} {value}, at most {self.limit:.3g}{unit} expected)"


@dataclass(frozen=True)
class Bound:
    """What a result should keep to."""

    name: str
    unit: str
    value: Callable[[BeforeAfter], float | None]
    limit: Callable[[BeforeAfter, BeforeAfter | None], float]
    """Takes what was measured, and that of bicubic interpolation of the same slices, where it was measured."""
    sentence: str
    """For the user, when it is exceeded."""


QUIET_HU = 15.0
"""Noise of a source above which a result should be quieter, not only as quiet."""
BICUBIC_OVERSHOOT = 0.005
"""The most that bicubic interpolation showed on real series: taken where it was not measured."""


def _noise_limit(measured: BeforeAfter, _bicubic: BeforeAfter | None) -> float:
    return 0.8 if (measured.source_noise_hu or 0) > QUIET_HU else 1.0


def _overshoot_limit(_measured: BeforeAfter, bicubic: BeforeAfter | None) -> float:
    share = None if bicubic is None else bicubic.overshoot_share
    return 100 * ((BICUBIC_OVERSHOOT if share is None else share) + 0.002)


def _agreement_limit(measured: BeforeAfter, _bicubic: BeforeAfter | None) -> float:
    return 1.0 + 0.05 * (measured.source_noise_hu or 0)


BOUNDS = (
    Bound(
        "noise out/in",
        "×",
        lambda measured: measured.noise_ratio,
        _noise_limit,
        "the result is noisier than it should be beside its source",
    ),
    Bound(
        "overshoot",
        " %",
        lambda measured: None if measured.overshoot_share is None else 100 * measured.overshoot_share,
        _overshoot_limit,
        f"pixels of the body lie more than {OVERSHOOT_HU:g} HU beyond what the source shows around them",
    ),
    Bound(
        "agreement",
        " HU",
        lambda measured: measured.agreement_hu,
        _agreement_limit,
        "the result, averaged back to the source's pixels, differs from the source",
    ),
    Bound(
        "bias",
        " HU",
        lambda measured: measured.largest_bias_hu,
        lambda _measured, _bicubic: 0.5,
        "HU of a tissue have shifted",
    ),
    Bound(
        "edge width against bicubic",
        "×",
        lambda measured: measured.edge_width_ratio,
        lambda _measured, _bicubic: 1.0,
        "edges are blunter than those of bicubic interpolation",
    ),
)
"""Limits for the default of `ctsr upscale`; `check` applies them."""


def check(measured: BeforeAfter, bicubic: BeforeAfter | None = None) -> tuple[Checked, ...]:
    """Every bound beside its figure.

    Args:
        measured: of the result.
        bicubic: the same of bicubic interpolation of the same slices, which bounds of overshoot refer to.
    """
    return tuple(Checked(bound, bound.value(measured), bound.limit(measured, bicubic)) for bound in BOUNDS)
