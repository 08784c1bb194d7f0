"""Pairs of HR and the LR made from it: whole slices for evaluation and viewer, patches for training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import (
    Degradation,
    DegradationParams,
    DegradationSampler,
    Draw,
    WholeSlice,
    degrade,
    margin_of,
    reflected,
    with_own_noise,
)
from ctsr.degrade.degradation import WHOLE_SLICE_MODELS
from ctsr.errors import DomainError, UsageError
from ctsr.hashing import rng_from, seed_from
from ctsr.hu import BLOCK, DEFAULT_RANGE, HURange
from ctsr.reporting import SILENT, Progress
from ctsr.volume import VoxelsHU


def centered_crop(size: int, scale: int) -> slice:
    """The largest centred part of an axis of `size` pixels that `scale` divides."""
    start = (size % scale) // 2
    return slice(start, start + size - size % scale)


@dataclass(frozen=True, eq=False)
class SlicePair:
    """One slice, cropped about its centre to a multiple of the scale, and its degraded counterpart."""

    lr: Tensor
    """``(1, 1, h, w)`` in [-1, 1]."""
    hr: Tensor
    """``(1, 1, scale·h, scale·w)`` in [-1, 1]."""
    hr_hu: VoxelsHU
    """``(scale·h, scale·w)``, HU: what `hr` was before the model's range clipped it."""
    draw: Draw
    """As drawn; noise of an exam at less dose with the strength that was measured."""

    @property
    def scale(self) -> int:
        """HR pixels per LR pixel, along each side."""
        return self.hr.shape[-1] // self.lr.shape[-1]


def slice_pair(
    stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange = DEFAULT_RANGE
) -> SlicePair:
    """Slice `index` of a stored series, degraded as `sampler` draws it: the same bits for every caller."""
    degradation = sampler.degradation
    crop = tuple(centered_crop(size, degradation.scale) for size in (stored.rows, stored.columns))
    draw = sampler.draw(stored.patient_id, stored.series_uid, stored.identities[index], index)
    hr = hu_range.to_unit(stored.hu[index][crop])
    return _pair(hr, stored.slice_hu(index)[crop], draw, degradation, stored.pixel_spacing[0], hu_range)


def image_pair(
    hu: VoxelsHU, index: int, sampler: DegradationSampler, pixel_mm: float, hu_range: HURange = DEFAULT_RANGE
) -> SlicePair:
    """Degrade a slice that belongs to no stored series; its draw depends on `index` and the sampler's seed alone.

    Args:
        hu: (rows, columns) in HU.
        index: of the slice, from 0.
        sampler: draws the degradation.
        pixel_mm: side of a pixel.
        hu_range: HU that networks see as [-1, 1].
    """
    degradation = sampler.degradation
    rows = centered_crop(hu.shape[0], degradation.scale)
    columns = centered_crop(hu.shape[1], degradation.scale)
    cropped = hu[rows, columns]
    draw = sampler.draw("", "", str(index), index)
    return _pair(hu_range.to_unit(cropped), cropped, draw, degradation, pixel_mm, hu_range)


@dataclass(frozen=True)
class Ticket:
    """Which sample of which epoch: everything random about a sample follows from it and the seed."""

    epoch: int
    index: int


@dataclass(frozen=True)
class PatchPair:
    """A batch: LR ``(N, 1, h, w)`` and HR ``(N, 1, h·scale, w·scale)``, both in [-1, 1].

    Between slices, LR is what the network takes, its conditions included: ``(N, 5, h, w)``.
    """

    lr: Tensor
    hr: Tensor
    params: tuple[DegradationParams, ...]
    """What each LR patch was made with; empty between slices."""
    kept: Tensor | None = None
    """Between slices ``(N, h, h)``: what the projection onto thick slices, which ends every inference, leaves of an
    error along the rows (`ctsr.through_plane.kept_by_projection`)."""

    @property
    def scale(self) -> int:
        """HR pixels per LR pixel, along each side."""
        return self.hr.shape[-1] // self.lr.shape[-1]

    def pin_memory(self) -> "PatchPair":
        """The same batch in page-locked memory, from which a copy to a GPU need not wait."""
        kept = None if self.kept is None else self.kept.pin_memory()
        return PatchPair(self.lr.pin_memory(), self.hr.pin_memory(), self.params, kept)

    def to(self, device: torch.device) -> "PatchPair":
        """The same batch on a device."""
        kept = None if self.kept is None else self.kept.to(device, non_blocking=True)
        lr, hr = self.lr.to(device, non_blocking=True), self.hr.to(device, non_blocking=True)
        return PatchPair(lr, hr, self.params, kept)

    def compared(self, images: Tensor, part: slice = slice(None)) -> Tensor:
        """What losses compare of SR or HR, same shape: between slices, what no projection onto the source can mend.

        Args:
            images: SR or HR of `lr[part]`.
            part: of the batch.
        """
        return images if self.kept is None else self.kept[part, None].to(images) @ images

    def __len__(self) -> int:
        """Patches."""
        return len(self.hr)


@dataclass(frozen=True)
class Place:
    """Where a patch lies in which slice, and how it is turned."""

    series: int
    slice_index: int
    top: int
    left: int
    quarter_turns: int
    flipped: bool
    draw: Draw
    reduction: float = 1.0
    """Source pixels along each side of one HR pixel."""


class PatchDataset(Dataset[PatchPair]):
    """Random aligned patches, one from each slice an epoch, `patches_per_slice` times; fetched a batch at a time.

    A patch lies on the grid of its slice's LR pixels, and carries real pixels around it as far as the blur reaches:
    its LR is the crop of the degraded slice, but for the noise, which is the patch's own.

    With `hr_reduction`, HR is first made of means over areas of source pixels, whose side is drawn for each patch: the
    training images then have less noise than the originals, and pixels of many sizes.
    """

    def __init__(
        self,
        series: Sequence[StoredSeries],
        *,
        patch_size: int,
        degradation: Degradation,
        hu_range: HURange,
        seed: int,
        patches_per_slice: int = 1,
        augment: bool = False,
        hr_reduction: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        if patch_size % degradation.scale:
            raise DomainError(
                f"`patch_size` {patch_size} is not divisible by `scale` {degradation.scale}; "
                f"the nearest that is: {patch_size - patch_size % degradation.scale}"
            )
        for model in WHOLE_SLICE_MODELS:
            if model in degradation.noise_model:
                raise DomainError(
                    f"`noise_model` {model} needs whole slices, and training takes patches: use white or correlated"
                )
        self.series = tuple(series)
        self.patch_size = patch_size
        self.degradation = degradation
        self.hu_range = hu_range
        self.seed = seed
        self.augment = augment
        self.hr_reduction = hr_reduction
        slices = [(i, k) for i, stored in enumerate(self.series) for k in range(len(stored))]
        self._samples = np.array(slices * patches_per_slice, dtype=np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        """Samples an epoch."""
        return len(self._samples)

    def __getitem__(self, ticket: Ticket) -> PatchPair:
        """A batch of one."""
        return self.__getitems__([ticket])

    def __getitems__(self, tickets: Sequence[Ticket]) -> PatchPair:
        """A whole batch; what PyTorch's fetcher calls."""
        places = [self.place(ticket) for ticket in tickets]
        margin = margin_of(self.degradation)
        windows = np.stack([self._hr(place, margin) for place in places])
        hr = torch.from_numpy(windows[:, None])
        params = tuple(place.draw.params for place in places)
        lr = degrade(
            hr,
            params,
            [place.draw.noise_seed for place in places],
            scale=self.degradation.scale,
            antialias=self.degradation.antialias,
            margin=margin,
        )
        hr = hr[:, :, margin : margin + self.patch_size, margin : margin + self.patch_size]
        return PatchPair(_turned(lr, places), _turned(hr, places), params)

    def place(self, ticket: Ticket) -> Place:
        """Where the patch of this ticket lies, and what is done to it: random, but told by seed and ticket alone."""
        rng = rng_from(self.seed, "patch", ticket.epoch, ticket.index)
        series_index, slice_index = map(int, self._samples[ticket.index])
        stored = self.series[series_index]
        top, left = self._corner(stored, slice_index, rng)
        params = self.degradation.sample(rng)
        noise_seed = seed_from(self.seed, "noise", ticket.epoch, ticket.index)
        turns, flipped = (int(rng.integers(4)), bool(rng.integers(2))) if self.augment else (0, False)
        low, high = self.hr_reduction
        # Drawn last: without a choice the other draws are what they were.
        reduction = low if low == high else low + (high - low) * float(rng.random())
        return Place(series_index, slice_index, top, left, turns, flipped, Draw(params, noise_seed), reduction)

    def _corner(self, stored: StoredSeries, slice_index: int, rng: np.random.Generator) -> tuple[int, int]:
        """The top left pixel of a patch whose centre lies in a random block of the body."""
        blocks = np.flatnonzero(stored.body[slice_index])
        block = int(blocks[rng.integers(len(blocks))])
        row, column = divmod(block, stored.body.shape[2])
        return (
            self._aligned(row * BLOCK + int(rng.integers(BLOCK)), stored.rows),
            self._aligned(column * BLOCK + int(rng.integers(BLOCK)), stored.columns),
        )

    def _aligned(self, center: int, size: int) -> int:
        """The start of a patch around `center`: inside the cropped slice, on the grid of its LR pixels."""
        scale = self.degradation.scale
        cropped = centered_crop(size, scale)
        most = max(0, cropped.stop - cropped.start - self.patch_size)
        start = min(max(center - self.patch_size // 2 - cropped.start, 0), most)
        return cropped.start + start - start % scale

    def _hr(self, place: Place, margin: int) -> npt.NDArray[np.float32]:
        """The patch with its margin in [-1, 1]."""
        if place.reduction == 1:
            return self.hu_range.to_unit(self._window(place, margin))
        series, side = self.series[place.series], self.patch_size + 2 * margin
        means = area_means(side, place.reduction)
        middle = self.patch_size // 2
        rows = _around(place.top + middle, means.shape[1], series.rows)
        columns = _around(place.left + middle, means.shape[1], series.columns)
        window = self.hu_range.to_unit(series.hu[place.slice_index][rows][:, columns])
        return np.asarray(means @ window @ means.T, dtype=np.float32)

    def _window(self, place: Place, margin: int) -> npt.NDArray[np.int16]:
        """The patch and its margin; beyond the slice, and in slices smaller than the patch, by reflection."""
        stored = self.series[place.series]
        image = stored.hu[place.slice_index]
        rows = _span(place.top, self.patch_size, margin, stored.rows, self.degradation.scale)
        columns = _span(place.left, self.patch_size, margin, stored.columns, self.degradation.scale)
        if isinstance(rows, slice) and isinstance(columns, slice):
            return image[rows, columns]
        return image[rows][:, columns]


def check_patch_fits(
    name: str,
    size: int,
    scale: int,
    series: Sequence[StoredSeries],
    *,
    reduction: tuple[float, float] = (1.0, 1.0),
    progress: Progress = SILENT,
) -> None:
    """Refuse patches that would consist mainly of reflections: networks would learn from images that do not occur.

    Args:
        name: of the option, for the message.
        size: HR pixels along a side.
        scale: HR pixels to one of LR.
        series: that are cut into patches.
        reduction: least and most source pixels along each side of an HR pixel.
        progress: told where only some of the patches are continued by reflection.

    Raises:
        UsageError: every slice is smaller than a patch along both sides.
    """
    low, high = reduction
    longest = max(max(stored.rows, stored.columns) for stored in series)
    made_of = "" if high == 1 else f" at `hr_reduction` {high:g}"
    if size * low > longest:
        fits = int(longest / high)
        raise UsageError(
            f"`{name}` {size}{made_of} is larger than every training slice; {max(scale, fits - fits % scale)} fits"
        )
    small = [stored for stored in series if min(stored.rows, stored.columns) < size * high]
    if small:
        sides = min(min(stored.rows, stored.columns) for stored in small)
        fits = int(sides / high)
        progress.note(
            f"warning: `{name}` {size}{made_of} is larger than the slices of {len(small)} of {len(series)} training "
            f"series, whose patches are continued by reflection; {max(scale, fits - fits % scale)} fits all"
        )


def area_means(size: int, reduction: float) -> npt.NDArray[np.float32]:
    """Weights of the means over `size` intervals of `reduction` pixels each, one after the other.

    Returns:
        (size, ⌈size·reduction⌉), rows sum to 1.
    """
    count = math.ceil(size * reduction)
    ends = np.arange(size + 1) * reduction
    pixels = np.arange(count)
    covered = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    weights = np.clip(covered, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class EpochSampler(Sampler[Ticket]):
    """Every sample once an epoch, in an order that is a function of seed and epoch; sharded over processes."""

    def __init__(self, length: int, *, seed: int, epoch: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Ticket]:
        """The tickets of the current epoch, this process's share of them."""
        order = rng_from(self.seed, "order", self.epoch).permutation(self.length)
        # Every process gets equally many: a process with one step less would leave the others waiting.
        padded = np.resize(order, len(self) * self.world_size)
        for index in padded[self.rank :: self.world_size]:
            yield Ticket(self.epoch, int(index))

    def __len__(self) -> int:
        """Tickets an epoch for this process."""
        return -(-self.length // self.world_size)


def _pair(
    hr_unit: VoxelsHU, hr_hu: VoxelsHU, draw: Draw, degradation: Degradation, pixel_mm: float, hu_range: HURange
) -> SlicePair:
    hr = torch.from_numpy(hr_unit)[None, None]
    whole = WholeSlice(pixel_mm, hu_range)
    degraded = partial(degrade, hr, scale=degradation.scale, antialias=degradation.antialias, whole=whole)
    if draw.params.noise_model == "exam" and draw.params.has_noise:
        clean = degraded([draw.params.noiseless], [0])[0, 0].numpy()
        draw = replace(draw, params=with_own_noise(clean, draw.params, whole, degradation.scale))
    lr = degraded([draw.params], [draw.noise_seed])
    return SlicePair(lr, hr, hr_hu, draw)


def _around(center: int, count: int, size: int) -> slice | npt.NDArray[np.int64]:
    """`count` pixels about `center`, inside an axis of `size` where they fit, else continued by reflection."""
    start = min(max(center - count // 2, 0), max(0, size - count))
    return slice(start, start + count) if count <= size else reflected(start, start + count, size)


def _span(start: int, count: int, margin: int, size: int, scale: int) -> slice | npt.NDArray[np.int64]:
    """Pixels ``start − margin … start + count + margin``, as a slice where all of them exist."""
    cropped = centered_crop(size, scale)
    low, high = start - margin, start + count + margin
    if cropped.start <= low and high <= cropped.stop:
        return slice(low, high)
    index = reflected(low - cropped.start, high - cropped.start, cropped.stop - cropped.start)
    return index + cropped.start


def _turned(images: Tensor, places: Sequence[Place]) -> Tensor:
    """Each image turned and flipped as its place says; LR and HR stay aligned."""
    if not any(place.quarter_turns or place.flipped for place in places):
        return images.contiguous()
    turned = [
        torch.rot90(image.flip(-1) if place.flipped else image, place.quarter_turns, (-2, -1))
        for image, place in zip(images, places, strict=True)
    ]
    return torch.stack(turned)
