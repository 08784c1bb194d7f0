"""The best linear super-resolution for a degradation: one filter for each output phase, by least squares.

What a network gains over bicubic, and this filter does not, is what being non-linear is worth.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ctsr.errors import DomainError
from ctsr.hu import FloatArray

Matrix: TypeAlias = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[FloatArray, FloatArray]
"""LR ``(rows, columns)`` and HR ``(scale·rows, scale·columns)``, in one unit, on one field of view."""

ROWS_AT_ONCE = 32
"""Of LR, so that windows of 81 pixels each do not fill the memory."""
RIDGE = 1e-9
"""Of the mean diagonal of the normal equations: images without noise hardly tell some weights."""


@dataclass(frozen=True, eq=False)
class LinearFilter:
    """Enlarges by `scale`: each output phase is a weighted mean of the LR pixels around."""

    weights: Matrix
    """``(scale, scale, size, size)``: phase by row and column, then LR rows and columns about the
    pixel. Each phase sums to 1, so a uniform image stays what it is, whatever its value."""

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel, along each axis."""
        return self.weights.shape[0]

    @property
    def size(self) -> int:
        """LR pixels along each side of a filter, odd."""
        return self.weights.shape[-1]

    def __call__(self, lr: FloatArray) -> npt.NDArray[np.float32]:
        """``(rows, columns)`` → ``(scale·rows, scale·columns)``; borders are continued."""
        rows, columns = lr.shape
        phases = self.weights.reshape(self.scale**2, -1).T
        parts = [windows.reshape(-1, self.size**2) @ phases for windows in _strips(lr, self.size)]
        return _phases_to_image(np.concatenate(parts), rows, columns, self.scale)


def fit_linear_filter(pairs: Iterable[Pair], *, scale: int, size: int = 9) -> LinearFilter:
    """Fit the filter with the least squared error over images.

    The normal equations are those of the differences from the middle LR pixel, whose weight follows
    from the sum of 1. The result depends on the pairs and their order alone.

    Args:
        pairs: any number of LR and HR images, at least one.
        scale: HR pixels per LR pixel, along each axis.
        size: LR pixels along each side of a filter, odd.

    Raises:
        DomainError: no pairs, an even size, or images whose sizes do not fit the scale.
    """
    if size < 1 or size % 2 == 0:
        raise DomainError(f"a filter has an odd number of pixels, got {size}")
    middle = size**2 // 2
    products, targets = np.zeros((size**2, size**2)), np.zeros((size**2, scale**2))
    count = 0
    for lr, hr in pairs:
        rows, columns = lr.shape
        if hr.shape != (scale * rows, scale * columns):
            raise DomainError(f"{hr.shape} is not {scale} times {lr.shape}")
        count += 1
        wanted = _image_to_phases(hr.astype(np.float64), scale)
        first = 0
        for windows in _strips(lr, size):
            flat = windows.reshape(-1, size**2)
            center = flat[:, middle : middle + 1].copy()
            flat = flat - center
            products += flat.T @ flat
            targets += flat.T @ (wanted[first : first + len(flat)] - center)
            first += len(flat)
    if not count:
        raise DomainError("a linear filter is fitted to at least one pair of images")
    # The middle's difference from itself is 0: its row says nothing, so it is left out.
    others = np.delete(np.arange(size**2), middle)
    equations = products[np.ix_(others, others)]
    ridge = RIDGE * max(float(np.trace(equations)) / max(1, len(others)), 1e-30)
    found = np.zeros((size**2, scale**2))
    found[others] = np.linalg.solve(equations + ridge * np.eye(len(others)), targets[others])
    found[middle] = 1 - found.sum(axis=0)
    return LinearFilter(found.T.reshape(scale, scale, size, size))


def _strips(lr: FloatArray, size: int) -> Iterator[Matrix]:
    """The windows about each pixel, some rows at a time: (rows, columns, size, size)."""
    padded = np.pad(lr.astype(np.float64), size // 2, mode="edge")
    windows = sliding_window_view(padded, (size, size))
    for start in range(0, len(windows), ROWS_AT_ONCE):
        yield np.ascontiguousarray(windows[start : start + ROWS_AT_ONCE])


def _image_to_phases(hr: Matrix, scale: int) -> Matrix:
    """(scale·rows, scale·columns) → (rows · columns, scale²)."""
    rows, columns = hr.shape[0] // scale, hr.shape[1] // scale
    cells = hr.reshape(rows, scale, columns, scale).transpose(0, 2, 1, 3)
    return cells.reshape(rows * columns, scale**2)


def _phases_to_image(phases: Matrix, rows: int, columns: int, scale: int) -> npt.NDArray[np.float32]:
    """The inverse of `_image_to_phases`."""
    cells = phases.reshape(rows, columns, scale, scale).transpose(0, 2, 1, 3)
    return cells.reshape(rows * scale, columns * scale).astype(np.float32)
