"""What every training runs on: devices, patches, and the slices that measure progress."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair, slice_pair
from ctsr.data.patches import EpochSampler, PatchPair
from ctsr.degrade import DegradationSampler
from ctsr.hu import HURange
from ctsr.progress import Progress

__all__ = ["Losses", "Rig", "Validation"]

Losses: TypeAlias = dict[str, float]
"""Values of losses and measures by name."""


@dataclass(frozen=True)
class Validation:
    """Which slices measure progress, always degraded alike."""

    series: Sequence[StoredSeries]
    sampler: DegradationSampler
    hu_range: HURange
    per_series: int
    """At most this many slices of each, evenly spread; 0 takes all."""

    def slices(self) -> Iterator[tuple[StoredSeries, int]]:
        """The slices, in a fixed order."""
        for stored in self.series:
            count = len(stored)
            wanted = min(count, self.per_series or count)
            yield from ((stored, (2 * i + 1) * count // (2 * wanted)) for i in range(wanted))

    def pair(self, stored: StoredSeries, index: int) -> SlicePair:
        """One slice and its degraded twin."""
        return slice_pair(stored, index, self.sampler, self.hu_range)


@dataclass(frozen=True)
class Rig:
    """Shared by training with L1 and fine-tuning."""

    fabric: Fabric
    loader: DataLoader[PatchPair]
    sampler: EpochSampler
    validation: Validation
    micro_batch: int
    """Patches that the generator computes at once."""
    progress: Progress

    def mean(self, values: Mapping[str, Tensor]) -> Losses:
        """Scalars averaged over all devices, as numbers; the same on each of them."""
        if not values:
            return {}
        together = torch.stack([value.detach().float() for value in values.values()])
        return dict(zip(values, self._reduced(together, "mean").tolist(), strict=True))

    def mean_over_devices(self, scores: Tensor) -> Tensor:
        """The mean of all scores of a step, whichever device has them; gradients find their way back to each."""
        if self.fabric.world_size == 1:
            return scores.mean()
        return cast("Tensor", self.fabric.all_gather(scores.mean(), sync_grads=scores.requires_grad)).mean()

    def over_validation(self, measure: Callable[[SlicePair], Mapping[str, float | None]]) -> dict[str, float | None]:
        """Means over the validation slices, shared out over the devices.

        What `measure` has no value for (None) on a slice does not count there; a mean of nothing is None.
        """
        fabric, check = self.fabric, self.validation
        mine = list(check.slices())[fabric.global_rank :: fabric.world_size]
        sums: dict[str, list[float]] = {}
        for stored, index in self.progress.track(mine, total=len(mine), what="Validating"):
            for name, value in measure(check.pair(stored, index)).items():
                total = sums.setdefault(name, [0.0, 0.0])
                if value is not None:
                    total[0], total[1] = total[0] + value, total[1] + 1
        return self._shared_means(sums)

    def _shared_means(self, sums: dict[str, list[float]]) -> dict[str, float | None]:
        """The mean of each sum and count over all devices, a device without slices among them."""
        names = self.fabric.broadcast(list(sums))
        table = torch.tensor([sums.get(name, [0.0, 0.0]) for name in names], dtype=torch.float64)
        # By itself a process keeps them where float64 exists: Metal has none.
        totals = table if self.fabric.world_size == 1 else self._reduced(table.to(self.fabric.device), "sum")
        return {
            name: total / count if count else None for name, (total, count) in zip(names, totals.tolist(), strict=True)
        }

    def _reduced(self, value: Tensor, how: Literal["mean", "sum"]) -> Tensor:
        """The same tensor on every device; with one device, itself."""
        return cast("Tensor", self.fabric.all_reduce(value, reduce_op=how))
