"""`train`: from roots and options to a run folder, by the stage that trains with L1 alone."""

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ctsr.checkpoint import Checkpoint, Meta, current_versions
from ctsr.checkpoint.model_lookup import VALIDATION_JSON
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import PatchPair
from ctsr.data.split import PARTS
from ctsr.degrade import Degradation
from ctsr.files import new_folder, write_json
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import super_resolve
from ctsr.infer.conditions import STRENGTHS, beyond_training, drawn_range, network_input
from ctsr.losses import l1_loss
from ctsr.models import Architecture, build, describe
from ctsr.models.conditioning import is_conditional
from ctsr.models.interpolation import interpolate
from ctsr.models.networks import start_as_bilinear
from ctsr.reporting import SILENT, Progress
from ctsr.train import TrainOptions, continued
from ctsr.train.context import (
    Data,
    Losses,
    Patches,
    TrainingContext,
    Validation,
    make_patches,
    open_data,
    validation_on,
)
from ctsr.train.devices import ending_its_process_group, launch, leader_first, make_plan
from ctsr.train.loop import TrainableModel, learner
from ctsr.train.run_folder import EpochRow, L1Row, TrainingState, draw_l1_curve
from ctsr.train.session import (
    Session,
    TrainResult,
    WantedDegradation,
    degradation_for,
    is_finished,
    restore,
    run_to_continue,
    tell_schedule,
    trained_before,
)
from ctsr.train.through_plane import BetweenSlices, through_plane_degradation


@ending_its_process_group
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
        progress: receives progress and notes.

    Raises:
        MissingInputError: no data, no checkpoint to continue.
        CheckpointError: the checkpoint does not fit.
        CtsrError: the loss stayed not finite.
    """
    checkpoint, folder = None, None
    if options.resume is not None:
        folder, checkpoint = run_to_continue(options.resume, L1Row)
        options = continued(options, checkpoint.training.get("config", {}), given)
    task = _task(options, wanted, checkpoint)
    fabric = launch(options, progress)
    leads = fabric.is_global_zero
    progress = progress if leads else SILENT
    with leader_first(fabric):  # who decodes the series and writes the split; the others find both
        data = open_data(options, checkpoint.meta.split if checkpoint else None, progress)
    if isinstance(task, WithinSlices) and options.conditional:
        _tell_untold(task, progress)
    stage = _stage(options, task, data, fabric, progress)
    state = restore(stage, checkpoint, L1Row) if checkpoint else TrainingState[L1Row]()
    earlier = trained_before(checkpoint, data, progress)
    tell_schedule(options, checkpoint, progress)
    meta = _meta(options, describe(stage.generator.bare.state_dict()), task, data, earlier)
    if folder is None:
        with leader_first(fabric):
            made = new_folder(options.runs, f"{meta.experiment}_") if leads else Path()
        folder = fabric.broadcast(made)
    session = Session(stage, state, folder, meta, options, task.flags, draw_l1_curve, _line)
    if is_finished(state, options, progress):
        session.bring_back_best(progress)
    else:
        session.run(progress)
        if isinstance(task, WithinSlices):
            _compare_with_bicubic(session, stage.context, task, progress)
    return session.result(data.failures)


def _tell_untold(task: "WithinSlices", progress: Progress) -> None:
    """Warn where a conditional network does not learn what `ctsr upscale` will tell it of a series without noise."""
    scale = task.degradation.scale
    told = {name: strength.conditions(0.0, scale, DEFAULT_RANGE) for name, strength in STRENGTHS.items()}
    untrained = [name for name, each in told.items() if beyond_training(each, task.degradation, DEFAULT_RANGE)]
    if untrained:
        drawn, unit = drawn_range(task.degradation), DEFAULT_RANGE.hu_per_unit
        blurs = sorted(each.blur_sigma for each in told.values())
        noise = f"noise of {drawn.noise[0] * unit:.2g} … {drawn.noise[1] * unit:.2g} HU"
        noise = noise if math.isfinite(drawn.noise[1]) else "the noise of its exams"
        progress.note(
            f"warning: `ctsr upscale` tells conditional networks a blur of {blurs[0]:.2g} … {blurs[-1]:.2g} pixels and "
            f"noise from 0 on; this one learns {drawn.blur[0]:.2g} … {drawn.blur[1]:.2g} pixels and {noise}: "
            f"what it makes at strength {' and '.join(untrained)} will be a guess; widen `blur_sigma_range` and "
            "`noise_sigma_range`"
        )


class Task(Protocol):
    """What a network is trained for: within slices, or between them."""

    @property
    def experiment(self) -> str:
        """What the run folder is called, but for the time."""
        ...

    @property
    def architecture(self) -> Architecture:
        """The network."""
        ...

    @property
    def plain(self) -> dict[str, Any]:
        """Its degradation as checkpoints hold it."""
        ...

    @property
    def flags(self) -> Mapping[str, Any]:
        """Its degradation as flags, as far as they are not options of the training."""
        ...

    def patches(self, data: Data, fabric: Fabric, progress: Progress) -> Patches:
        """The patches that it learns from; `progress` is told of those that their slices are too small for."""
        ...

    def validation(self, data: Data) -> Validation:
        """Which slices measure progress."""
        ...

    def measure(self, net: nn.Module, validation: Validation, stored: StoredSeries, index: int) -> Losses:
        """The network's losses on one of them."""
        ...


@dataclass(frozen=True)
class WithinSlices:
    """Finer slices from coarser ones."""

    options: TrainOptions
    degradation: Degradation

    @property
    def experiment(self) -> str:
        """See `Task`."""
        return f"{self.options.arch}_x{self.options.scale}_{self.degradation.mode}"

    @property
    def architecture(self) -> Architecture:
        """See `Task`."""
        options = self.options
        return Architecture(
            options.arch, options.scale, options.nf, options.nb, options.gc, conditional=options.conditional
        )

    @property
    def plain(self) -> dict[str, Any]:
        """See `Task`."""
        return self.degradation.as_dict()

    @property
    def flags(self) -> Mapping[str, Any]:
        """See `Task`."""
        return self.degradation.as_flags()

    def patches(self, data: Data, fabric: Fabric, progress: Progress) -> Patches:
        """See `Task`."""
        return make_patches(
            data,
            self.options,
            patch_size=self.options.patch_size,
            degradation=self.degradation,
            hu_range=DEFAULT_RANGE,
            fabric=fabric,
            progress=progress,
            hr_reduction=self.options.hr_reduction,
        )

    def validation(self, data: Data) -> Validation:
        """See `Task`."""
        options = self.options
        return validation_on(data, self.degradation, DEFAULT_RANGE, options.val_slices, conditional=options.conditional)

    def measure(self, net: nn.Module, validation: Validation, stored: StoredSeries, index: int) -> Losses:
        """See `Task`: mean L1 over a whole slice, [-1, 1] units."""
        pair = validation.pair(stored, index)
        sr = super_resolve(
            net, network_input(pair.lr, [pair.draw.params], scale=pair.scale, conditional=is_conditional(net))
        )
        return {"l1": float(l1_loss(sr.double(), pair.hr.double()))}

    def measure_bicubic(self, validation: Validation, stored: StoredSeries, index: int) -> Losses:
        """The same of bicubic interpolation."""
        pair = validation.pair(stored, index)
        sr = interpolate(pair.lr, pair.scale, "bicubic")
        return {"l1": float(l1_loss(sr.double(), pair.hr.double()))}


def _compare_with_bicubic(
    session: Session[L1Row], context: TrainingContext, task: WithinSlices, progress: Progress
) -> None:
    """Keep in the run folder how the best epoch compares with bicubic interpolation; warn where it is no better."""
    bicubic = context.over_validation(partial(task.measure_bicubic, context.validation))["l1"]
    if not session.state.best_epoch or bicubic is None or not context.fabric.is_global_zero:
        return
    best = session.state.history[session.state.best_epoch - 1].val_l1
    write_json(session.folder / VALIDATION_JSON, {"best_l1": best, "bicubic_l1": bicubic})
    if best >= bicubic:
        progress.note(
            f"warning: validation L1 {best:.5f} is not below that of bicubic interpolation, {bicubic:.5f}: train "
            "longer, on more images or with a larger network"
        )


class L1Stage:
    """Forward, backward, unscale, clip, step."""

    def __init__(self, context: TrainingContext, generator: TrainableModel, task: Task) -> None:
        self.context = context
        self.generator = generator
        self.task = task
        self.learners = {"generator": generator}

    def step(self, batch: PatchPair, steps_done: int) -> Losses | None:  # noqa: ARG002  (`Stage` passes it)
        """One batch; where memory does not hold it, in parts whose gradients add up to the whole's."""
        fabric, net = self.context.fabric, self.generator.net
        self.generator.optimizer.zero_grad()
        total = torch.zeros((), device=fabric.device)
        size = self.context.micro_batch
        inputs = self._inputs(batch)
        for start in range(0, len(batch), size):
            part = slice(start, min(start + size, len(batch)))
            # Gradients travel between devices once a step: with the last part.
            with fabric.no_backward_sync(net, enabled=part.stop < len(batch)):
                sr, hr = batch.compared(net(inputs[part]), part), batch.compared(batch.hr[part], part)
                loss = l1_loss(sr, hr) * (len(hr) / len(batch))
                fabric.backward(loss)
            total += loss.detach()
        losses = self.context.mean({"l1": total})
        if not self.generator.update(fabric, losses["l1"]):
            return None
        self.generator.average_in()
        return losses

    def row(self, known: EpochRow, trained: Losses) -> L1Row:
        """Mean L1 over validation slices, [-1, 1] units."""
        validated = self.context.over_validation(self._measure)
        values: dict[str, Any] = {**asdict(known), "train_l1": trained.get("l1"), "val_l1": validated["l1"]}
        return L1Row(**values)

    def score(self, row: L1Row) -> float:
        """The validation L1."""
        return row.val_l1

    def _inputs(self, batch: PatchPair) -> Tensor:
        if not batch.params:  # between slices
            return batch.lr
        conditional = is_conditional(self.generator.bare)
        return network_input(batch.lr, batch.params, scale=batch.scale, conditional=conditional)

    def _measure(self, stored: StoredSeries, index: int) -> Losses:
        return self.task.measure(self.generator.in_use, self.context.validation, stored, index)


def _task(options: TrainOptions, wanted: WantedDegradation, checkpoint: Checkpoint | None) -> Task:
    if options.through_plane:
        return BetweenSlices(options, through_plane_degradation(options, wanted, checkpoint))
    return WithinSlices(options, degradation_for(wanted, Degradation(scale=options.scale), checkpoint))


def _stage(options: TrainOptions, task: Task, data: Data, fabric: Fabric, progress: Progress) -> L1Stage:
    """Network, optimiser and loaders, set up on the device."""
    torch.manual_seed(options.seed)
    bare = build(task.architecture)
    if options.init == "bilinear":
        start_as_bilinear(bare)
    generator = learner(
        fabric, bare, lr=options.lr, clip_grad=options.clip_grad, ema=options.ema, compiled=options.compile
    )
    patches = task.patches(data, fabric, progress)
    with fabric.autocast():
        plan = make_plan(
            bare,
            patch=options.patch_size // task.architecture.scale,
            batch=patches.batch,
            steps=len(patches.loader),
            at_once=options.batch_size // fabric.world_size,
            micro_batch=options.micro_batch,
            processes=fabric.world_size,
        )
    progress.note(f"{patches.count} patches an epoch; {plan}")
    context = TrainingContext(
        fabric, patches.loader, patches.sampler, task.validation(data), plan.micro_batch, progress
    )
    return L1Stage(context, generator, task)


def _meta(options: TrainOptions, architecture: Architecture, task: Task, data: Data, earlier: tuple[str, ...]) -> Meta:
    meta = Meta(
        experiment=task.experiment,
        architecture=architecture,
        seed=options.seed,
        degradation=task.plain,
        split={name: data.exams.split.part(name) for name in PARTS},
        trained_identities=tuple(sorted({*data.exams.identities("train"), *earlier})),
        hu_range=DEFAULT_RANGE,
        card=data.card(),
        versions=current_versions(),
    )
    return meta.without_names() if options.no_names else meta


def _line(row: L1Row) -> str:
    trained = "–" if row.train_l1 is None else f"{row.train_l1:.5f}"
    return f"train L1 {trained}, val L1 {row.val_l1:.5f}"
