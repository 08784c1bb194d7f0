"""Resolution and noise of a real scan of a phantom: transfer function and noise.

Definitions after AAPM Task Group 233 (Samei et al., Med. Phys. 46:e735, 2019): the transfer function of a wire is the
Fourier transform of its image, that of a rod comes from its circular edge.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.special import j0, ndtr

from ctsr.errors import DomainError
from ctsr.hu import body_mask
from ctsr.physics.transfer import BIN, EdgeProfile, TransferFunction, edge_profile, falls_to, transfer_function
from ctsr.quality.noise import (
    NoiseEstimate,
    NoiseSpectrum,
    cut_windows,
    homogeneous_windows,
    noise_in,
    power_map,
    spectrum_of,
)
from ctsr.quality.sharpness import REACH, edge_points, edge_samples, fit_edges
from ctsr.volume import PaddingMask, VoxelsHU

Kind: TypeAlias = Literal["wire", "rods", "edge"]
SOUGHT: Mapping[Kind, str] = {"wire": "wire", "rods": "rods", "edge": "clear edges"}
"""What a scan without such objects is said to lack."""
Values: TypeAlias = npt.NDArray[np.float64]

WIRE_MM = 2.0
"""Around a wire, taken into its transfer function."""
WIRE_PIXELS_A_BLUR = 4
"""A wire is looked for in pixels of at most this part of a millimetre: coarser ones cannot sample its image."""
WIRE_TO_NOISE = 25.0
"""Height of a wire over the spread around it, for it to be found without being told."""
TOLD_TO_NOISE = 8.0
"""The same where it is told: the highest of some hundred pixels of noise lies 4 above."""
ROD_MM = (6.0, 20.0)
"""Least and greatest diameter of a rod."""
ROD_STEP_HU = 120.0
"""Against its surroundings."""
ROD_ROUNDNESS = 0.85
"""Area over that of the disc as wide as the rod."""
SMOOTH_MM = 0.8
"""Standard deviation of the Gaussian that rods are found after."""
REACH_MM = 5.0
"""Reach of a rod's profile on either side of its edge."""
BLUNTEST = 0.23
"""Blur of an edge over the reach of its profile: of a blunter one, too little is seen, and it comes out sharper."""
STEPS = 100
"""Frequencies of a wire's transfer function."""


class Rod(NamedTuple):
    """A disc in one slice, pixels."""

    row: float
    column: float
    radius: float
    contrast_hu: float


@dataclass(frozen=True)
class EdgeKindResult:
    """The edges of bright rods, of dark rods, or of all edges of a scan."""

    name: str
    transfer: TransferFunction
    width_mm: float | None
    """From 10 to 90 %; None for a wire, which has no edge."""
    count: int
    """Objects that were averaged."""


@dataclass(frozen=True)
class ScanPhysics:
    """What was measured in a scan of a phantom."""

    kind: Kind
    objects: tuple[EdgeKindResult, ...]
    noise: NoiseEstimate
    spectrum: NoiseSpectrum | None
    """None where nothing is uniform."""


def measure_scan(
    slices: Sequence[VoxelsHU],
    pixel_spacing: tuple[float, float],
    paddings: Sequence[PaddingMask | None] | None = None,
    *,
    kind: Kind | None = None,
    center: tuple[float, float] | None = None,
    finer: int = 1,
) -> ScanPhysics:
    """Measure transfer function and noise.

    Args:
        slices: (rows, columns) each, HU, of one series.
        pixel_spacing: mm between rows, between columns; they must be alike.
        paddings: True where a slice was not reconstructed: its rim is no edge of the object.
        kind: what to measure resolution with; None takes a wire where there is one, else rods, else edges.
        center: row and column of the wire, pixels, within a millimetre; None looks for it.
        finer: how many times finer the pixels are than those of the scan: edges are then looked for over as many mm.

    Raises:
        DomainError: there is no such object, or pixels are not square.
    """
    if not slices or not math.isclose(*pixel_spacing, rel_tol=1e-3):
        raise DomainError("resolution is measured on at least one slice of square pixels")
    pixel_mm, masks = pixel_spacing[0], paddings or [None] * len(slices)
    for tried in (kind,) if kind else ("wire", "rods", "edge"):
        objects = _measured(slices, masks, pixel_mm, tried, center, finer)
        if objects:
            return ScanPhysics(tried, objects, *_noise(slices, masks, pixel_spacing))
    sought = "wire, rods or clear edges" if kind is None else SOUGHT[kind]
    where = "the slice" if len(slices) == 1 else f"the {len(slices)} slices"
    raise DomainError(f"no {sought} found in {where}; name another kind, or slices that show it")


def _measured(
    slices: Sequence[VoxelsHU],
    paddings: Sequence[PaddingMask | None],
    pixel_mm: float,
    kind: Kind,
    center: tuple[float, float] | None,
    finer: int,
) -> tuple[EdgeKindResult, ...]:
    if kind == "wire":
        places = [wire_at(image, center, pixel_mm) if center else find_wire(image, pixel_mm) for image in slices]
        found = [wire_transfer(image, at, pixel_mm) for image, at in zip(slices, places, strict=True) if at]
        if center and not found:
            row, column = center
            raise DomainError(f"nothing at {row:g}, {column:g} stands out as a wire does; name another `center`")
        if not found:
            return ()
        frequencies = np.linspace(0, 1 / pixel_mm, STEPS + 1)
        return (EdgeKindResult("wire", _curve(frequencies, np.mean(found, axis=0)), None, len(found)),)
    if kind == "rods":
        return _rod_results(slices, pixel_mm)
    return _edge_results(slices, paddings, pixel_mm, finer)


def find_wire(image: VoxelsHU, pixel_mm: float) -> tuple[float, float] | None:
    """Row and column of the one point that stands out of its surroundings; None where none does.

    Args:
        image: (rows, columns), HU.
        pixel_mm: side of a pixel.
    """
    reach = math.ceil(WIRE_MM / pixel_mm)
    if pixel_mm > 1 / WIRE_PIXELS_A_BLUR or min(image.shape) < 4 * reach:
        return None
    smooth = ndimage.gaussian_filter(image.astype(np.float64), 0.1 / pixel_mm)
    rest = smooth - ndimage.gaussian_filter(smooth, 1.0 / pixel_mm)
    inner = rest[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    place = np.unravel_index(int(inner.argmax()), inner.shape)
    row, column = int(place[0]) + 2 * reach, int(place[1]) + 2 * reach
    spread = 1.4826 * float(np.median(np.abs(inner - np.median(inner))))
    if rest[row, column] < WIRE_TO_NOISE * max(spread, 1e-6):
        return None
    return _middle(image, (row, column), reach // 2)


def wire_at(image: VoxelsHU, place: tuple[float, float], pixel_mm: float) -> tuple[float, float] | None:
    """Row and column of the middle of the wire at a place; None where nothing there stands out of its surroundings.

    Taken at the place itself, a pixel beside its middle, it would seem blunter than it is.

    Args:
        image: (rows, columns), HU.
        place: row and column, within a millimetre of it.
        pixel_mm: side of a pixel.

    Raises:
        DomainError: it is too near the border.
    """
    reach = math.ceil(WIRE_MM / pixel_mm)
    part, distances = _around(image, place, reach)
    ground = part[distances > 0.7 * reach]
    spread = 1.4826 * float(np.median(np.abs(ground - np.median(ground))))
    if part[distances <= reach / 2].max() < TOLD_TO_NOISE * max(spread, 1e-6):
        return None
    return _middle(image, place, reach // 2)


def _middle(image: VoxelsHU, place: tuple[float, float], reach: int) -> tuple[float, float]:
    """Centroid of what is brightest about a place."""
    part, _ = _around(image, place, reach)
    rows, columns = np.indices(part.shape)
    weights = np.where(part > part.max() / 4, part, 0)
    offset = [float((axis * weights).sum() / weights.sum()) for axis in (rows, columns)]
    return round(place[0]) - reach + offset[0], round(place[1]) - reach + offset[1]


def wire_transfer(image: VoxelsHU, center: tuple[float, float], pixel_mm: float) -> Values:
    """The transfer function of a wire at `center`: the Hankel transform of its image, 1 at frequency 0.

    Args:
        image: (rows, columns), HU.
        center: row and column, pixels.
        pixel_mm: side of a pixel.

    Returns:
        (`STEPS` + 1) from 0 to 1/pixel.

    Raises:
        DomainError: the wire is too near the border.
    """
    reach = math.ceil(WIRE_MM / pixel_mm)
    part, distances = _around(image, center, reach)
    # Beyond half of the reach there is next to nothing of the wire, but noise: it fades out.
    weight = np.clip((reach - distances) / (reach / 2), 0, 1) * part
    frequencies = np.linspace(0, 1, STEPS + 1)
    values = np.array([(weight * j0(2 * np.pi * f * distances)).sum() for f in frequencies])
    return values / values[0]


def _around(image: VoxelsHU, center: tuple[float, float], reach: int) -> tuple[Values, Values]:
    """A square around a point less the mean of its rim, and each pixel's distance from the point."""
    if not (math.isfinite(center[0]) and math.isfinite(center[1])):
        raise DomainError(f"the wire's `center` needs two finite numbers, got {center[0]:g}, {center[1]:g}")
    row, column = round(center[0]), round(center[1])
    if min(row, column) < reach or row + reach >= image.shape[0] or column + reach >= image.shape[1]:
        raise DomainError(f"the wire at {center[0]:.0f}, {center[1]:.0f} lies within {reach} pixels of the border")
    part = image[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(np.float64)
    axis = np.arange(-reach, reach + 1)
    distances = np.hypot((axis + row - center[0])[:, None], axis + column - center[1])
    return part - np.median(part[distances > 0.7 * reach]), distances


def find_rods(image: VoxelsHU, pixel_mm: float) -> tuple[Rod, ...]:
    """Round inserts of a phantom, brighter or darker than what is around them.

    Args:
        image: (rows, columns), HU.
        pixel_mm: side of a pixel.
    """
    body = np.asarray(ndimage.binary_erosion(body_mask(image), iterations=math.ceil(4 / pixel_mm)), bool)
    if not body.any():
        return ()
    smooth = ndimage.gaussian_filter(image.astype(np.float64), SMOOTH_MM / pixel_mm)
    ground = float(np.median(smooth[body]))
    rods = list[Rod]()
    for sign in (1, -1):
        mask = body & (sign * (smooth - ground) > ROD_STEP_HU / 2)
        labels, count = cast("tuple[npt.NDArray[np.int32], int]", ndimage.label(mask))
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            rod = _rod(image, labels[box] == label, (box[0].start, box[1].start), pixel_mm)
            if count and rod is not None:
                rods.append(rod)
    return tuple(rods)


def _rod(image: VoxelsHU, mask: npt.NDArray[np.bool_], corner: tuple[int, int], pixel_mm: float) -> Rod | None:
    """Where and how large one of them is, to a fraction of a pixel, if it is round and large enough."""
    height, width = mask.shape
    diameter = 2 * math.sqrt(mask.sum() / math.pi)
    round_enough = mask.sum() > ROD_ROUNDNESS * math.pi / 4 * max(height, width) ** 2
    if not round_enough or not ROD_MM[0] <= diameter * pixel_mm <= ROD_MM[1]:
        return None
    middle = corner[0] + (height - 1) / 2, corner[1] + (width - 1) / 2
    reach = math.ceil(0.8 * diameter)
    row, column = round(middle[0]), round(middle[1])
    if min(row, column) < reach or row + reach >= image.shape[0] or column + reach >= image.shape[1]:
        return None
    part = image[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(np.float64)
    rows, columns = np.indices(part.shape) - reach
    distances = np.hypot(rows, columns)
    around = float(np.median(part[(distances > 0.65 * diameter) & (distances <= reach)]))
    inside = float(np.median(part[distances < 0.3 * diameter]))
    if abs(inside - around) < ROD_STEP_HU:
        return None

    def misfit(values: Values) -> Values:
        """Residual of a disc with a Gaussian-blurred edge, in the pixels inside of other structures."""
        low, high, down, right, radius, sigma = values
        away = np.hypot(rows - down, columns - right)
        return (part - low - (high - low) * ndtr((radius - away) / sigma))[distances < 0.75 * diameter]

    found = least_squares(misfit, (around, inside, 0.0, 0.0, diameter / 2, 1.0), x_scale=(100, 100, 1, 1, 1, 1))
    low, high, down, right, radius, _ = map(float, found.x)
    return Rod(row + down, column + right, radius, high - low)


def _rod_results(slices: Sequence[VoxelsHU], pixel_mm: float) -> tuple[EdgeKindResult, ...]:
    profiles: dict[str, list[EdgeProfile]] = {"bright rods": [], "dark rods": []}
    reach = REACH_MM / pixel_mm
    for image in slices:
        for rod in find_rods(image, pixel_mm):
            if rod.radius > reach:
                # Each edge counts alike, whatever its contrast.
                scaled = image.astype(np.float64) / abs(rod.contrast_hu)
                name = "bright rods" if rod.contrast_hu > 0 else "dark rods"
                profiles[name].append(edge_profile(scaled, (rod.row, rod.column), rod.radius, reach=reach))
    return tuple(
        EdgeKindResult(name, transfer_function(found, pixel_mm, reach=reach), _width(found, pixel_mm), len(found))
        for name, found in profiles.items()
        if found
    )


class _Edges(NamedTuple):
    """The sharpest half of all clear edges."""

    profiles: list[EdgeProfile]
    """One for each slice that has some."""
    number: int
    sigma: float
    """Their median blur, pixels."""
    reach: float
    """Of the profiles, pixels."""


def _edge_results(
    slices: Sequence[VoxelsHU], paddings: Sequence[PaddingMask | None], pixel_mm: float, finer: int
) -> tuple[EdgeKindResult, ...]:
    """Results from the sharpest half of all clear edges, fitted as far as they are blurred."""
    edges = _edges(slices, paddings, finer)
    while edges.profiles and edges.sigma > BLUNTEST * edges.reach:
        finer *= 2
        wider = _edges(slices, paddings, finer)
        if not wider.profiles:
            break
        edges = wider
    if not edges.profiles:
        return ()
    transfer = transfer_function(edges.profiles, pixel_mm, reach=edges.reach)
    return (EdgeKindResult("edges", transfer, _width(edges.profiles, pixel_mm), edges.number),)


def _edges(slices: Sequence[VoxelsHU], paddings: Sequence[PaddingMask | None], finer: int) -> _Edges:
    profiles, sigmas = list[EdgeProfile](), list[float]()
    reach = finer * REACH
    for image, padding in zip(slices, paddings, strict=True):
        fits = fit_edges(image, edge_points(image, padding, finer=finer), reach=reach)
        sharp = fits.good & (fits.sigma <= (np.median(fits.sigma[fits.good]) if fits.good.any() else 0))
        if sharp.any():
            offsets, values = edge_samples(image, fits, sharp, reach=reach)
            profiles.append(_profile(offsets.ravel(), values.ravel(), float(reach)))
            sigmas += fits.sigma[sharp].tolist()
    return _Edges(profiles, len(sigmas), float(np.median(sigmas)) if sigmas else 0.0, float(reach))


def _profile(offsets: Values, values: Values, reach: float) -> EdgeProfile:
    near = np.abs(offsets) < reach
    index = ((offsets[near] + reach) / BIN).astype(np.int64)
    bins = math.ceil(2 * reach / BIN)
    sums = np.asarray(np.bincount(index, values[near], bins), np.float64)
    return EdgeProfile(sums, np.asarray(np.bincount(index, minlength=bins), np.float64))


def _width(profiles: Sequence[EdgeProfile], pixel_mm: float) -> float | None:
    """From 10 to 90 % of the mean profile, between its plateaus, mm."""
    sums = np.sum([profile.sums for profile in profiles], axis=0)
    counts = np.sum([profile.counts for profile in profiles], axis=0)
    mean = np.asarray(sums / np.maximum(counts, 1), np.float64)
    plateau = max(2, len(mean) // 5)
    start, end = float(np.mean(mean[:plateau])), float(np.mean(mean[-plateau:]))
    rising = ndimage.gaussian_filter1d((mean - start) / (end - start), 0.5)
    low, high = _crossing(rising, 0.1), _crossing(rising, 0.9)
    return None if low is None or high is None else (high - low) * BIN * pixel_mm


def _crossing(rising: Values, level: float) -> float | None:
    """Where a profile passes a level, nearest to its middle; bins."""
    passes = np.flatnonzero((rising[:-1] < level) & (rising[1:] >= level))
    if not len(passes):
        return None
    before = int(passes[np.abs(passes - len(rising) / 2).argmin()])
    return before + float((level - rising[before]) / (rising[before + 1] - rising[before]))


def _curve(frequencies: Values, values: Values) -> TransferFunction:
    return TransferFunction(
        tuple(frequencies.tolist()),
        tuple(values.tolist()),
        falls_to(0.5, frequencies, values),
        falls_to(0.1, frequencies, values),
        None,
        None,
    )


def _noise(
    slices: Sequence[VoxelsHU], paddings: Sequence[PaddingMask | None], pixel_spacing: tuple[float, float]
) -> tuple[NoiseEstimate, NoiseSpectrum | None]:
    windows = homogeneous_windows(slices, pixel_spacing, paddings)
    if windows is None:
        return NoiseEstimate(None, None, 0, "nothing uniform of −150 … 200 HU"), None
    power = power_map(cut_windows(slices, windows.places, windows.size), pixel_spacing[0])
    return noise_in(windows, pixel_spacing), spectrum_of([power], pixel_spacing[0], len(windows.places))
