"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out; `degrade_hu` for one slice in HU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr import make_callable
from ctsr.degrade.degradation import (
    WHOLE_SLICE_MODELS,
    Degradation,
    DegradationParams,
    DegradationSampler,
    Draw,
    Mode,
    Sampling,
    SeedMode,
    odd_nearest,
)
from ctsr.degrade.noise import (
    WholeSlice,
    correlated_normal,
    exam_noise,
    projected_noise,
    standard_normal,
    with_own_noise,
)
from ctsr.errors import DomainError
from ctsr.hu import FloatArray, HURange

Weights = npt.NDArray[np.float64]


def margin_of(degradation: Degradation) -> int:
    """HR pixels around a patch that its LR pixels may depend on, for any parameters of the range."""
    if degradation.mode == "clean":
        return degradation.scale // 2 if degradation.antialias else 0
    kernel = degradation.blur_kernel or odd_nearest(6 * degradation.sigma_range[1])
    return kernel // 2


def degrade(
    hr: Tensor,
    params: Sequence[DegradationParams],
    noise_seeds: Sequence[int],
    *,
    scale: int,
    antialias: bool = False,
    margin: int = 0,
    origin: tuple[int, int] = (0, 0),
    whole: WholeSlice | None = None,
) -> Tensor:
    """Make LR images: blur → downsampling with aligned centres → noise → clip.

    Every output pixel is a sum in a fixed order, with separate multiplications and additions: on the CPU it has the
    same bits whatever the batch, the crop and the number of threads; a GPU agrees to 1e-5.

    Args:
        hr: ``(N, 1, H, W)`` in [-1, 1].
        params: one for each of the N images.
        noise_seeds: one for each of the N images.
        scale: 2 or 4; divides H − 2·margin and W − 2·margin.
        antialias: downsample with a low-pass; meant for images that are not blurred.
        margin: real HR pixels around the patch on each side; beyond them, and with 0 beyond the image, the
            borders are reflected.
        origin: LR row and column of the first pixel within its slice: the noise is that slice's noise there.
        whole: given where the images are whole slices, which noise of projections and of exams needs.

    Returns:
        ``(N, 1, (H − 2·margin)/scale, (W − 2·margin)/scale)`` in [-1, 1], on the device of `hr`.

    Raises:
        DomainError: the size is not a multiple of `scale`, params and seeds do not fit the batch, or
            noise that needs whole slices is asked for and the images are none.
    """
    n, _, height, width = hr.shape
    if (height - 2 * margin) % scale or (width - 2 * margin) % scale:
        raise DomainError(f"an image of {height - 2 * margin}×{width - 2 * margin} is not divisible by scale {scale}")
    if not n == len(params) == len(noise_seeds):
        raise DomainError(f"{n} images need as many parameters and seeds, got {len(params)} and {len(noise_seeds)}")
    taps = [_taps(p, scale, antialias=antialias) for p in params]
    lr = _downsample(hr, taps, scale, margin)
    if any(p.has_noise for p in params):
        lr = lr + _noise(lr, params, noise_seeds, origin, scale, whole).to(lr.device)
    return lr.clamp_(-1, 1)


def degrade_hu(
    hr_hu: FloatArray,
    params: DegradationParams,
    noise_seed: int,
    *,
    scale: int,
    hu_range: HURange,
    antialias: bool = False,
    pixel_mm: float | None = None,
) -> FloatArray:
    """Make the LR slice of an HR slice, with the bits of `degrade`.

    Args:
        hr_hu: (rows, columns), HU; clipped to `hu_range`.
        params: see `Degradation.sample`.
        noise_seed: names the noise field; of no effect where `params` has no noise.
        scale: divides rows and columns.
        hu_range: what the network sees as [-1, 1].
        antialias: see `Degradation.antialias`.
        pixel_mm: side of a pixel of a whole slice, which noise of projections needs.

    Returns:
        (rows/scale, columns/scale), HU, within `hu_range`.

    Raises:
        DomainError: the size is not a multiple of `scale`, or noise of projections lacks `pixel_mm`.
    """
    unit = torch.from_numpy(hu_range.to_unit(hr_hu))[None, None]
    whole = None if pixel_mm is None else WholeSlice(pixel_mm, hu_range)
    lr = degrade(unit, [params], [noise_seed], scale=scale, antialias=antialias, whole=whole)
    return hu_range.to_hu(lr[0, 0].numpy())


@dataclass(frozen=True, eq=False)
class Taps:
    """LR pixel j is ``Σ weights[i] · hr[scale·j + first + i]`` along one axis; the weights sum to 1."""

    first: int
    weights: Weights


def blur_taps(sigma: float, kernel: int, scale: int) -> Taps:
    """A normalised Gaussian of `kernel` pixels followed by bilinear sampling between the cell's two middle pixels.

    LR pixel j lies at HR coordinate (j + ½)·scale − ½: for an even scale half-way between two HR pixels, so the
    bilinear sample is their mean, and both steps together are the Gaussian convolved with (½, ½).
    """
    radius = kernel // 2
    return Taps(first=scale // 2 - 1 - radius, weights=np.convolve(_gaussian(sigma, radius), [0.5, 0.5]))


def area_taps(sigma: float, kernel: int, scale: int) -> Taps:
    """A normalised Gaussian of `kernel` pixels followed by the mean over the cell's `scale` pixels."""
    radius = kernel // 2
    return Taps(first=-radius, weights=np.convolve(_gaussian(sigma, radius), np.full(scale, 1 / scale)))


def antialiased_taps(scale: int) -> Taps:
    """Bilinear downsampling whose triangle is as wide as the scale: the low-pass that `antialias=True` stands for."""
    offsets = np.arange(-(scale // 2), scale + scale // 2)
    triangle = np.maximum(0.0, 1 - np.abs(offsets - (scale - 1) / 2) / scale)
    return Taps(first=int(offsets[0]), weights=triangle / triangle.sum())


def reflected(start: int, stop: int, size: int) -> npt.NDArray[np.int64]:
    """Indices ``start … stop`` of an axis of `size` pixels, continued beyond its ends by reflection.

    The border pixel itself is not repeated: −1 → 1, size → size − 2, and so on however far out.
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.int64)
    period = 2 * (size - 1)
    folded = np.abs(np.arange(start, stop)) % period
    return np.minimum(folded, period - folded)


def _taps(params: DegradationParams, scale: int, *, antialias: bool) -> Taps:
    if antialias or params.downsampling == "triangle":
        return antialiased_taps(scale)
    sampled = area_taps if params.downsampling == "area" else blur_taps
    return sampled(params.blur_sigma, params.blur_kernel, scale)


def _noise(
    lr: Tensor,
    params: Sequence[DegradationParams],
    seeds: Sequence[int],
    origin: tuple[int, int],
    scale: int,
    whole: WholeSlice | None,
) -> Tensor:
    """``(N, 1, h, w)`` on the CPU, where its bits do not depend on the device that trains."""
    shape = (lr.shape[-2], lr.shape[-1])
    fields = list[npt.NDArray[np.float32]]()
    for image, drawn, seed in zip(lr, params, seeds, strict=True):
        if drawn.noise_model in WHOLE_SLICE_MODELS and drawn.has_noise:
            if whole is None:
                raise DomainError(
                    f"noise_model {drawn.noise_model} needs whole slices with their pixel size; use white or correlated"
                )
            noise_of = exam_noise if drawn.noise_model == "exam" else projected_noise
            fields.append(noise_of(image[0].cpu().numpy(), drawn, seed, whole, scale))
        else:
            fields.append(np.float32(drawn.noise_std) * _noise_field(drawn, seed, shape, origin))
    return torch.from_numpy(np.stack(fields)[:, None])


def _noise_field(
    params: DegradationParams, seed: int, shape: tuple[int, int], origin: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """``shape``, standard deviation 1."""
    if params.noise_model == "correlated":
        return correlated_normal(seed, shape, origin, cutoff=params.noise_cutoff)
    return standard_normal(seed, shape, origin)


def _downsample(hr: Tensor, taps: Sequence[Taps], scale: int, margin: int) -> Tensor:
    """Weighted sums with a stride, along rows and then along columns."""
    first = min(t.first for t in taps)
    count = max(t.first + len(t.weights) for t in taps) - first
    # Zeros at either end change no bit of a sum, so images blurred differently share one batch.
    table = np.zeros((len(taps), count), dtype=np.float32)
    for row, t in zip(table, taps, strict=True):
        row[t.first - first :][: len(t.weights)] = t.weights
    weights = torch.from_numpy(table).to(hr.device)
    for axis in (2, 3):
        hr = _weighted_sum(hr, weights, axis=axis, first=first, scale=scale, margin=margin)
    return hr


def _weighted_sum(hr: Tensor, weights: Tensor, *, axis: int, first: int, scale: int, margin: int) -> Tensor:
    count, size = weights.shape[1], hr.shape[axis] - 2 * margin
    start = margin + first
    last = start + (size // scale - 1) * scale + count
    if start < 0 or last > hr.shape[axis]:
        if margin:
            raise DomainError(f"a kernel of {count} taps reaches beyond the margin of {margin} pixels")
        index = reflected(start, last, hr.shape[axis])
        hr, start = hr.index_select(axis, torch.from_numpy(index).to(hr.device)), 0
    window = hr.narrow(axis, start, (size // scale - 1) * scale + count)
    total: Tensor | None = None
    for tap in range(count):
        piece = _every(window, axis, tap, scale, size // scale) * weights[:, tap].view(-1, 1, 1, 1)
        total = piece if total is None else total.add_(piece)
    assert total is not None, "a kernel has at least one tap"
    return total


def _every(image: Tensor, axis: int, first: int, step: int, count: int) -> Tensor:
    """`count` rows or columns, beginning at `first`, each `step` after the last; a view."""
    stop = first + (count - 1) * step + 1
    return image[:, :, first:stop:step] if axis == 2 else image[:, :, :, first:stop:step]


def _gaussian(sigma: float, radius: int) -> Weights:
    """``2·radius + 1`` samples that sum to 1."""
    if radius == 0:
        return np.ones(1)
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2)
    return gaussian / gaussian.sum()


__all__ = [
    "Degradation",
    "DegradationParams",
    "DegradationSampler",
    "Draw",
    "Mode",
    "Sampling",
    "SeedMode",
    "WholeSlice",
    "degrade",
    "degrade_hu",
    "margin_of",
    "with_own_noise",
]

make_callable(__name__, "ctsr.api.images:degrade")
