"""Training of networks between slices: what they learn from, and how they are measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from ctsr.checkpoint import Checkpoint
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import EpochSampler
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import CheckpointError, UsageError
from ctsr.hashing import rng_from
from ctsr.hu import BLOCK, DEFAULT_RANGE, HURange
from ctsr.infer import super_resolve
from ctsr.losses import l1_loss
from ctsr.models import Architecture
from ctsr.models.architecture import THROUGH_PLANE
from ctsr.through_plane.patches import ThroughPlaneDegradation, ThroughPlanePatches, as_batch, make_patch
from ctsr.train.context import Data, Losses, Patches, Validation, patch_loader
from ctsr.train.options import TrainOptions

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

    def patches(self, data: Data, fabric: Fabric) -> Patches:
        """What it learns from: each device's share of it in batches."""
        options = self.options
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
        """L1 on the middle of a slice, [-1, 1] units; its draw is the same in every epoch."""
        rng = rng_from("validation", stored.series_uid, stored.identities[index])
        draw = self.degradation.sample(rng)
        body = np.argwhere(stored.body[index])
        middle = body.mean(axis=0) if len(body) else np.array(stored.body.shape[1:]) / 2
        center = float(middle[0] + 0.5) * BLOCK, float(middle[1] + 0.5) * BLOCK
        patch = make_patch(stored.slice_hu(index), center, VALIDATION_SIDE, draw, validation.hu_range, rng)
        batch = as_batch([patch])
        return {"l1": float(l1_loss(super_resolve(net, batch.lr).double(), batch.hr.double()))}
