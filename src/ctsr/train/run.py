"""`train`: from roots and options to a run folder, by the stage that trains with L1 alone."""

from collections.abc import Container
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ctsr.checkpoint import Meta, current_versions
from ctsr.data.pairs import PatchPair, SlicePair
from ctsr.data.split import PARTS
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.files import new_folder
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.losses import l1_loss
from ctsr.models import Architecture, build, describe
from ctsr.models.bilinear_init import start_as_bilinear
from ctsr.models.conditioning import is_conditional
from ctsr.progress import SILENT, Progress
from ctsr.train.context import Data, Losses, TrainingContext, Validation, make_patches, open_data
from ctsr.train.devices import launch, leader_first, make_plan
from ctsr.train.loop import TrainableModel, learner
from ctsr.train.options import TrainOptions, continued
from ctsr.train.run_folder import EpochRow, L1Row, TrainingState, draw_l1_curve
from ctsr.train.session import (
    Session,
    TrainResult,
    WantedDegradation,
    degradation_for,
    is_finished,
    restore,
    run_to_continue,
)


def train(
    options: TrainOptions,
    wanted: WantedDegradation = None,
    *,
    given: Container[str] | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train a generator with L1, or continue a training.

    Args:
        options: everything but the degradation.
        wanted: the degradation; left out, the default of the scale, or that of the run that is continued.
        given: on resume, the options that the user has named; left out, those that differ from their default.
        progress: hears what is going on.

    Raises:
        MissingInputError: no data, no checkpoint to continue.
        CheckpointError: the checkpoint does not fit.
        CtsrError: the loss stayed not finite.
    """
    checkpoint, folder = None, None
    if options.resume is not None:
        folder, checkpoint = run_to_continue(options.resume, L1Row)
        options = continued(options, checkpoint.training.get("config", {}), given)
    degradation = degradation_for(wanted, Degradation(scale=options.scale), checkpoint)
    fabric = launch(options, progress)
    leads = fabric.is_global_zero
    progress = progress if leads else SILENT
    with leader_first(fabric):  # who decodes the series and writes the split; the others find both
        data = open_data(options, checkpoint.meta.split if checkpoint else None, progress)
    stage = _stage(options, degradation, data, fabric, progress)
    state = restore(stage, checkpoint, L1Row) if checkpoint else TrainingState[L1Row]()
    meta = _meta(options, describe(stage.generator.bare.state_dict()), degradation, data)
    if folder is None:
        with leader_first(fabric):
            made = new_folder(options.runs, f"{meta.experiment}_") if leads else Path()
        folder = fabric.broadcast(made)
    session = Session(stage, state, folder, meta, options, draw_l1_curve, _line)
    if not is_finished(state, options, progress):
        session.run(progress)
    return session.result(data.failures)


class L1Stage:
    """Forward, backward, unscale, clip, step."""

    def __init__(self, rig: TrainingContext, generator: TrainableModel) -> None:
        self.rig = rig
        self.generator = generator
        self.learners = {"generator": generator}

    def step(self, batch: PatchPair, steps_done: int) -> Losses | None:
        """One batch; where memory does not hold it, in parts whose gradients add up to the whole's."""
        del steps_done
        fabric, net = self.rig.fabric, self.generator.net
        self.generator.optimizer.zero_grad()
        total = torch.zeros((), device=fabric.device)
        size = self.rig.micro_batch
        inputs = network_input(
            batch.lr, batch.params, scale=batch.scale, conditional=is_conditional(self.generator.bare)
        )
        parts = list(zip(inputs.split(size), batch.hr.split(size), strict=True))
        for i, (lr, hr) in enumerate(parts):
            # Gradients travel between devices once a step: with the last part.
            with fabric.no_backward_sync(net, enabled=i < len(parts) - 1):
                loss = l1_loss(net(lr), hr) * (len(hr) / len(batch))
                fabric.backward(loss)
            total += loss.detach()
        losses = self.rig.mean({"l1": total})
        if not self.generator.update(fabric, losses["l1"]):
            return None
        self.generator.average_in()
        return losses

    def row(self, known: EpochRow, trained: Losses) -> L1Row:
        """Mean L1 over full validation slices, [-1, 1] units."""
        validated = self.rig.over_validation(self._measure)
        values: dict[str, Any] = {**asdict(known), "train_l1": trained.get("l1"), "val_l1": validated["l1"]}
        return L1Row(**values)

    def score(self, row: L1Row) -> float:
        """The validation L1."""
        return row.val_l1

    def _measure(self, pair: SlicePair) -> Losses:
        net = self.generator.in_use
        sr = super_resolve(
            net, network_input(pair.lr, [pair.draw.params], scale=pair.scale, conditional=is_conditional(net))
        )
        return {"l1": float(l1_loss(sr.double(), pair.hr.double()))}


def _stage(options: TrainOptions, degradation: Degradation, data: Data, fabric: Fabric, progress: Progress) -> L1Stage:
    """Network, optimiser and loaders, set up on the device."""
    torch.manual_seed(options.seed)
    architecture = Architecture(
        options.arch, options.scale, options.nf, options.nb, options.gc, conditional=options.conditional
    )
    bare = build(architecture)
    if options.init == "bilinear":
        start_as_bilinear(bare)
    generator = learner(
        fabric, bare, lr=options.lr, clip_grad=options.clip_grad, ema=options.ema, compiled=options.compile
    )
    patches = make_patches(
        data,
        options,
        patch_size=options.patch_size,
        degradation=degradation,
        hu_range=DEFAULT_RANGE,
        fabric=fabric,
        hr_reduction=options.hr_reduction,
    )
    with fabric.autocast():
        plan = make_plan(
            bare,
            patch=options.patch_size // options.scale,
            batch=patches.batch,
            steps=len(patches.loader),
            at_once=options.batch_size // fabric.world_size,
            micro_batch=options.micro_batch,
            processes=fabric.world_size,
        )
    progress.note(f"{patches.count} patches an epoch; {plan}")
    # A conditional network is judged over the whole range it is made for: each slice has a draw of its own.
    sampling = "slice" if options.conditional else "volume"
    sampler = DegradationSampler(degradation, sampling)
    validation = Validation(data.val, sampler, DEFAULT_RANGE, options.val_slices)
    rig = TrainingContext(fabric, patches.loader, patches.sampler, validation, plan.micro_batch, progress)
    return L1Stage(rig, generator)


def _meta(options: TrainOptions, architecture: Architecture, degradation: Degradation, data: Data) -> Meta:
    return Meta(
        experiment=f"{options.arch}_x{options.scale}_{degradation.mode}",
        architecture=architecture,
        seed=options.seed,
        degradation=degradation.as_dict(),
        split={name: data.exams.split.part(name) for name in PARTS},
        trained_identities=data.exams.identities("train"),
        hu_range=DEFAULT_RANGE,
        card=data.card(),
        versions=current_versions(),
    )


def _line(row: L1Row) -> str:
    trained = "–" if row.train_l1 is None else f"{row.train_l1:.5f}"
    return f"train L1 {trained}, val L1 {row.val_l1:.5f}"
