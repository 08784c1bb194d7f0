"""`finetune`: from a generator trained with L1 to one trained with perceptual and adversarial losses."""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from ctsr.checkpoint import Checkpoint, Meta, current_versions, load_model, of_kind, resolve_model
from ctsr.checkpoint.model_lookup import FINETUNED, Resolved
from ctsr.data.datasets import seen_in_training
from ctsr.data.split import PARTS
from ctsr.degrade import Degradation
from ctsr.errors import SplitError, UsageError
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.losses import PerceptualLoss, Trunk, convolutions_of
from ctsr.models import Architecture, build
from ctsr.models.discriminators import build_critic
from ctsr.reporting import SILENT, Progress
from ctsr.train import FinetuneOptions, check_patch, continued
from ctsr.train.adversarial import FinetuneStage, WeightedLoss
from ctsr.train.context import (
    Data,
    Patches,
    TrainingContext,
    check_present,
    input_checks,
    make_patches,
    open_data,
    validation_on,
)
from ctsr.train.devices import Plan, cost_on_patches, ending_its_process_group, launch, leader_first, make_plan
from ctsr.train.loop import learner
from ctsr.train.run_folder import FinetuneRow, TrainingState, draw_finetune_curves, draw_samples, finetune_folder
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
from ctsr.weights import load_weights, weights_path

CRITIC_PASSES = 3
"""Forward and backward passes of the discriminator over a batch in a step: on SR for the generator, then on both."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a fine-tuning begins with: a generator, or a run that is continued."""

    architecture: Architecture
    net: nn.Module
    meta: Meta | None
    """What the file says of its training; None for files that this program did not write."""
    note: str
    """Where the generator is from, for the user."""
    folder: Path | None = None
    checkpoint: Checkpoint | None = None
    """Checkpoint of the run that is continued."""

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]."""
        return self.meta.hu_range if self.meta else DEFAULT_RANGE

    @property
    def degradation(self) -> Degradation:
        """What the generator was trained on; the default where its file does not tell."""
        return Degradation.from_dict(self.meta.degradation) if self.meta else Degradation(scale=self.architecture.scale)


@ending_its_process_group
def finetune(
    options: FinetuneOptions,
    wanted: WantedDegradation = None,
    *,
    given: Container[str] | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Fine-tune a generator, or continue a fine-tuning.

    Args:
        options: everything but the degradation.
        wanted: the degradation; left out, the one that the generator was trained on.
        given: on resume, the options that the user has named; left out, those that differ from their default.
        progress: receives progress and notes.

    Raises:
        MissingInputError: no data, no generator, no weights for the perceptual loss, no checkpoint to continue.
        CheckpointError: the checkpoint does not fit.
        SplitError: the generator was trained on patients that it is to be validated or tested on.
        CtsrError: the loss stayed not finite.
    """
    options, start = _begin(options, given)
    check_patch("patch", options.patch, start.architecture.scale)
    degradation = degradation_for(wanted, start.degradation, start.checkpoint)
    perceptual = _perceptual(options)
    fabric = launch(options, progress)
    leads = fabric.is_global_zero
    progress = progress if leads else SILENT
    progress.note(start.note)
    with leader_first(fabric):  # who decodes the series and writes the split; the others find both
        known_split = start.meta.split if start.meta else None
        data = open_data(options, known_split, progress, allow_train_patients=options.allow_train_patients)
    _check_unseen(start, data, options)
    stage = _stage(options, start, degradation, data, perceptual, fabric, progress)
    state = TrainingState[FinetuneRow]()
    if start.checkpoint is not None:
        state = restore(stage, start.checkpoint, FinetuneRow)
    trained_before(start.checkpoint, data, progress)
    tell_schedule(options, start.checkpoint, progress)
    meta = _meta(options, start, degradation, data)
    folder = start.folder
    if folder is None:
        with leader_first(fabric):
            made = finetune_folder(options, meta.experiment, progress) if leads else (Path(), options)
        folder, options = fabric.broadcast(made)
    session = _session(stage, state, folder, meta, options, leads=leads)
    if is_finished(state, options, progress):
        session.bring_back_best(progress)
    else:
        session.run(progress)
    return session.result(data.failures)


def _begin(options: FinetuneOptions, given: Container[str] | None) -> tuple[FinetuneOptions, Start]:
    """The options that hold, and what they start from."""
    if options.resume is not None:
        folder, checkpoint = run_to_continue(options.resume, FinetuneRow)
        options = continued(options, checkpoint.training.get("config", {}), given)
        _check_inputs(options)
        architecture = checkpoint.meta.architecture
        note = f"continuing {folder}"
        return options, Start(architecture, build(architecture), checkpoint.meta, note, folder, checkpoint)
    _check_inputs(options)
    options.check_judged()
    resolved = _generator_file(options)
    generator = of_kind(load_model(resolved.path), "in plane")
    scale = generator.architecture.scale
    if options.scale not in {None, scale}:
        raise UsageError(
            f"`scale` {options.scale} does not fit {resolved.path}, a network for ×{scale}; "
            "leave `scale` out or name another `pretrained_g`"
        )
    # As it was found, so that the run's configuration names the file and not a word that meant it today.
    options = replace(options, pretrained_g=str(resolved.path), scale=scale)
    note = resolved.note or f"generator: {resolved.path}"
    if generator.meta is None:
        low, high = DEFAULT_RANGE.low, DEFAULT_RANGE.high
        note += (
            f"\nwarning: its file does not say how it was trained: it is shown {low:g} … {high:g} HU, and the default "
            "degradation where flags do not say another; whom it was trained on is unknown"
        )
    return options, Start(generator.architecture, generator.net, generator.meta, note)


def _check_inputs(options: FinetuneOptions) -> None:
    """Report all that is missing at once: generator, data, split file and weights.

    Raises:
        MissingInputError: something is missing; the message lists everything that is.
    """
    checks: list[Callable[[], object]] = [] if options.resume is not None else [partial(_generator_file, options)]
    checks += input_checks(options)
    if _needs_weights(options):
        checks.append(partial(weights_path, options.perceptual, options.cache))
    check_present(checks)


def _generator_file(options: FinetuneOptions) -> Resolved:
    return resolve_model(options.pretrained_g, scale=options.scale, only_l1=True, parameter="pretrained_g")


def _needs_weights(options: FinetuneOptions) -> bool:
    return options.perceptual != "none" and bool(options.lambda_perc)


def _perceptual(options: FinetuneOptions) -> PerceptualLoss | None:
    """The perceptual loss with its fetched weights; None where it has no weight."""
    if not _needs_weights(options):
        return None
    trunk = Trunk(options.perceptual, load_weights(options.perceptual, options.cache))
    layers = options.perc_layers or convolutions_of(options.perceptual)[-1:]
    return PerceptualLoss(trunk, dict(zip(layers, options.perc_weights or (1.0,) * len(layers), strict=True)))


def _check_unseen(start: Start, data: Data, options: FinetuneOptions) -> None:
    """See that the generator has not been trained on patients that are to judge it now or later."""
    if start.checkpoint is not None or start.meta is None or options.allow_train_patients:
        return
    for part in ("val", "test"):
        names = data.exams.split.part(part)
        patients = [patient for patient in data.exams.patients if patient.patient_id in names]
        meta = start.meta
        if seen := seen_in_training(patients, meta.split, meta.also_trained_on, meta.trained_identities):
            raise SplitError(
                f"{options.pretrained_g} was trained on {', '.join(seen)}, of the {part} part of {data.exams.source}: "
                "leave `split_json` out to keep the generator's split, or pass `allow_train_patients=True`"
            )


def _stage(
    options: FinetuneOptions,
    start: Start,
    degradation: Degradation,
    data: Data,
    perceptual: PerceptualLoss | None,
    fabric: Fabric,
    progress: Progress,
) -> FinetuneStage:
    """Both networks, their optimisers and the loaders, set up on the device."""
    torch.manual_seed(options.seed)
    critic = build_critic(options.discriminator)
    start.net.train().requires_grad_(True)
    generator = learner(
        fabric, start.net, lr=options.lr, clip_grad=options.clip_grad, ema=options.ema, compiled=options.compile
    )
    opponent = learner(fabric, critic, lr=options.lr, clip_grad=options.clip_grad)
    if perceptual is not None:
        perceptual.to(fabric.device)
    patches = make_patches(
        data,
        options,
        patch_size=options.patch,
        degradation=degradation,
        hu_range=start.hu_range,
        fabric=fabric,
        progress=progress,
    )
    plan = _plan(options, start, critic, perceptual, patches, fabric)
    progress.note(f"{patches.count} patches an epoch; {plan}")
    conditional = start.architecture.conditional
    validation = validation_on(data, degradation, start.hu_range, options.val_slices, conditional=conditional)
    context = TrainingContext(fabric, patches.loader, patches.sampler, validation, plan.micro_batch, progress)
    weights = {
        "l1": options.lambda_l1,
        "perc": options.lambda_perc,
        "gan": options.lambda_gan,
        "consistency": options.lambda_consistency,
        "artifact": options.lambda_artifact,
    }
    objective = WeightedLoss(weights, perceptual, options.gan_type, degradation)
    return FinetuneStage(context, generator, opponent, objective, options)


def _plan(
    options: FinetuneOptions,
    start: Start,
    critic: nn.Module,
    perceptual: PerceptualLoss | None,
    patches: Patches,
    fabric: Fabric,
) -> Plan:
    """How a step is computed and what it costs, the other networks' share included."""
    with fabric.autocast():
        others = [cost_on_patches(critic, fabric.device, patch=options.patch, batch=patches.batch) * CRITIC_PASSES]
        if perceptual is not None:
            run = _against_itself(perceptual)
            others.append(cost_on_patches(run, fabric.device, patch=options.patch, batch=patches.batch))
        return make_plan(
            start.net,
            patch=options.patch // start.architecture.scale,
            batch=patches.batch,
            steps=len(patches.loader),
            at_once=options.batch_size // fabric.world_size,
            micro_batch=options.micro_batch,
            processes=fabric.world_size,
            others=others,
        )


def _against_itself(loss: PerceptualLoss) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: loss(image, image.detach())


def _meta(options: FinetuneOptions, start: Start, degradation: Degradation, data: Data) -> Meta:
    before = start.meta.trained_on if start.meta else frozenset[str]()
    earlier = start.meta.trained_identities if start.meta else ()
    meta = Meta(
        experiment=f"{FINETUNED}_x{start.architecture.scale}_{degradation.mode}",
        architecture=start.architecture,
        seed=options.seed,
        degradation=degradation.as_dict(),
        split={name: data.exams.split.part(name) for name in PARTS},
        also_trained_on=tuple(sorted(before - set(data.exams.split.train))),
        trained_identities=tuple(sorted({*data.exams.identities("train"), *earlier})),
        hu_range=start.hu_range,
        card=data.card(),
        versions=current_versions(),
    )
    return meta.without_names() if options.no_names else meta


def _session(
    stage: FinetuneStage,
    state: TrainingState[FinetuneRow],
    folder: Path,
    meta: Meta,
    options: FinetuneOptions,
    *,
    leads: bool,
) -> Session[FinetuneRow]:
    """The run, which draws the same slices before it begins and after each epoch."""

    def draw(epoch: int) -> None:
        draw_samples(
            folder / "samples", stage.context.validation, stage.generator.in_use, epoch, no_names=options.no_names
        )

    if leads and not options.no_plots and not state.epochs_done:
        draw(0)
    after_epoch = None if options.no_plots else draw
    flags = Degradation.from_dict(meta.degradation).as_flags()
    return Session(stage, state, folder, meta, options, flags, draw_finetune_curves, _line, after_epoch)


def _line(row: FinetuneRow) -> str:
    psnr = "–" if row.psnr is None else f"{row.psnr:.2f}"
    return (
        f"loss {_number(row.train_total if row.train_total is not None else row.train_total_no_gan)}, "
        f"validation without GAN {_number(row.val_total_no_gan)}, PSNR {psnr} dB, bias {row.hu_bias:+.2f} HU, "
        f"LR-consistency {row.val_consistency_hu:.2f} HU"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"
