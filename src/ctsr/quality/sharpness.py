"""Sharpness of a series: the blur of its sharpest edges, as the σ of an equivalent Gaussian.

Each edge is fitted by an error function whose argument is the distance from a curved line, in all pixels around a point
of the edge. The pixels lie at many distances from that line, so the profile is sampled more finely than by one row of
pixels (as the slanted edge of ISO 12233 is). Anatomy blurs edges, oblique surfaces in thick slices above all, so what
the scanner does is read off the sharpest of those edges that are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from ctsr.errors import DomainError
from ctsr.hu import AIR
from ctsr.volume import PaddingMask, VoxelsHU

REACH = 6
"""Pixels around a point of an edge that a fit takes in."""
CELL = 5
"""Pixels: of each cell of this side the strongest point is tried."""
CANDIDATES = 400
"""Points tried in a slice, the strongest first."""
LEAST_STEP_HU = 120.0
"""Least step of an edge: less is lost in the texture of tissue."""
LEAST_SLOPE = 15.0
"""HU a pixel, of a slice smoothed by a pixel, where an edge is looked for."""
STEP_TO_NOISE = 8.0
"""Least ratio of an edge's step to the spread around the fit."""
LARGEST_MISFIT = 0.09
"""Largest root mean square around the fit, as a fraction of the step, for an edge between two plateaus."""
LARGEST_ERROR = 0.08
"""Pixels, standard error of a fitted blur."""
LEAST_SIGMA = 0.2
"""Pixels; a fit below is of no edge, and one above two thirds of its reach has seen no plateau."""
CLEAREST = 0.5
"""Fraction of all good edges, those with the least misfit: thin layers such as skin look sharper than they are."""
SHARPEST = 0.25
"""The quantile of those that is taken for the scanner's."""
FEWEST = 12
"""Edges below which there is no estimate."""
ITERATIONS = 12
TEN_TO_NINETY = 2 * float(special.ndtri(0.9))
"""Width from 10 to 90 % of a Gaussian-blurred step, in σ."""

Values: TypeAlias = npt.NDArray[np.float64]
Points: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SharpnessEstimate:
    """The blur of a series; without figures where it has too few edges."""

    blur_sigma_mm: float | None
    """σ of the Gaussian that turns a step into its edges; the extent of a pixel is part of it."""
    blur_sigma_pixels: float | None
    edge_width_10_90_mm: float | None
    """From 10 to 90 % of such an edge."""
    num_edges: int
    """Edges that were fitted well."""
    reason: str = ""
    """Why there are no figures."""


@dataclass(frozen=True, eq=False)
class EdgeFits:
    """Edges of one slice: one row each."""

    points: Points
    """(edges, 2): row and column of the pixel in the middle."""
    sigma: Values
    """(edges): blur in pixels."""
    error: Values
    """(edges): standard error of that."""
    step_hu: Values
    """(edges): height of the edge, above 0."""
    misfit: Values
    """(edges): root mean square around the fit, HU."""
    parameters: Values
    """(edges, 6): those of the fit."""
    good: npt.NDArray[np.bool_]
    """(edges): whether it is an edge between two plateaus, told from noise."""


def measure_sharpness(
    slices: Sequence[VoxelsHU],
    pixel_spacing: tuple[float, float],
    paddings: Sequence[PaddingMask | None] | None = None,
) -> SharpnessEstimate:
    """The blur of the sharpest edges of a few slices.

    Args:
        slices: (rows, columns) each, HU; three of a series are enough.
        pixel_spacing: mm between rows, between columns.
        paddings: True where a slice was not reconstructed.

    Raises:
        DomainError: no slices, or a spacing that is not above 0.
    """
    if not slices or min(pixel_spacing) <= 0:
        raise DomainError("sharpness is measured on at least one slice, with a pixel spacing above 0 mm")
    found = [
        fit_edges(image, edge_points(image, None if paddings is None else paddings[index]))
        for index, image in enumerate(slices)
    ]
    edges = np.concatenate([np.column_stack([f.sigma, f.error, f.misfit / f.step_hu])[f.good] for f in found])
    if len(edges) < FEWEST:
        return SharpnessEstimate(None, None, None, len(edges), f"{len(edges)} clear edges, {FEWEST} are needed")
    clearest = edges[np.argsort(edges[:, 2], kind="stable")[: max(FEWEST, round(CLEAREST * len(edges)))]]
    sigma, error, _ = clearest.T
    # Each edge is as sharp as its fit or blunter by its error: without that, the sharpest would be the luckiest.
    pixels = float(np.quantile(sigma - special.ndtri(SHARPEST) * error, SHARPEST))
    mm = pixels * math.sqrt(pixel_spacing[0] * pixel_spacing[1])
    return SharpnessEstimate(mm, pixels, mm * TEN_TO_NINETY, len(edges))


def edge_points(image: VoxelsHU, padding: PaddingMask | None = None, *, finer: int = 1) -> Points:
    """Where to look for edges: the strongest gradients, spread over the slice.

    Args:
        image: (rows, columns), HU.
        padding: True where nothing was reconstructed.
        finer: how many times finer the pixels are than those of the scan.

    Returns:
        (points, 2): row and column, the strongest first; all at least ``finer·REACH`` pixels inside of the image.
    """
    reach = finer * REACH
    smooth = np.maximum(image, AIR).astype(np.float32)
    slope = ndimage.gaussian_gradient_magnitude(smooth, float(finer))
    if padding is not None:
        # A square: a diamond, as dilation makes, would be too near along the diagonals.
        near = np.asarray(ndimage.maximum_filter(padding, 2 * (reach + 2 * finer) + 1), dtype=bool)
        slope[near] = 0
    inner = np.zeros_like(slope)
    inner[reach:-reach, reach:-reach] = slope[reach:-reach, reach:-reach]
    peaks = (inner == ndimage.maximum_filter(inner, CELL * finer)) & (inner > LEAST_SLOPE / finer)
    points = np.argwhere(peaks)
    strongest = np.argsort(-inner[peaks], kind="stable")[:CANDIDATES]
    return points[strongest].astype(np.int64)


def fit_edges(image: VoxelsHU, points: Points, *, reach: int = REACH) -> EdgeFits:
    """Fit a blurred step to the pixels around each point (Levenberg and Marquardt, all points at once).

    Args:
        image: (rows, columns), HU.
        points: (points, 2): row and column, at least `reach` pixels inside of the image.
        reach: pixels around a point that the fit takes in.
    """
    if not len(points):
        none = np.zeros(0)
        return EdgeFits(points, none, none, none, none, np.zeros((0, 6)), np.zeros(0, bool))
    rows, columns = _disc(reach)
    pixels = image[points[:, :1] + rows, points[:, 1:] + columns].astype(np.float64)
    across, along = _rotated(image, points, rows, columns)
    parameters = _start(pixels, across, reach)
    bounds = math.log(LEAST_SIGMA / 2), math.log(reach)
    damping = np.full(len(points), 1e-2)
    value, jacobian = _model(parameters, across, along)
    loss = ((pixels - value) ** 2).sum(axis=1)
    for _ in range(ITERATIONS):
        gradient = jacobian.transpose(0, 2, 1) @ (pixels - value)[..., None]
        tried = parameters + np.linalg.solve(_normal(jacobian, damping), gradient)[..., 0]
        tried[:, SIGMA] = tried[:, SIGMA].clip(*bounds)
        new_value, new_jacobian = _model(tried, across, along)
        new_loss = ((pixels - new_value) ** 2).sum(axis=1)
        better = new_loss < loss
        damping = np.where(better, damping / 4, damping * 8).clip(1e-7, 1e6)
        parameters[better], loss[better] = tried[better], new_loss[better]
        value[better], jacobian[better] = new_value[better], new_jacobian[better]
    return _judged(points, parameters, jacobian, loss, reach)


def edge_samples(
    image: VoxelsHU, fits: EdgeFits, chosen: npt.NDArray[np.bool_], *, reach: int = REACH
) -> tuple[Values, Values]:
    """The pixels around fitted edges as samples of one profile.

    Args:
        image: (rows, columns), HU: the one that was fitted.
        fits: with this reach.
        chosen: (edges): which edges.
        reach: pixels around a point.

    Returns:
        Distance from the edge in pixels, and value between the plateaus, 0 to 1: (edges, pixels) each.
    """
    points, parameters = fits.points[chosen], fits.parameters[chosen]
    rows, columns = _disc(reach)
    pixels = image[points[:, :1] + rows, points[:, 1:] + columns].astype(np.float64)
    across, along = _rotated(image, points, rows, columns)
    base, step, offset, tilt, bend, _ = parameters.T[:, :, None]
    distance = (across - offset - tilt * along - bend * along**2) / np.sqrt(1 + (tilt + 2 * bend * along) ** 2)
    return distance, (pixels - base) / step


BASE, STEP, OFFSET, TILT, BEND, SIGMA = range(6)
"""Parameters: HU on the low side, height, and the line `across = OFFSET + TILT·along + BEND·along²`; ln σ."""


def _model(parameters: Values, across: Values, along: Values) -> tuple[Values, Values]:
    """Value (points, pixels) and its derivatives (points, pixels, 6)."""
    base, step, offset, tilt, bend, log_sigma = parameters.T[:, :, None]
    inverse = np.exp(-log_sigma)
    z = (across - offset - tilt * along - bend * along**2) * inverse
    edge = special.ndtr(z)
    slope = step * np.exp(-(z**2) / 2) * (inverse / math.sqrt(2 * math.pi))
    parts = (np.ones_like(z), edge, -slope, -slope * along, -slope * along**2, -slope * z / inverse)
    return base + step * edge, np.stack(parts, axis=-1)


def _normal(jacobian: Values, damping: Values | float) -> Values:
    """Normal equations, their diagonal lifted by a part of itself: (points, 6, 6)."""
    normal = jacobian.transpose(0, 2, 1) @ jacobian
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    # 1e-3: a parameter that nothing depends on (the blur of an edge without height) leaves no singular matrix.
    return normal + (np.reshape(damping, (-1, 1)) * diagonal + 1e-3)[:, :, None] * np.eye(normal.shape[1])


def _start(pixels: Values, across: Values, reach: int) -> Values:
    """First parameters: plateaus from the pixels far on either side."""
    far = np.abs(across) > reach / 2
    low_side, high_side = far & (across < 0), far & (across > 0)
    low = (pixels * low_side).sum(axis=1) / low_side.sum(axis=1)
    high = (pixels * high_side).sum(axis=1) / high_side.sum(axis=1)
    start = np.zeros((len(pixels), 6))
    start[:, BASE], start[:, STEP] = low, high - low
    start[:, SIGMA] = math.log(reach / REACH)
    return start


def _rotated(image: VoxelsHU, points: Points, rows: Points, columns: Points) -> tuple[Values, Values]:
    """Coordinates of the pixels around each point, across its edge towards higher HU and along it: (points, pixels)."""
    smooth = ndimage.gaussian_filter(np.maximum(image, AIR).astype(np.float64), 1.0)
    at = (points[:, 0], points[:, 1])
    down, right = np.gradient(smooth, axis=0)[at], np.gradient(smooth, axis=1)[at]
    length = np.maximum(np.hypot(down, right), 1e-6)
    down, right = (down / length)[:, None], (right / length)[:, None]
    return down * rows + right * columns, down * columns - right * rows


def _judged(points: Points, parameters: Values, jacobian: Values, loss: Values, reach: int) -> EdgeFits:
    spread = loss / (jacobian.shape[1] - jacobian.shape[2])
    sigma, step = np.exp(parameters[:, SIGMA]), np.maximum(np.abs(parameters[:, STEP]), 1e-6)
    # Parameters are ln σ: its error times σ is that of σ.
    error = sigma * np.sqrt(spread * np.linalg.inv(_normal(jacobian, 1e-9))[:, SIGMA, SIGMA].clip(0))
    misfit = np.sqrt(spread)
    good = (step > LEAST_STEP_HU) & (step > STEP_TO_NOISE * misfit) & (misfit < LARGEST_MISFIT * step)
    good &= (sigma > LEAST_SIGMA) & (sigma < reach * 2 / 3) & (error < LARGEST_ERROR * reach / REACH)
    good &= np.abs(parameters[:, OFFSET]) < reach / 3
    return EdgeFits(points, sigma, error, step, misfit, parameters, good)


def _disc(reach: int) -> tuple[Points, Points]:
    """Rows and columns of the pixels within `reach` of a point."""
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = np.hypot(rows, columns) <= reach + 0.5
    return rows[inside].astype(np.int64), columns[inside].astype(np.int64)
