"""The run folder: checkpoints, the table and curve of the losses, the log, TensorBoard events."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ctsr.checkpoint import Checkpoint, save_checkpoint
from ctsr.checkpoint.reference import BEST, LAST
from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure
from ctsr.files import write_atomically, write_json
from ctsr.train.history import EpochRow, TrainingState, as_csv

__all__ = ["Journal"]

CONFIG = "config.json"


class Journal:
    """Writes everything down after each epoch, so that a run that is cut off loses at most one."""

    def __init__(self, folder: Path, state: TrainingState) -> None:
        self.folder = folder
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

    def close_epoch(self, checkpoint: Checkpoint, state: TrainingState, *, is_best: bool) -> None:
        """Save the checkpoint, then what is drawn from it: a file that stands is never ahead of last.pth."""
        if is_best:
            save_checkpoint(self.folder / BEST, checkpoint)
        save_checkpoint(self.folder / LAST, checkpoint)
        write_atomically(self.folder / "metrics.csv", as_csv(state.history))
        self._draw(state)
        row = state.history[-1]
        for name in ("train_l1", "val_l1", "lr"):
            self._events.add_scalar(name, getattr(row, name), row.epoch)
        self._events.flush()

    def close(self) -> None:
        """No more is coming."""
        self._events.close()

    def _draw(self, state: TrainingState) -> None:
        figure = new_figure(6.4, 4.0)
        axes = figure.subplots()
        epochs = [row.epoch for row in state.history]
        for name, color in (("train_l1", COLORS[0]), ("val_l1", COLORS[1])):
            values = [getattr(row, name) for row in state.history]
            axes.plot(epochs, values, color=color, linewidth=1.8, marker="o" if len(epochs) < 3 else None)
            axes.annotate(f" {name}", (epochs[-1], values[-1]), color=color, va="center", fontsize=9)
        best: EpochRow = state.history[state.best_epoch - 1]
        axes.plot(best.epoch, best.val_l1, marker="o", color=ACCENT)
        axes.annotate(
            f"best {best.val_l1:.5f}",
            (best.epoch, best.val_l1),
            (0, -12),
            textcoords="offset points",
            color=ACCENT,
            ha="center",
            fontsize=8,
        )
        axes.set_yscale("log")
        axes.set_xlabel("epoch", color=INK)
        axes.margins(x=0.12)
        calm(axes, title="Mean L1 on [-1, 1]: training patches, whole validation slices")
        save_figure(figure, self.folder / "training_curve.png")
