"""What a training has been through: one row an epoch, where it stands, and its curves."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctsr.documents import as_type
from ctsr.errors import ReadError
from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure

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


R = TypeVar("R", bound=EpochRow)


@dataclass
class TrainingState(Generic[R]):
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
    history: list[R] = field(default_factory=list[R])

    def close_epoch(self, row: R, score: float) -> bool:
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
    def from_dict(cls, values: Mapping[str, Any], row: type[R]) -> "TrainingState[R]":
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


def _draw(path: Path, state: TrainingState[R], losses: Sequence[str], title: str, *, logarithmic: bool = False) -> None:
    """Side by side, each loss with axes of its own: they differ by orders of magnitude."""
    figure = new_figure(6.4 if len(losses) == 1 else 3.8 * len(losses), 4.0)
    for axes, loss, color in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses, COLORS[1:], strict=False):
        _curve(axes, state, loss, color)
        if logarithmic:
            axes.set_yscale("log")
        calm(axes, title="" if len(losses) == 1 else loss)
    figure.suptitle(title, fontsize=10, color=INK)
    save_figure(figure, path)


def _curve(axes: Axes, state: TrainingState[R], loss: str, color: str) -> None:
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
