"""Plots of a training: its losses over the epochs, the best one marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.ticker import MaxNLocator

from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure
from ctsr.train.history import EpochRow, FinetuneRow, L1Row, TrainingState

__all__ = ["draw_finetune_curves", "draw_l1_curve"]

R = TypeVar("R", bound=EpochRow)

PARTS = ("l1", "perc", "gan")


def draw_l1_curve(folder: Path, state: TrainingState[L1Row]) -> None:
    """``training_curve.png``."""
    title = "Mean L1 on [-1, 1]: training patches, whole validation slices"
    _draw(folder / "training_curve.png", state, ("train_l1", "val_l1"), title, best="val_l1")


def draw_finetune_curves(folder: Path, state: TrainingState[FinetuneRow]) -> None:
    """The four plots of the losses: with and without the adversarial part, plain and weighted components."""
    both = ("train_{}", "val_{}")
    totals = [name.format("total") for name in both]
    no_gan = [name.format("total_no_gan") for name in both]
    plain = [name.format(part) for part in PARTS for name in both]
    weighted = [f"{name}_weighted" for name in plain]
    _draw(folder / "loss_total.png", state, totals, "Total loss: training patches, whole validation slices")
    _draw(folder / "loss_total_no_gan.png", state, no_gan, "Total loss without its adversarial part")
    _draw(folder / "loss_components.png", state, plain, "Each loss by itself")
    _draw(folder / "loss_components_weighted.png", state, weighted, "What each loss adds to the total")


def _draw(path: Path, state: TrainingState[R], names: Sequence[str], title: str, best: str = "") -> None:
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    for color, name in zip(COLORS, names, strict=False):
        points = [(row.epoch, value) for row in state.history if (value := getattr(row, name)) is not None]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        # The same colour for a loss in training and in validation would hide which is which: dashes tell them apart.
        style = "--" if name.startswith("val_") else "-"
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, values, style, color=color, linewidth=1.8, marker=marker, label=name)
    if best:
        row = state.history[state.best_epoch - 1]
        value = getattr(row, best)
        axes.plot(row.epoch, value, marker="o", color=ACCENT, label=f"best: {value:.5f}, epoch {row.epoch}")
    axes.set_yscale("log")
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.05)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    calm(axes, title=title)
    save_figure(figure, path)
