"""What a training runs on: its devices, its exams cut into patches, and the slices that measure progress."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ctsr.checkpoint import TrainingCard
from ctsr.checkpoint.files import UNNAMED
from ctsr.data.datasets import NAMED, SplitExams, open_exams, upsampled_references
from ctsr.data.hu_cache import StoredSeries, default_store
from ctsr.data.pairs import EpochSampler, PatchDataset, PatchPair, SlicePair, check_patch_fits, slice_pair
from ctsr.data.split import DEFAULT_SEED, split_file, write_split
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import MissingInputError
from ctsr.hu import HURange
from ctsr.paths import resolve_path
from ctsr.pool import available_cores
from ctsr.reporting import Progress, listed
from ctsr.train import FinetuneOptions, RunOptions

Losses: TypeAlias = dict[str, float]
"""Values of losses and measures by name."""

TRAINED = ("train", "val")
"""The parts of the split that training looks at; the test part stays unread."""


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
        """One slice and its degraded counterpart."""
        return slice_pair(stored, index, self.sampler, self.hu_range)


def validation_on(
    data: "Data", degradation: Degradation, hu_range: HURange, per_series: int, *, conditional: bool
) -> Validation:
    """The slices of the validation part as training judges by them.

    A conditional network is judged over the whole range it is made for: a draw for each slice. Others: for each series.
    """
    sampler = DegradationSampler(degradation, "slice" if conditional else "volume")
    return Validation(data.val, sampler, hu_range, per_series)


@dataclass(frozen=True)
class TrainingContext:
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

    def over_validation(
        self, measure: Callable[[StoredSeries, int], Mapping[str, float | None]]
    ) -> dict[str, float | None]:
        """Means over the validation slices, shared out over the devices.

        What `measure` has no value for (None) on a slice does not count there; a mean of nothing is None.
        """
        fabric = self.fabric
        mine = list(self.validation.slices())[fabric.global_rank :: fabric.world_size]
        sums: dict[str, list[float]] = {}
        for stored, index in self.progress.track(mine, total=len(mine), what="Validating"):
            for name, value in measure(stored, index).items():
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


@dataclass(frozen=True)
class Data:
    """The decoded series of the two parts that training looks at."""

    exams: SplitExams
    train: tuple[StoredSeries, ...]
    val: tuple[StoredSeries, ...]
    failures: tuple[str, ...]
    """A line for each series that could not be used."""

    def card(self) -> TrainingCard:
        """What a model that is trained on it was trained on."""
        spacings = [spacing for series in self.train for spacing in series.pixel_spacing]
        thicknesses = [series.slice_thickness for series in self.train if series.slice_thickness is not None]
        kernels: Counter[str] = Counter()
        for series in self.train:
            kernels[series.kernel or UNNAMED] += len(series)
        return TrainingCard(
            pixel_spacing_mm=(min(spacings), max(spacings)),
            slice_thickness_mm=(min(thicknesses), max(thicknesses)) if thicknesses else None,
            kernels=dict(kernels),
            slice_counts={"train": sum(map(len, self.train)), "val": sum(map(len, self.val))},
        )


@dataclass(frozen=True)
class Patches:
    """The training patches as a step takes them."""

    loader: DataLoader[PatchPair]
    sampler: EpochSampler
    count: int
    """An epoch, over all devices."""
    batch: int
    """A step, on one device."""


def input_checks(options: RunOptions) -> list[Callable[[], object]]:
    """Calls that raise MissingInputError where a folder of exams or the split file of a new run does not exist."""
    named = [*options.data_root, *([options.split_json] if options.split_json and options.resume is None else [])]
    return [partial(resolve_path, path) for path in named]


def check_present(checks: Iterable[Callable[[], object]]) -> None:
    """Make every call, and report all that is missing in one error.

    Raises:
        MissingInputError: one or more of them raised it.
    """
    missing: list[str] = []
    for check in checks:
        try:
            check()
        except MissingInputError as error:
            missing.append(str(error))
    if missing:
        raise MissingInputError("; ".join(missing))


def open_data(
    options: RunOptions,
    known_split: Mapping[str, Sequence[str]] | None,
    progress: Progress,
    *,
    allow_train_patients: bool = False,
) -> Data:
    """Scan, split and decode.

    Args:
        options: the roots, the split file, where the store is.
        known_split: that of a checkpoint this training goes on from; holds where `options` name no file.
        progress: receives notes on the split and on what is left out.
        allow_train_patients: also with a split that tears the folders of one patient apart.

    Raises:
        MissingInputError: a root is not there, or a part has no usable series.
        SplitError: see `ctsr.data.split.choose_split`.
    """
    check_present(input_checks(options))
    roots = [resolve_path(root, progress=progress) for root in options.data_root]
    # A run keeps the split it began with, whatever a split file says by now: its test patients stay unseen.
    named = options.split_json if options.resume is None else None
    named = None if named is None else resolve_path(named, progress=progress)
    exams = open_exams(
        roots,
        split_json=named,
        checkpoint_split=known_split,
        folder=options.splits,
        allow_train_patients=allow_train_patients,
        correction=options.hu_correction,
        progress=progress,
    )
    progress.note(
        f"split: {exams.source}; {len(exams.split.train)} patients to train on, {len(exams.split.val)} to validate"
    )
    kept = split_file(options.splits)
    if named is None and known_split is None and not kept.is_file():
        write_split(kept, exams.split, exams.patients, roots, DEFAULT_SEED)
    _tell_upsampled(exams, progress)
    store = options.store or default_store()
    parts = [exams.part(name, "train", store, assume_hu=options.assume_hu, progress=progress) for name in TRAINED]
    refused = tuple(failure for part in parts for failure in part.failures)
    for failure in refused:
        progress.note(f"left out: {failure}")
    for name, part in zip(TRAINED, parts, strict=True):
        if not part.series:
            raise MissingInputError(f"the {name} part has no usable series; `ctsr scan` says what is there")
    return Data(exams, parts[0].series, parts[1].series, (*exams.failures, *refused))


def _tell_upsampled(exams: SplitExams, progress: Progress) -> None:
    names = set(exams.split.part("train"))
    found = upsampled_references([patient for patient in exams.patients if patient.patient_id in names])
    if found:
        shown = [f"{name} {before:.3g} → {after:.3g} mm" for name, (before, after) in sorted(found.items())]
        progress.note(
            f"warning: of {len(found)} of {len(names)} patients to train on, HR was upsampled by preprocessing "
            f"({listed(shown, NAMED)}): it has less detail than its pixels suggest, and a network learns to make no "
            "more; preprocess with a larger `target_spacing`"
        )


def make_patches(
    data: Data,
    options: RunOptions,
    *,
    patch_size: int,
    degradation: Degradation,
    hu_range: HURange,
    fabric: Fabric,
    progress: Progress,
    hr_reduction: tuple[float, float] = (1.0, 1.0),
) -> Patches:
    """The patches of the training part, each device's share of them in batches."""
    name = "patch" if isinstance(options, FinetuneOptions) else "patch_size"
    check_patch_fits(name, patch_size, degradation.scale, data.train, reduction=hr_reduction, progress=progress)
    dataset = PatchDataset(
        data.train,
        patch_size=patch_size,
        degradation=degradation,
        hu_range=hu_range,
        seed=options.seed,
        patches_per_slice=options.patches_per_slice,
        augment=options.augment,
        hr_reduction=hr_reduction,
    )
    sampler = EpochSampler(len(dataset), seed=options.seed, rank=fabric.global_rank, world_size=fabric.world_size)
    batch = options.batch_size * options.accumulate // fabric.world_size
    loader = patch_loader(dataset, sampler, batch, options.num_workers, pin=fabric.device.type == "cuda")
    return Patches(loader, sampler, len(dataset), batch)


def patch_loader(
    dataset: Dataset[PatchPair], sampler: EpochSampler, batch: int, workers: int, *, pin: bool
) -> DataLoader[PatchPair]:
    """Batches of what `dataset` makes, prepared by `workers` processes."""
    # More processes than cores only wait for one another; the samples are the same however many there are.
    workers = min(workers, available_cores())
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Its own source of seeds for the processes, so that their number does not touch the training's random state.
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    """The dataset makes whole batches (`PatchPair`): there is nothing left to collate."""
    return batch
