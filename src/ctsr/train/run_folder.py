"""The run folder: checkpoints, the log, TensorBoard events, pictures, and the table and curves of the losses.

The history has one row an epoch, and says where a training stands.
"""

import csv
import io
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ctsr.checkpoint import Checkpoint, save_checkpoint
from ctsr.checkpoint.model_lookup import BEST, FINETUNED, LAST
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair
from ctsr.documents import as_type
from ctsr.errors import ReadError, UsageError
from ctsr.figures import ACCENT, COLORS, INK, Panel, calm, comparison_figure, new_figure, save_figure
from ctsr.files import STAMP, new_folder, write_atomically, write_json
from ctsr.hashing import pseudonym
from ctsr.hu import PRESETS, HURange
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.models.conditioning import is_conditional
from ctsr.models.interpolation import interpolate
from ctsr.paths import claim, release
from ctsr.reporting import Progress
from ctsr.train import FinetuneOptions
from ctsr.train.context import Validation

PARTS = ("l1", "perc", "gan")
WHERE = "training patches (full line) and whole validation slices (dashes)"


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What every line of metrics.csv has."""

    epoch: int
    """From 1."""
    global_step: int
    lr: float
    time_sec: float

    COLUMNS: ClassVar[tuple[str, ...]]
    """All fields, in the order of the file."""


@dataclass(frozen=True, kw_only=True)
class L1Row(EpochRow):
    """A line of a training with L1."""

    train_l1: float | None
    """Mean over the epoch's patches, [-1, 1] units; None where every step was skipped."""
    val_l1: float
    """Mean over full validation slices, [-1, 1] units."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("epoch", "global_step", "train_l1", "val_l1", "lr", "time_sec")


@dataclass(frozen=True, kw_only=True)
class FinetuneRow(EpochRow):
    """A line of a fine-tuning. Losses are means; None where one was not computed.

    The plain value of each is that of the loss itself, the weighted one what it adds to the total.
    """

    train_total: float | None
    train_total_no_gan: float | None
    train_l1: float | None
    train_perc: float | None
    train_gan: float | None
    train_l1_weighted: float | None
    train_perc_weighted: float | None
    train_gan_weighted: float | None
    val_total: float | None
    val_total_no_gan: float
    val_l1: float | None
    val_perc: float | None
    val_gan: float | None
    val_l1_weighted: float | None
    val_perc_weighted: float | None
    val_gan_weighted: float | None
    psnr: float | None
    """dB over the generator's HU range, mean of the validation slices; None where all are perfect."""
    mae: float
    """On [0, 1] over the generator's HU range, as `ctsr evaluate` has it."""
    hu_bias: float
    """Mean of SR − HR, HU."""
    train_disc: float | None
    """The discriminator's own loss."""
    train_consistency: float | None
    train_artifact: float | None
    val_consistency_hu: float
    """SR and HR degraded alike, without noise: mean absolute difference, HU."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        *("epoch", "global_step"),
        *("train_total", "train_total_no_gan", "train_l1", "train_perc", "train_gan"),
        *("train_l1_weighted", "train_perc_weighted", "train_gan_weighted"),
        *("val_total", "val_total_no_gan", "val_l1", "val_perc", "val_gan"),
        *("val_l1_weighted", "val_perc_weighted", "val_gan_weighted"),
        *("psnr", "mae", "hu_bias", "lr", "time_sec"),
        *("train_disc", "train_consistency", "train_artifact", "val_consistency_hu"),
    )


RowType = TypeVar("RowType", bound=EpochRow)


@dataclass
class TrainingState(Generic[RowType]):
    """Where a training stands after its last whole epoch."""

    epochs_done: int = 0
    global_step: int = 0
    best: float = math.inf
    """Score of the best epoch; lower is better."""
    best_epoch: int = 0
    without_progress: int = 0
    """Epochs since the best one."""
    skipped_steps: int = 0
    """Steps left out because a loss or a gradient was not finite."""
    skipped_in_a_row: int = 0
    """Those since the last one that was finite."""
    history: list[RowType] = field(default_factory=list[RowType])

    def close_epoch(self, row: RowType, score: float) -> bool:
        """Take an epoch into the history; True when its score is the lowest so far."""
        self.epochs_done = row.epoch
        self.history.append(row)
        better = score < self.best
        if better:
            self.best, self.best_epoch = score, row.epoch
        self.without_progress = 0 if better else self.without_progress + 1
        return better

    def is_exhausted(self, patience: int) -> bool:
        """Whether it is time to stop early."""
        return patience > 0 and self.without_progress >= patience

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], row: type[RowType]) -> "TrainingState[RowType]":
        """The inverse of `as_dict`."""
        names = {"epochs_done", "global_step", "best_epoch", "without_progress", "skipped_steps", "skipped_in_a_row"}
        if unknown := values.keys() - names - {"best", "history"}:
            raise ReadError(f"the state of the training has an unknown {sorted(unknown)[0]!r}")
        counts = {name: as_type(values[name], int, name) for name in names & values.keys()}
        lines = as_type(values["history"], list[dict[str, object]], "history")
        history = [as_type(line, row, f"epoch {number}") for number, line in enumerate(lines, start=1)]
        return cls(**counts, best=as_type(values["best"], float, "best"), history=history)


def as_csv(history: Sequence[EpochRow]) -> str:
    """metrics.csv: a header, and a line an epoch; what was not computed is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()


def draw_l1_curve(folder: Path, state: TrainingState[L1Row]) -> None:
    """``training_curve.png``."""
    _draw(folder / "training_curve.png", state, ["l1"], f"Mean L1 on [-1, 1]: {WHERE}", logarithmic=True)


def draw_finetune_curves(folder: Path, state: TrainingState[FinetuneRow]) -> None:
    """The four plots of the losses: with and without the adversarial part, plain and weighted components."""
    weighted = [f"{part}_weighted" for part in PARTS]
    _draw(folder / "loss_total.png", state, ["total"], f"Total loss: {WHERE}")
    _draw(
        folder / "loss_total_no_gan.png", state, ["total_no_gan"], f"Total loss without its adversarial part: {WHERE}"
    )
    _draw(folder / "loss_components.png", state, PARTS, f"Each loss by itself: {WHERE}")
    _draw(folder / "loss_components_weighted.png", state, weighted, f"What each loss adds to the total: {WHERE}")


def _draw(
    path: Path, state: TrainingState[RowType], losses: Sequence[str], title: str, *, logarithmic: bool = False
) -> None:
    """Side by side, each loss with axes of its own: they differ by orders of magnitude."""
    figure = new_figure(6.4 if len(losses) == 1 else 3.8 * len(losses), 4.0)
    for axes, loss, color in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses, COLORS[1:], strict=False):
        _curve(axes, state, loss, color)
        if logarithmic:
            axes.set_yscale("log")
        calm(axes, title="" if len(losses) == 1 else loss)
    figure.suptitle(title, fontsize=10, color=INK)
    save_figure(figure, path)


def _curve(axes: Axes, state: TrainingState[RowType], loss: str, color: str) -> None:
    for name, style in ((f"train_{loss}", "-"), (f"val_{loss}", "--")):
        points = [(row.epoch, value) for row in state.history if (value := getattr(row, name)) is not None]
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, style, color=color, linewidth=1.8, marker="o" if len(epochs) < 3 else None)
    best = getattr(state.history[state.best_epoch - 1], f"val_{loss}")
    if state.best_epoch and best is not None:
        axes.plot(state.best_epoch, best, marker="o", color=ACCENT)
        axes.annotate(
            f"{best:.4g}", (state.best_epoch, best), (4, 6), textcoords="offset points", fontsize=8, color=ACCENT
        )
    if not axes.lines:
        axes.text(0.5, 0.5, "not computed", transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(0.1)


CONFIG = "config.json"


Curves = Callable[[Path, TrainingState[RowType]], None]
"""Draws what a training has been through into a run folder."""

OF_A_RUN = (
    *(BEST, LAST, CONFIG, f"{FINETUNED}_*.json", "metrics.csv", "train.log"),
    *("loss_*.png", "events.out.tfevents.*", "samples"),
    *(f"{Path(BEST).stem}_alpha*", f"{Path(BEST).stem}.int8*"),
)
"""What a run leaves in its folder, and what was made of its best epoch under that name, by `ctsr blend` and
`ctsr quantize`: this, and nothing else, is moved to make room for the next one."""

LOCK = ".training"
"""A file that the training that writes into a folder holds locked."""
IN_USE = "another training writes into it now"
MOST_SAMPLES = 3
WINDOW = PRESETS["soft_tissue"]


class RunWriter(Generic[RowType]):
    """Writes everything down after each epoch, so that a run that is cut off loses at most one."""

    def __init__(self, folder: Path, state: TrainingState[RowType], curves: Curves[RowType] | None) -> None:
        self.folder = folder
        claim(folder / LOCK, f"{folder}: {IN_USE}")
        self._curves = curves
        # Events of an epoch that was cut off would stand twice after it is trained again.
        self._events = SummaryWriter(str(folder), purge_step=state.epochs_done + 1)

    def describe(self, experiment: str, config: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Write ``config.json`` (the resolved options) and ``<experiment>.json`` (what checkpoints carry as `meta`)."""
        write_json(self.folder / CONFIG, config)
        write_json(self.folder / f"{experiment}.json", meta)

    def log(self, message: str) -> None:
        """Add a line with the time to train.log."""
        with (self.folder / "train.log").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def close_epoch(self, checkpoint: Checkpoint, state: TrainingState[RowType], *, is_best: bool) -> None:
        """Save the checkpoint, then tables and curves, so that none of them is ever ahead of last.pth."""
        if is_best:
            save_checkpoint(self.folder / BEST, checkpoint)
        save_checkpoint(self.folder / LAST, checkpoint)
        write_atomically(self.folder / "metrics.csv", as_csv(state.history))
        if self._curves is not None:
            self._curves(self.folder, state)
        row = state.history[-1]
        for name, value in asdict(row).items():
            if value is not None and name not in {"epoch", "global_step", "time_sec"}:
                self._events.add_scalar(name, value, row.epoch)
        self._events.flush()

    def close(self) -> None:
        """No more is coming."""
        self._events.close()
        release(self.folder / LOCK)


def finetune_folder(options: FinetuneOptions, experiment: str, progress: Progress) -> tuple[Path, FinetuneOptions]:
    """``runs/<experiment>_<time>``, or `out_dir` itself; and the options, which follow a generator that had to move.

    A fine-tuning that is in `out_dir` already is moved into ``<experiment>_<time>`` inside it: the same command can
    be given twice, and nothing is lost.

    Raises:
        UsageError: `out_dir` holds a run of another kind, or one that is running.
    """
    out_dir = options.out_dir
    if out_dir is None:
        return new_folder(options.runs, f"{experiment}_"), options
    described = sorted(out_dir.glob("*_x[24]_*.json"))
    if other := [path for path in described if not path.name.startswith(FINETUNED)]:
        raise UsageError(f"`out_dir` {out_dir} is a run of `ctsr train` ({other[0].name}); name another folder")
    out_dir.mkdir(parents=True, exist_ok=True)
    claim(out_dir / LOCK, f"{out_dir}: {IN_USE}")
    aside = _make_room(out_dir, progress)
    start = Path(options.pretrained_g or "")
    if aside is not None and not start.is_file() and (aside / start.name).is_file():
        options = replace(options, pretrained_g=str(aside / start.name))
    return out_dir, options


@dataclass(frozen=True)
class ValidationSample:
    """The middle slice of a validation series."""

    stored: StoredSeries
    index: int


def samples_of(series: Sequence[StoredSeries]) -> list[ValidationSample]:
    """One slice of each of the first few series."""
    return [ValidationSample(stored, len(stored) // 2) for stored in series[:MOST_SAMPLES]]


def draw_samples(folder: Path, validation: Validation, net: nn.Module, epoch: int, *, no_names: bool = False) -> None:
    """Write ``epoch_003-1.png`` and so on into `folder`: LR, bicubic, SR and HR, a detail enlarged.

    Epoch 0 is the generator before its first step. With `no_names`, a patient is called by a hash.
    """
    moment = f"after epoch {epoch}" if epoch else "before the first step"
    for number, sample in enumerate(samples_of(validation.series), start=1):
        pair, patient = validation.pair(sample.stored, sample.index), sample.stored.patient_id
        figure = comparison_figure(
            _panels(pair, net, validation.hu_range, validation.sampler.degradation.scale),
            WINDOW,
            title=f"{pseudonym(patient) if no_names else patient}, slice {sample.index}, {moment}",
            pixel_aspect=sample.stored.pixel_spacing[0] / sample.stored.pixel_spacing[1],
        )
        save_figure(figure, folder / f"epoch_{epoch:03d}-{number}.png")


def _make_room(folder: Path, progress: Progress) -> Path | None:
    """Move a run out of the way; where it is now, None if there was none."""
    checkpoints = [path for name in (LAST, BEST) if (path := folder / name).is_file()]
    if not checkpoints:
        return None
    named = next((path.stem for path in sorted(folder.glob(f"{FINETUNED}_*.json"))), "earlier")
    ended = time.strftime(STAMP, time.localtime(checkpoints[0].stat().st_mtime))
    aside = folder / f"{named}_{ended}"
    aside.mkdir(exist_ok=True)
    for pattern in OF_A_RUN:
        for path in folder.glob(pattern):
            shutil.move(path, aside / path.name)
    progress.note(f"{folder} held an earlier run, which is now in {aside}")
    return aside


def _panels(pair: SlicePair, net: nn.Module, hu_range: HURange, scale: int) -> list[Panel]:
    images = {
        "LR": pair.lr,
        "Bicubic": interpolate(pair.lr, scale, "bicubic"),
        "SR": super_resolve(
            net, network_input(pair.lr, [pair.draw.params], scale=pair.scale, conditional=is_conditional(net))
        ),
        "HR": pair.hr,
    }
    return [Panel(name, hu_range.to_hu(image[0, 0].cpu().numpy())) for name, image in images.items()]
