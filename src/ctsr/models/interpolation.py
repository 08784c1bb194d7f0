"""Linear methods, which every network is measured against: interpolation, and the best linear filter.

What a network gains over bicubic, and that filter does not, is what being non-linear is worth.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from ctsr.errors import DomainError
from ctsr.hu import FloatArray

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos"]

LOBES = 3
"""Lobes of the Lanczos kernel, which reaches this many LR pixels to each side."""

Matrix: TypeAlias = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[FloatArray, FloatArray]
"""LR ``(rows, columns)`` and HR ``(scale·rows, scale·columns)``, in one unit, on one field of view."""

ROWS_AT_ONCE = 32
"""Rows of LR, so that windows of 81 pixels each do not fill the memory."""
RIDGE = 1e-9
"""Fraction of the mean diagonal of the normal equations: noise-free images hardly determine some weights."""


def interpolate(lr: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """Enlarge by interpolation, with the pixel centres aligned: HR pixel i lies at LR coordinate (i + ½)/scale − ½.

    Args:
        lr: ``(N, 1, h, w)`` in [-1, 1].
        scale: how many times more rows and columns.
        kind: `bilinear`; `bicubic` with a = −0.75; `lanczos`, windowed by three lobes.

    Returns:
        ``(N, 1, scale·h, scale·w)`` in [-1, 1]: what a kernel overshoots is clipped.
    """
    return enlarge(lr, scale, kind).clamp(-1, 1)


def enlarge(image: Tensor, scale: int, kind: Interpolation) -> Tensor:
    """As `interpolate`, of values in any range, which are left as they come out."""
    if kind == "lanczos":
        rows = _lanczos(image.shape[-2], scale).to(image)
        columns = _lanczos(image.shape[-1], scale).to(image)
        return rows @ image @ columns.T
    return nnf.interpolate(image, scale_factor=scale, mode=kind, align_corners=False)


@dataclass(frozen=True, eq=False)
class LinearFilter:
    """Enlarges by `scale`: each output phase is a weighted mean of the LR pixels around."""

    weights: Matrix
    """``(scale, scale, size, size)``: phase by row and column, then LR rows and columns about the
    pixel. Each phase sums to 1, so a uniform image stays what it is, whatever its value."""

    def __post_init__(self) -> None:
        shape = self.weights.shape
        if len(shape) != 4 or shape[0] != shape[1] or shape[2] != shape[3] or shape[3] % 2 == 0:
            raise DomainError(f"weights of a linear filter have the shape (scale, scale, size, size), got {shape}")
        if not np.isfinite(self.weights).all():
            raise DomainError("weights of a linear filter must be finite")

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
        raise DomainError(f"a filter needs an odd number of pixels, got {size}")
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


def _lanczos(size: int, scale: int) -> Tensor:
    """``(scale·size, size)``: each HR pixel's weights, ``sinc(x)·sinc(x/3)``, over the LR pixels that exist, sum 1."""
    centres = (torch.arange(scale * size, dtype=torch.float64) + 0.5) / scale - 0.5
    away = centres[:, None] - torch.arange(size, dtype=torch.float64)
    weights = torch.sinc(away) * torch.sinc(away / LOBES) * (away.abs() < LOBES)
    return weights / weights.sum(dim=1, keepdim=True)


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
