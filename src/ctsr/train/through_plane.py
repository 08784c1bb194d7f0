"""Training of networks between slices: the patches that they learn from, and how they are measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from scipy import ndimage
from torch import nn
from torch.utils.data import Dataset

from ctsr.checkpoint import Checkpoint
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import EpochSampler, PatchPair, Ticket, check_patch_fits
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.degrade.degradation import Range
from ctsr.documents import as_type
from ctsr.errors import CheckpointError, DomainError, UsageError
from ctsr.hashing import rng_from
from ctsr.hu import BLOCK, DEFAULT_RANGE, HURange
from ctsr.infer import super_resolve
from ctsr.losses import l1_loss
from ctsr.models import THROUGH_PLANE, Architecture
from ctsr.models.conditioning import ThroughPlaneConditions, through_plane_input
from ctsr.reporting import Progress
from ctsr.through_plane import (
    REACH,
    SliceProfile,
    interpolation,
    kept_by_projection,
    thickening,
    to_nearest,
)
from ctsr.train import TrainOptions
from ctsr.train.context import Data, Losses, Patches, Validation, patch_loader

SAMPLES = 2
"""Samples along each side of a pixel that are averaged: a target pixel is an area."""
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ThroughPlaneDegradation:
    """How planes of thick slices are made from axial images; lengths in distances between the slices wanted."""

    thickness_range: Range = (1.25, 6.5)
    """Of the slice profile."""
    distance_range: Range = (0.5, 1.2)
    """From slice to slice, as a fraction of the thickness: below 1 slices overlap, above 1 there are gaps."""
    softness_range: Range = (0.0, 0.2)
    """Gaussian of the slice profile, as a fraction of the thickness."""
    row_range: Range = (1.0, 2.0)
    """Source pixels from one wanted slice to the next: larger targets are quieter."""
    column_range: Range = (0.5, 1.2)
    """Pixels within a wanted slice, as a fraction of the distance between them."""
    blur_range: Range = (0.0, 0.7)
    """Gaussian along the rows of the target, in rows: thin slices of scanners are blurrier than pixels."""
    noise_range: Range = (0.0, 0.03)
    """Standard deviation, [-1, 1] units."""
    noise_skew: float = 2.5
    """Above 1, low noise is drawn more often."""

    def __post_init__(self) -> None:
        ranges = {name: value for name, value in asdict(self).items() if name != "noise_skew"}
        for name, (low, high) in ranges.items():
            if not 0 <= low <= high < math.inf:
                raise DomainError(f"`{name}` needs 0 ≤ low ≤ high, got {low:g} {high:g}")
        for name in ("thickness_range", "distance_range", "row_range", "column_range"):
            if ranges[name][0] <= 0:
                raise DomainError(f"`{name}` must be above 0, got {ranges[name][0]:g}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the fields' names; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ThroughPlaneDegradation":
        """The inverse of `as_dict`, also by way of JSON, which knows no tuples.

        Raises:
            ReadError: a value is of another type.
            DomainError: it is out of range.
        """
        return as_type(values, cls, "degradation")

    def sample(self, rng: np.random.Generator) -> "ThroughPlaneDraw":
        """Draw everything that is random about one patch but its noise."""
        thickness = _between(self.thickness_range, rng)
        distance = max(1.0, thickness * _between(self.distance_range, rng))
        low, high = self.noise_range
        noise = low + (high - low) * float(rng.random()) ** self.noise_skew
        row = _between(self.row_range, rng)
        return ThroughPlaneDraw(
            conditions=ThroughPlaneConditions(thickness, distance, noise),
            softness=thickness * _between(self.softness_range, rng),
            phase=float(rng.random()) * distance,
            angle=float(rng.random()) * 2 * math.pi,
            flipped=bool(rng.integers(2)),
            pixel=(row, row * _between(self.column_range, rng)),
            noise_blur=max(0.0, _between((-1.0, 1.0), rng)),
            blur=_between(self.blur_range, rng),
        )


@dataclass(frozen=True)
class ThroughPlaneDraw:
    """How one patch is made."""

    conditions: ThroughPlaneConditions
    softness: float
    """Gaussian of the slice profile, in wanted slices."""
    phase: float
    """Position of a source slice, in wanted slices, from the first of them."""
    angle: float
    """Of the plane in the axial image, radians."""
    flipped: bool
    pixel: tuple[float, float]
    """Rows and columns of the target, in pixels of the axial image."""
    noise_blur: float
    """Gaussian that correlates the noise along columns, in pixels; 0 leaves it white."""
    blur: float = 0.0
    """Gaussian along the rows of the target, in rows."""

    @property
    def profile(self) -> SliceProfile:
        """Of the source slices, in wanted slices."""
        return SliceProfile(self.conditions.thickness, self.softness)


class ThroughPlanePatches(Dataset[PatchPair]):
    """Random patches, one from each axial image an epoch, `patches_per_slice` times; fetched a batch at a time.

    The axis across the slices is the patch's rows. Its input is ready for the network: interpolated to the wanted
    slices, with what the network is told (see `ctsr.models.conditioning.through_plane_input`).

    Args:
        series: the axial images.
        patch_size: side of a patch in pixels, even.
        degradation: how patches are made.
        hu_range: HU that the network sees as [-1, 1].
        seed: of every draw.
        patches_per_slice: an epoch.

    Raises:
        DomainError: an odd or empty patch, or no image with a body in it.
    """

    def __init__(
        self,
        series: Sequence[StoredSeries],
        *,
        patch_size: int,
        degradation: ThroughPlaneDegradation,
        hu_range: HURange,
        seed: int,
        patches_per_slice: int = 1,
    ) -> None:
        if patch_size < 2 or patch_size % 2:
            raise DomainError(f"a patch between slices has an even number of pixels along each side, got {patch_size}")
        self.series = tuple(series)
        self.patch_size = patch_size
        self.degradation = degradation
        self.hu_range = hu_range
        self.seed = seed
        with_body = [
            (number, index)
            for number, stored in enumerate(self.series)
            for index in np.flatnonzero(stored.body.any(axis=(1, 2)))
        ]
        if not with_body:
            raise DomainError("no slice to train on has a body in it")
        self._samples = np.repeat(np.array(with_body, np.int32), patches_per_slice, axis=0)

    def __len__(self) -> int:
        """Patches an epoch."""
        return len(self._samples)

    def __getitems__(self, tickets: Sequence[Ticket]) -> PatchPair:
        """A batch."""
        return as_batch([self._patch(ticket) for ticket in tickets])

    def __getitem__(self, ticket: Ticket) -> PatchPair:
        """A batch of one."""
        return self.__getitems__([ticket])

    def _patch(self, ticket: Ticket) -> "ThroughPlanePatch":
        rng = rng_from(self.seed, "patch", ticket.epoch, ticket.index)
        number, index = map(int, self._samples[ticket.index])
        stored = self.series[number]
        blocks = np.flatnonzero(stored.body[index])
        row, column = divmod(int(blocks[rng.integers(len(blocks))]), stored.body.shape[2])
        center = (row * BLOCK + float(rng.random()) * BLOCK, column * BLOCK + float(rng.random()) * BLOCK)
        draw = self.degradation.sample(rng)
        return make_patch(stored.slice_hu(index), center, self.patch_size, draw, self.hu_range, rng)


@dataclass(frozen=True)
class ThroughPlanePatch:
    """One patch, as numbers."""

    planes: Plane
    """(side, side) in [-1, 1], interpolated along rows."""
    target: Plane
    """(side, side) in [-1, 1]."""
    conditions: ThroughPlaneConditions
    to_nearest: Plane
    """(side,)"""
    kept: Plane
    """(side, side): what projection onto the thick slices leaves of an error along the rows."""


def make_patch(
    hu: Plane,
    center: tuple[float, float],
    side: int,
    draw: ThroughPlaneDraw,
    hu_range: HURange,
    rng: np.random.Generator,
) -> ThroughPlanePatch:
    """Make one patch of an axial image.

    The degradation acts on [-1, 1] units of clipped HU: an affine map of HU, as thickening has weights that sum to 1.

    Args:
        hu: (rows, columns), the axial image.
        center: row and column of the middle of the patch in it.
        side: of the patch, in pixels.
        draw: how it is made.
        hu_range: HU of -1 and 1.
        rng: draws the noise.
    """
    told, profile = draw.conditions, draw.profile
    around = math.ceil(REACH["cubic"] * told.distance + profile.reach) + 1
    fine = hu_range.to_unit(_turned(hu, center, (side + 2 * around, side), draw)).astype(np.float32)
    if draw.blur > 0:
        fine = np.asarray(ndimage.gaussian_filter1d(fine, draw.blur, axis=0, mode="nearest"), np.float32)
    rows = np.arange(-around, side + around, dtype=np.float64)
    wanted = rows[around : side + around]
    first = math.floor(-draw.phase / told.distance) - REACH["cubic"] + 1
    last = math.ceil((side - 1 - draw.phase) / told.distance) + REACH["cubic"] - 1
    source = draw.phase + np.arange(first, last + 1) * told.distance
    thick = thickening(profile, source, rows) @ fine
    thick += told.noise_sigma * _noise(thick.shape, draw.noise_blur, rng)
    planes = interpolation("cubic", source, wanted) @ thick
    return ThroughPlanePatch(
        planes.astype(np.float32),
        fine[around : side + around],
        told,
        to_nearest(source, wanted).astype(np.float32),
        kept_by_projection(profile, source, wanted).astype(np.float32),
    )


def as_batch(patches: Sequence[ThroughPlanePatch]) -> PatchPair:
    """Patches as a batch: what the network takes, and what it should make of it."""
    planes = torch.from_numpy(np.stack([patch.planes for patch in patches])[:, None])
    nearest = torch.from_numpy(np.stack([patch.to_nearest for patch in patches]))
    target = torch.from_numpy(np.stack([patch.target for patch in patches])[:, None])
    told = [patch.conditions for patch in patches]
    kept = torch.from_numpy(np.stack([patch.kept for patch in patches]))
    return PatchPair(through_plane_input(planes, told, nearest), target, (), kept)


def _turned(hu: Plane, center: tuple[float, float], shape: tuple[int, int], draw: ThroughPlaneDraw) -> Plane:
    """Pixels of a turned raster, each the mean over its area; beyond the image, by reflection."""
    along = (np.arange(shape[0] * SAMPLES) + 0.5) / SAMPLES - shape[0] / 2
    across = (np.arange(shape[1] * SAMPLES) + 0.5) / SAMPLES - shape[1] / 2
    along, across = along * draw.pixel[0], across * draw.pixel[1] * (-1 if draw.flipped else 1)
    cosine, sine = math.cos(draw.angle), math.sin(draw.angle)
    row = center[0] + cosine * along[:, None] - sine * across[None, :]
    column = center[1] + sine * along[:, None] + cosine * across[None, :]
    sampled = ndimage.map_coordinates(hu, np.stack([row, column]), order=1, mode="reflect")
    areas = np.asarray(sampled, np.float32).reshape(shape[0], SAMPLES, shape[1], SAMPLES)
    return areas.mean(axis=(1, 3))


def _noise(shape: tuple[int, ...], blur: float, rng: np.random.Generator) -> Plane:
    """White across slices; standard deviation 1."""
    white = rng.standard_normal(shape)
    if blur > 0:
        white = ndimage.gaussian_filter1d(white, blur, axis=1, mode="wrap")
        white /= white.std() or 1.0
    return white.astype(np.float32)


def _between(bounds: Range, rng: np.random.Generator) -> float:
    low, high = bounds
    return low + (high - low) * float(rng.random())


VALIDATION_SIDE = 256
"""Side in pixels of what is measured of a validation slice."""
NOISE = Degradation(noise_sigma_range=(0.0, 0.03), noise_skew=2.5, dose_factor_range=(1.0, 1.0))
"""The noise where no flag says otherwise, most of it low: 0 … 45 HU."""


def through_plane_degradation(
    options: TrainOptions,
    wanted: Degradation | Callable[[Degradation], Degradation] | None,
    checkpoint: Checkpoint | None,
) -> ThroughPlaneDegradation:
    """What to train on.

    Args:
        options: the profiles.
        wanted: what was asked for of the noise; the rest of a degradation within slices has no meaning here.
        checkpoint: of the run that is continued, if one is.

    Raises:
        UsageError: the run that is continued was made with another one.
        CheckpointError: the run that is continued is of another kind.
    """
    before = None
    base = NOISE
    if checkpoint is not None:
        if not checkpoint.meta.architecture.is_through_plane:
            raise CheckpointError("the run to be continued trains a network within slices, not between them")
        before = ThroughPlaneDegradation.from_dict(checkpoint.meta.degradation)
        base = Degradation(
            noise_sigma_range=before.noise_range, noise_skew=before.noise_skew, dose_factor_range=(1.0, 1.0)
        )
    asked = base if wanted is None else wanted if isinstance(wanted, Degradation) else wanted(base)
    if asked.dose_factor_range != (1.0, 1.0):
        raise UsageError("between slices noise is given by `noise_sigma_range` alone, at full dose")
    noiseless = asked.mode != "blurnoise"
    found = ThroughPlaneDegradation(
        thickness_range=options.thickness_range,
        distance_range=options.distance_range,
        row_range=options.hr_reduction,
        noise_range=(0.0, 0.0) if noiseless else asked.noise_sigma_range,
        noise_skew=asked.noise_skew,
    )
    if before is not None and found != before:
        raise UsageError(f"the degradation asked for is not that of the run to be continued: {before}")
    return found


@dataclass(frozen=True)
class BetweenSlices:
    """Thin slices from thick ones: what `ctsr.train.run.Task` asks for."""

    options: TrainOptions
    degradation: ThroughPlaneDegradation
    hu_range: HURange = DEFAULT_RANGE

    @property
    def experiment(self) -> str:
        """What the run folder is called, but for the time."""
        return THROUGH_PLANE

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture(THROUGH_PLANE, 1, nf=self.options.nf, nb=self.options.nb, gc=0)

    @property
    def plain(self) -> dict[str, Any]:
        """Its degradation as checkpoints hold it."""
        return self.degradation.as_dict()

    @property
    def flags(self) -> Mapping[str, Any]:
        """The noise by the names of its flags."""
        return {
            "noise_sigma_range_norm": list(self.degradation.noise_range),
            "noise_skew": self.degradation.noise_skew,
        }

    def patches(self, data: Data, fabric: Fabric, progress: Progress) -> Patches:
        """What it learns from: each device's share of it in batches; `progress` is told where slices are too small."""
        options = self.options
        reduction = self.degradation.row_range
        check_patch_fits("patch_size", options.patch_size, 2, data.train, reduction=reduction, progress=progress)
        dataset = ThroughPlanePatches(
            data.train,
            patch_size=options.patch_size,
            degradation=self.degradation,
            hu_range=self.hu_range,
            seed=options.seed,
            patches_per_slice=options.patches_per_slice,
        )
        sampler = EpochSampler(len(dataset), seed=options.seed, rank=fabric.global_rank, world_size=fabric.world_size)
        batch = options.batch_size * options.accumulate // fabric.world_size
        loader = patch_loader(dataset, sampler, batch, options.num_workers, pin=fabric.device.type == "cuda")
        return Patches(loader, sampler, len(dataset), batch)

    def validation(self, data: Data) -> Validation:
        """Which slices measure progress; how they are degraded is this task's own affair."""
        return Validation(data.val, DegradationSampler(NOISE), self.hu_range, self.options.val_slices)

    def measure(self, net: nn.Module, validation: Validation, stored: StoredSeries, index: int) -> Losses:
        """L1 on the middle of a slice after the projection, [-1, 1] units; its draw is the same in every epoch."""
        rng = rng_from("validation", stored.series_uid, stored.identities[index])
        draw = self.degradation.sample(rng)
        body = np.argwhere(stored.body[index])
        middle = body.mean(axis=0) if len(body) else np.array(stored.body.shape[1:]) / 2
        center = float(middle[0] + 0.5) * BLOCK, float(middle[1] + 0.5) * BLOCK
        patch = make_patch(stored.slice_hu(index), center, VALIDATION_SIDE, draw, validation.hu_range, rng)
        batch = as_batch([patch])
        sr = super_resolve(net, batch.lr).double()
        return {"l1": float(l1_loss(batch.compared(sr), batch.compared(batch.hr.double())))}
