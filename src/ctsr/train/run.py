"""`train`: from roots and options to a run folder."""

from collections import Counter
from collections.abc import Container
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from ctsr.checkpoint import Checkpoint, Meta, TrainingCard, current_versions, load_checkpoint
from ctsr.checkpoint.reference import BEST, LAST
from ctsr.data.exams import SplitExams, open_exams
from ctsr.data.patches import EpochSampler, PatchDataset, PatchPair
from ctsr.data.split import DEFAULT_SEED, PARTS, split_file
from ctsr.data.split_report import write_split
from ctsr.data.store import StoredSeries, default_store
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.device import pick_device
from ctsr.errors import MissingInputError, UsageError
from ctsr.files import new_folder
from ctsr.hu import DEFAULT_RANGE
from ctsr.models import Architecture, build
from ctsr.models.rrdb import RRDBNet
from ctsr.models.warm_start import start_as_bilinear
from ctsr.paths import resolve_path
from ctsr.pool import available_cores
from ctsr.progress import SILENT, Progress
from ctsr.train.history import TrainingState
from ctsr.train.journal import Journal
from ctsr.train.loop import Trainer, Validation, fit
from ctsr.train.options import TrainOptions, continued
from ctsr.train.plan import make_plan
from ctsr.train.state import restore, snapshot

__all__ = ["TrainResult", "degradation_of", "train"]

TRAINED = ("train", "val")
"""The parts of the split that training looks at; the test part stays unread."""


@dataclass(frozen=True)
class TrainResult:
    """What came of a training."""

    folder: Path
    state: TrainingState
    failures: tuple[str, ...]
    """A line for each series that could not be used."""
    leads: bool = True
    """False in the processes that only helped, where training ran on several devices."""

    @property
    def best(self) -> Path:
        """The checkpoint with the least validation L1."""
        return self.folder / BEST


@dataclass(frozen=True)
class Data:
    """The decoded series of the two parts that training looks at."""

    exams: SplitExams
    train: tuple[StoredSeries, ...]
    val: tuple[StoredSeries, ...]
    failures: tuple[str, ...]


def degradation_of(reference: str) -> Degradation:
    """The degradation of the run that ``--resume`` names."""
    return Degradation.from_dict(_run_to_continue(reference)[1].meta.degradation)


def train(
    options: TrainOptions,
    degradation: Degradation | None = None,
    *,
    given: Container[str] | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train a generator with L1, or continue a training.

    Args:
        options: everything but the degradation.
        degradation: left out, the default of the scale, or that of the run that is continued.
        given: on resume, the options that the user has named; left out, those that differ from their default.
        progress: hears what is going on.

    Raises:
        MissingInputError: no data, no checkpoint to continue.
        CheckpointError: the checkpoint does not fit.
        CtsrError: the loss stayed not finite.
    """
    checkpoint, folder = None, None
    if options.resume is not None:
        folder, checkpoint = _run_to_continue(options.resume)
        options = continued(options, checkpoint.training.get("config", {}), given)
        stored = Degradation.from_dict(checkpoint.meta.degradation)
        if degradation not in {None, stored}:
            raise UsageError(f"the degradation asked for is not that of the run to be continued: {stored}")
        degradation = stored
    degradation = degradation or Degradation(scale=options.scale)
    fabric = _fabric(options, progress)
    leads = fabric.is_global_zero
    progress = progress if leads else SILENT
    with fabric.rank_zero_first():  # which decodes the series and writes the split; the others find both
        data = _open_data(options, checkpoint, progress)
    trainer = _trainer(options, degradation, data, fabric, progress)
    state = restore(trainer, checkpoint) if checkpoint else TrainingState()
    if folder is not None and (state.epochs_done >= options.epochs or state.is_exhausted(options.patience)):
        progress.note(_finished(state, options))
        return TrainResult(folder, state, data.failures, leads)
    meta = _meta(f"rrdb_x{options.scale}_{degradation.mode}", options, degradation, data)
    if folder is None:
        folder = fabric.broadcast(new_folder(options.runs, f"{meta.experiment}_") if leads else Path())
    _run(trainer, state, folder, meta, options, progress)
    return TrainResult(folder, state, data.failures, leads)


def _run(
    trainer: Trainer, state: TrainingState, folder: Path, meta: Meta, options: TrainOptions, progress: Progress
) -> None:
    """The loop; the leading process writes down everything it does."""
    # With the size that was chosen: memory may be free or short when the run is continued, its sums stay the same.
    config = plain_options(replace(options, micro_batch=trainer.micro_batch))
    journal = Journal(folder, state) if trainer.fabric.is_global_zero else None

    def keep(state: TrainingState, is_best: bool, waiting: float) -> None:
        if journal is None:
            return
        journal.close_epoch(snapshot(trainer, state, meta, config), state, is_best=is_best)
        row = state.history[-1]
        line = (
            f"epoch {row.epoch}/{options.epochs}: train L1 {row.train_l1:.5f}, val L1 {row.val_l1:.5f}"
            f"{' (best)' if is_best else ''}, {row.time_sec:.1f} s, {waiting:.1%} of training spent waiting for data"
        )
        journal.log(line)
        progress.note(line)

    progress.note(f"run folder: {folder}")
    if journal is not None:
        flags = Degradation.from_dict(meta.degradation).as_flags()
        journal.describe(meta.experiment, config | flags, meta.to_plain())
    try:
        fit(trainer, state, epochs=options.epochs, patience=options.patience, keep=keep)
    finally:
        if journal is not None:
            journal.close()
    if state.skipped_steps:
        progress.note(f"warning: {state.skipped_steps} steps were skipped because their loss was not finite")
    if state.epochs_done < options.epochs:
        progress.note(f"stopped early: no better validation L1 for {options.patience} epochs")


def _run_to_continue(reference: str) -> tuple[Path, Checkpoint]:
    """The folder and the last checkpoint of the run that ``--resume`` names."""
    path = resolve_path(reference)
    last = path / LAST if path.is_dir() else path
    if not last.is_file():
        raise MissingInputError(f"--resume {reference}: {path} holds no {LAST}; name a run folder or a checkpoint file")
    return last.parent, load_checkpoint(last)


def _open_data(options: TrainOptions, checkpoint: Checkpoint | None, progress: Progress) -> Data:
    roots = [resolve_path(root, progress=progress) for root in options.data_root]
    # A run keeps the split it began with, whatever a split file says by now: its test patients stay unseen.
    named = None if options.split_json is None or checkpoint else resolve_path(options.split_json, progress=progress)
    exams = open_exams(
        roots,
        split_json=named,
        checkpoint_split=checkpoint.meta.split if checkpoint else None,
        folder=options.splits,
        progress=progress,
    )
    progress.note(
        f"split: {exams.source}; {len(exams.split.train)} patients to train on, {len(exams.split.val)} to validate"
    )
    kept = split_file(options.splits)
    if named is None and checkpoint is None and not kept.is_file():
        write_split(kept, exams.split, exams.patients, roots, DEFAULT_SEED)
    store = options.store or default_store()
    parts = [exams.part(name, "train", store, assume_hu=options.assume_hu, progress=progress) for name in TRAINED]
    refused = tuple(failure for part in parts for failure in part.failures)
    for failure in refused:
        progress.note(f"left out: {failure}")
    for name, part in zip(TRAINED, parts, strict=True):
        if not part.series:
            raise MissingInputError(f"the {name} part has no usable series; `ctsr scan` says what is there")
    return Data(exams, parts[0].series, parts[1].series, (*exams.failures, *refused))


def _fabric(options: TrainOptions, progress: Progress) -> Fabric:
    device = pick_device(options.device, progress=progress)
    precision = options.precision
    if precision == "auto":
        precision = "16-mixed" if device.type == "cuda" else "32-true"
    named = ":" in options.device
    if named and options.devices > 1:
        raise UsageError(f"--device {options.device} names one device, --devices {options.devices} asks for several")
    devices = [device.index] if named else options.devices
    fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)
    fabric.launch()
    return fabric


def _trainer(
    options: TrainOptions, degradation: Degradation, data: Data, fabric: Fabric, progress: Progress
) -> Trainer:
    """Network, optimiser and loaders, set up on the device."""
    torch.manual_seed(options.seed)
    bare = build(_architecture(options))
    if options.init == "bilinear" and isinstance(bare, RRDBNet):
        start_as_bilinear(bare)
    net, optimizer = fabric.setup(bare, torch.optim.Adam(bare.parameters(), lr=options.lr, betas=(0.9, 0.999)))
    dataset = PatchDataset(
        data.train,
        patch_size=options.patch_size,
        degradation=degradation,
        hu_range=DEFAULT_RANGE,
        seed=options.seed,
        patches_per_slice=options.patches_per_slice,
        augment=options.augment,
    )
    sampler = EpochSampler(len(dataset), seed=options.seed, rank=fabric.global_rank, world_size=fabric.world_size)
    batch = options.batch_size // fabric.world_size
    loader = _loader(dataset, sampler, batch, options.num_workers, pin=fabric.device.type == "cuda")
    with fabric.autocast():
        plan = make_plan(
            bare,
            patch=options.patch_size // options.scale,
            batch=batch,
            steps=len(loader),
            micro_batch=options.micro_batch,
        )
    progress.note(f"{len(dataset)} patches an epoch; {plan}")
    validation = Validation(data.val, DegradationSampler(degradation), DEFAULT_RANGE, options.val_slices)
    return Trainer(fabric, net, optimizer, loader, sampler, validation, plan.micro_batch, options.clip_grad, progress)


def _loader(
    dataset: PatchDataset, sampler: EpochSampler, batch: int, workers: int, *, pin: bool
) -> DataLoader[PatchPair]:
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


def _architecture(options: TrainOptions) -> Architecture:
    return Architecture("rrdb", options.scale, nf=options.nf, nb=options.nb, gc=options.gc)


def _meta(experiment: str, options: TrainOptions, degradation: Degradation, data: Data) -> Meta:
    spacings = [spacing for one in data.train for spacing in one.pixel_spacing]
    thicknesses = [one.slice_thickness for one in data.train if one.slice_thickness is not None]
    kernels: Counter[str] = Counter()
    for one in data.train:
        kernels[one.kernel or "unknown"] += len(one)
    card = TrainingCard(
        pixel_spacing_mm=(min(spacings), max(spacings)),
        slice_thickness_mm=(min(thicknesses), max(thicknesses)) if thicknesses else None,
        kernels=dict(kernels),
        slice_counts={"train": sum(map(len, data.train)), "val": sum(map(len, data.val))},
    )
    return Meta(
        experiment=experiment,
        architecture=_architecture(options),
        seed=options.seed,
        degradation=degradation.as_dict(),
        split={name: data.exams.split.part(name) for name in PARTS},
        hu_range=DEFAULT_RANGE,
        card=card,
        versions=current_versions(),
    )


def _finished(state: TrainingState, options: TrainOptions) -> str:
    if state.epochs_done >= options.epochs:
        return f"this run has done its {state.epochs_done} epochs; --epochs {2 * options.epochs} would go on"
    return f"this run stopped early after {state.epochs_done} epochs; a larger --patience would go on"


def plain_options(options: TrainOptions) -> dict[str, Any]:
    """The options as they stand in config.json and in the checkpoint."""
    return {name: _plain_value(value) for name, value in asdict(options).items()}


def _plain_value(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value
