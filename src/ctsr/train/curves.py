"""Plots of a training: its losses over the epochs, the best epoch marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure
from ctsr.train.history import EpochRow, FinetuneRow, L1Row, TrainingState

__all__ = ["draw_finetune_curves", "draw_l1_curve"]

R = TypeVar("R", bound=EpochRow)

PARTS = ("l1", "perc", "gan")
WHERE = "training patches (full line) and whole validation slices (dashes)"


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
