"""A training from its set-up to its end, and what a checkpoint keeps of it: all that the next step depends on."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import torch

from ctsr.checkpoint import Checkpoint, Meta, load_checkpoint, save_checkpoint
from ctsr.checkpoint.model_lookup import BEST, LAST
from ctsr.degrade import Degradation
from ctsr.documents import as_type
from ctsr.errors import CheckpointError, MissingInputError, ReadError, UsageError
from ctsr.hashing import is_same_person, proven
from ctsr.paths import resolve_path
from ctsr.reporting import Progress, listed
from ctsr.train import FinetuneOptions, RunOptions, remembered_options
from ctsr.train.context import Data
from ctsr.train.devices import ending_in_one_line, precision_of
from ctsr.train.loop import Stage, fit
from ctsr.train.run_folder import Curves, EpochRow, RunWriter, TrainingState

WantedDegradation: TypeAlias = Degradation | Callable[[Degradation], Degradation] | None
"""A degradation, or what makes one of that which holds anyway; None keeps that."""

R = TypeVar("R", bound=EpochRow)

NAMED = 3
"""Patients that a message names before it says how many more there are."""


@dataclass(frozen=True)
class TrainResult:
    """What came of a training."""

    folder: Path
    state: TrainingState[Any]
    failures: tuple[str, ...]
    """A line for each series that could not be used."""
    headline: str
    """What the best epoch's losses were, in words; empty where there is none."""
    leads: bool = True
    """False in the processes that only helped, where training ran on several devices."""

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / BEST


@dataclass(frozen=True)
class Session(Generic[R]):
    """A training that is ready to run."""

    stage: Stage[R]
    state: TrainingState[R]
    folder: Path
    meta: Meta
    options: RunOptions
    degradation_flags: Mapping[str, Any]
    """The degradation by the names of its flags, for config.json."""
    curves: Curves[R]
    describe: Callable[[R], str]
    """What an epoch's line says of its losses."""
    after_epoch: Callable[[int], None] | None = None
    """Told of each epoch once it is written down; on the leading process."""

    def run(self, progress: Progress) -> None:
        """The loop; the leading process writes down everything it does.

        Raises:
            CtsrError: training diverged, or another of its processes died.
        """
        context, state, options = self.stage.context, self.state, self.options
        config = self._config()
        for line in hardly_felt(options, len(context.loader)):
            progress.note(f"warning: {line}")
        curves = None if options.no_plots else self.curves
        journal = RunWriter(self.folder, state, curves) if context.fabric.is_global_zero else None

        def keep(state: TrainingState[R], is_best: bool, waiting: float) -> None:
            if journal is not None:
                journal.close_epoch(snapshot(self.stage, state, self.meta, config), state, is_best=is_best)
                line = self._line(state.history[-1], is_best, waiting)
                journal.log(line)
                progress.note(line)
                if self.after_epoch is not None:
                    self.after_epoch(state.epochs_done)

        progress.note(f"run folder: {self.folder}")
        if journal is not None:
            self.bring_back_best(progress)
            journal.describe(self.meta.experiment, config | dict(self.degradation_flags), self.meta.to_plain())
        try:
            with ending_in_one_line(context.fabric, f"`resume` {self.folder} continues from the last whole epoch"):
                fit(self.stage, state, options, keep=keep)
        finally:
            if journal is not None:
                journal.close()
        if state.skipped_steps:
            progress.note(f"warning: {state.skipped_steps} steps were skipped because their loss was not finite")
        if state.epochs_done < options.epochs:
            progress.note(f"stopped early: no progress for {options.epochs_of_patience} epochs")

    def _config(self) -> dict[str, Any]:
        """The options as config.json and checkpoints have them."""
        # With the size that was chosen: memory may be free or short when the run is continued, its sums stay the same.
        # Without `resume`: who trains by this configuration begins a run, and does not continue this one.
        return remembered_options(replace(self.options, micro_batch=self.stage.context.micro_batch, resume=None))

    def bring_back_best(self, progress: Progress) -> None:
        """Where the run was moved without its `best.pth`: write it anew, or say what is missing."""
        state, best = self.state, self.folder / BEST
        if not state.best_epoch or best.is_file() or not self.stage.context.fabric.is_global_zero:
            return
        if state.best_epoch == state.epochs_done:
            save_checkpoint(best, snapshot(self.stage, state, self.meta, self._config()))
            return
        progress.note(
            f"warning: {best}, of epoch {state.best_epoch}, is not there: it is written again only where an epoch is "
            "better than that one; bring it along, or train anew"
        )

    def result(self, failures: tuple[str, ...]) -> TrainResult:
        """What has come of it; `failures` names the series that could not be used."""
        history, best = self.state.history, self.state.best_epoch
        headline = self.describe(history[best - 1]) if history else ""
        return TrainResult(self.folder, self.state, failures, headline, self.stage.context.fabric.is_global_zero)

    def _line(self, row: R, is_best: bool, waiting: float) -> str:
        return (
            f"epoch {row.epoch}/{self.options.epochs}: {self.describe(row)}{' (best)' if is_best else ''}, "
            f"{row.time_sec:.1f} s, {waiting:.1%} of training spent waiting for data"
        )


def run_to_continue(reference: str, row: type[EpochRow]) -> tuple[Path, Checkpoint]:
    """The folder and the last checkpoint of the run that `resume` names.

    Args:
        reference: a run folder, or a checkpoint file.
        row: what the lines of its history must be.

    Raises:
        MissingInputError: there is no such checkpoint.
        CheckpointError: it is of the other kind of training.
        UsageError: another run, or later epochs of its own, lie in its folder and would be written over.
    """
    path = resolve_path(reference)
    last = path / LAST if path.is_dir() else path
    if not last.is_file():
        raise MissingInputError(f"`resume` {reference}: {path} holds no {LAST}; name a run folder or a checkpoint file")
    if last.name not in {BEST, LAST} and (there := [name for name in (LAST, BEST) if (last.parent / name).is_file()]):
        raise UsageError(
            f"`resume` {reference}: {last.parent} holds the {there[0]} of a run, which would be written over; move "
            f"{last.name} into a folder of its own, or name that run's folder"
        )
    checkpoint = load_checkpoint(last)
    _check_is_last(reference, last, checkpoint)
    history: list[Mapping[str, Any]] = checkpoint.training.get("standing", {}).get("history", [])
    if history and set(history[0]) != set(row.COLUMNS):
        other = "train" if "val_total_no_gan" not in history[0] else "finetune"
        raise CheckpointError(f"`resume` {reference}: this run was made by `ctsr {other}`, which also continues it")
    return last.parent, checkpoint


def _check_is_last(reference: str, path: Path, checkpoint: Checkpoint) -> None:
    """See that epochs after that of a `best.pth` are not written over."""
    later = path.with_name(LAST)
    if path.name != BEST or not later.is_file():
        return
    try:
        by_now = _epochs_done(load_checkpoint(later))
    except (CheckpointError, ReadError):
        return  # which is why one goes back to the best
    done = _epochs_done(checkpoint)
    if by_now > done:
        raise UsageError(
            f"`resume` {reference}: {later} is at epoch {by_now}, which going on from epoch {done} would write over; "
            f"name the folder to continue from there, or copy {BEST} into a folder of its own"
        )


def _epochs_done(checkpoint: Checkpoint) -> int:
    return as_type(checkpoint.training.get("standing", {}).get("epochs_done", 0), int, "epochs_done")


def degradation_for(wanted: WantedDegradation, base: Degradation, checkpoint: Checkpoint | None) -> Degradation:
    """The degradation to train on.

    Args:
        wanted: what was asked for.
        base: what holds where nothing else was asked for.
        checkpoint: of the run that is continued, if one is.

    Raises:
        UsageError: the run that is continued was made with another one.
    """
    if checkpoint is not None:
        base = Degradation.from_dict(checkpoint.meta.degradation)
    asked = base if wanted is None else wanted if isinstance(wanted, Degradation) else wanted(base)
    if checkpoint is None:
        return asked
    # By its flags, as config.json has it: a default that is spelled out is the same degradation.
    if (asked.scale, asked.as_flags()) != (base.scale, base.as_flags()):
        raise UsageError(f"the degradation asked for is not that of the run to be continued: {base}")
    return base


MOST_LEFT = 0.1
"""Share of the weights that a run begins with which its average may still hold at the end without a word."""


def hardly_felt(options: RunOptions, steps: int) -> Iterator[str]:
    """A line for each setting that so short a training does not come to.

    Args:
        options: of the training.
        steps: an epoch.
    """
    total = steps * options.epochs
    left = options.ema**total
    if left > MOST_LEFT:
        yield (
            f"after {total} steps the average of the weights (`ema` {options.ema:g}) still holds {left:.0%} of those "
            "that training begins with, and it is what is judged and used: train longer, or pass "
            f"`ema={_fast_enough(total):g}`"
        )
    if isinstance(options, FinetuneOptions) and options.lambda_gan and options.warmup_g_only >= total:
        yield (
            f"the adversarial loss takes no part: training ends after {total} steps, all of them within "
            f"`warmup_g_only` {options.warmup_g_only}; train longer, or warm up for fewer"
        )


def _fast_enough(steps: int) -> float:
    """A decay that leaves a hundredth after so many steps, to two digits of what it takes in at each."""
    taken = 1 - 0.01 ** (1 / steps)
    return 1 - float(f"{taken:.1g}")


def is_finished(state: TrainingState[Any], options: RunOptions, progress: Progress) -> bool:
    """Whether a run to be continued has nothing left to do; `progress` receives the reason and how to go on."""
    if state.epochs_done >= options.epochs:
        falls = (
            "" if options.lr_schedule == "constant" else f", its learning rate on that number's {options.lr_schedule}"
        )
        more = f"`epochs={2 * options.epochs}` would go on{falls}"
        progress.note(f"this run has done its {state.epochs_done} epochs; {more}")
        return True
    if state.is_exhausted(options.epochs_of_patience):
        progress.note(f"this run stopped early after {state.epochs_done} epochs; a larger `patience` would go on")
        return True
    return False


def trained_before(checkpoint: Checkpoint | None, data: Data, progress: Progress) -> tuple[str, ...]:
    """Hashes of the exams that a run to be continued was trained on so far, wherever they are by now.

    Args:
        checkpoint: of that run; none where a run begins.
        data: what it goes on with.
        progress: told where that is not what it has been trained on.
    """
    if checkpoint is None:
        return ()
    before, now = checkpoint.meta, data.card()
    changed = [
        f"{words} {_shown(was)} → {_shown(is_now)}"
        for words, was, is_now in (
            ("slices", before.card.slice_counts, now.slice_counts),
            ("pixels of mm", before.card.pixel_spacing_mm, now.pixel_spacing_mm),
            ("kernels", before.card.kernels, now.kernels),
        )
        if was != is_now
    ]
    if before.trained_identities and (strangers := _strangers(data, before.trained_identities)):
        changed.append(f"exams it has not seen, of {listed(strangers, NAMED)}")
    if changed:
        progress.note(
            f"warning: the data is not what this run was trained on so far ({'; '.join(changed)}): the losses of its "
            "epochs are of other images, and the best one may be the best on those before"
        )
    return before.trained_identities


def tell_schedule(options: RunOptions, checkpoint: Checkpoint | None, progress: Progress) -> None:
    """Say where the learning rate of a run that is continued is not that of a run of so many epochs from the start."""
    before = checkpoint.training.get("config", {}).get("epochs") if checkpoint else None
    if before not in {None, options.epochs} and options.lr_schedule != "constant":
        progress.note(
            f"warning: the learning rate falls on the {options.lr_schedule} of {options.epochs} epochs from here on, "
            f"where it fell on that of {before}: the result is not that of {options.epochs} epochs from the start"
        )


def _strangers(data: Data, known: Collection[str]) -> list[str]:
    """Patients to train on whose headers say that they are not among those known."""
    names = set(data.exams.split.part("train"))
    patients = [patient for patient in data.exams.patients if patient.patient_id in names]
    telling = [patient for patient in patients if proven(patient.identities)]
    return [patient.patient_id for patient in telling if not is_same_person(known, patient.identities)]


def _shown(value: Mapping[str, int] | tuple[float, float] | None) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        return " to ".join(f"{number:.4g}" for number in value)
    return ", ".join(f"{name} {count}" for name, count in value.items())


def snapshot(stage: Stage[R], state: TrainingState[R], meta: Meta, config: Mapping[str, Any]) -> Checkpoint:
    """The training as it stands after a whole epoch.

    Patches, their order and degradation, and the learning rate are functions of seed and epoch: there is no state of
    sampler or schedule to keep.
    """
    learners = {name: learner.state_dict() for name, learner in stage.learners.items()}
    generator = learners.pop("generator")
    return Checkpoint(
        meta=meta,
        weights=generator["weights"],
        ema=generator["ema"],
        training={
            "optimizer": generator["optimizer"],
            "averaged_steps": generator["averaged_steps"],
            "others": learners,
            "scaler": precision_of(stage.context.fabric).state_dict(),
            "rng": _random_state(),
            "standing": state.as_dict(),
            "config": dict(config),
        },
    )


def restore(stage: Stage[R], checkpoint: Checkpoint, row: type[R]) -> TrainingState[R]:
    """Put a training back to where `snapshot` found it.

    Args:
        stage: networks of the same shape.
        checkpoint: what `snapshot` gave.
        row: how a line of the history is made.

    Raises:
        CheckpointError: the checkpoint is of another network or kind of training, or carries no training state.
    """
    training = checkpoint.training
    missing = {"optimizer", "scaler", "rng", "standing"} - training.keys()
    if missing:
        raise CheckpointError(f"this checkpoint cannot be continued: it has no {', '.join(sorted(missing))}")
    generator = {"weights": checkpoint.weights, "ema": checkpoint.ema} | {
        name: training.get(name) for name in ("optimizer", "averaged_steps")
    }
    try:
        for name, learner in stage.learners.items():
            learner.load_state_dict(generator if name == "generator" else training["others"][name])
        state = TrainingState[R].from_dict(training["standing"], row)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ReadError) as error:
        raise CheckpointError(f"the checkpoint does not fit this training: {error}") from error
    if training["scaler"]:  # empty where the run has been in a precision that needs none
        precision_of(stage.context.fabric).load_state_dict(training["scaler"])
    torch.set_rng_state(training["rng"]["cpu"])
    # It may have been on other devices, or on more of them.
    for device, random in zip(range(torch.cuda.device_count()), training["rng"]["cuda"], strict=False):
        torch.cuda.set_rng_state(random, device)
    return state


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
