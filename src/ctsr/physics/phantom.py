"""A disc on a uniform ground, drawn so that its own blur is known: what edges and lesions are made of."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["distances", "soft_disc"]

Weights = npt.NDArray[np.float64]


def distances(shape: Sequence[int], center: tuple[float, float]) -> Weights:
    """How far each pixel's centre is from `center` (row, column; pixel (0, 0) has its centre at 0, 0), in pixels."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - center[0], columns - center[1])


def soft_disc(shape: Sequence[int], center: tuple[float, float], radius: float, edge: float = 1.0) -> Weights:
    """1 in a disc, 0 outside, linear in between over `edge` pixels about the radius.

    With an edge of one pixel the disc's line spread is a box one pixel wide in every direction, so its own transfer
    function is ``sinc(f · pixel)``: that of a pixel.

    Args:
        shape: rows and columns.
        center: row and column, need not be whole numbers.
        radius: pixels, where the value is ½.
        edge: pixels, above 0.
    """
    return np.clip(0.5 + (radius - distances(shape, center)) / edge, 0.0, 1.0)
