"""The run folder: checkpoints, the table and curves of the losses, the log, TensorBoard events."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch.utils.tensorboard import SummaryWriter

from ctsr.checkpoint import Checkpoint, save_checkpoint
from ctsr.checkpoint.model_lookup import BEST, LAST
from ctsr.files import write_atomically, write_json
from ctsr.train.history import EpochRow, TrainingState, as_csv

__all__ = ["CONFIG", "Curves", "Journal"]

CONFIG = "config.json"

R = TypeVar("R", bound=EpochRow)

Curves = Callable[[Path, TrainingState[R]], None]
"""Draws what a training has been through into a run folder."""


class Journal(Generic[R]):
    """Writes everything down after each epoch, so that a run that is cut off loses at most one."""

    def __init__(self, folder: Path, state: TrainingState[R], curves: Curves[R] | None) -> None:
        self.folder = folder
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

    def close_epoch(self, checkpoint: Checkpoint, state: TrainingState[R], *, is_best: bool) -> None:
        """Save the checkpoint, then what is drawn from it: a file that stands is never ahead of last.pth."""
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
