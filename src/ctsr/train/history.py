"""What a training has been through: one row an epoch, and where it stands."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["EpochRow", "TrainingState", "as_csv"]


@dataclass(frozen=True)
class EpochRow:
    """A line of metrics.csv."""

    epoch: int
    """From 1."""
    global_step: int
    train_l1: float
    """Mean over the epoch's patches, [-1, 1] units."""
    val_l1: float
    """Mean over full validation slices, [-1, 1] units."""
    lr: float
    time_sec: float


@dataclass
class TrainingState:
    """Where a training stands after its last whole epoch."""

    epochs_done: int = 0
    global_step: int = 0
    best: float = math.inf
    best_epoch: int = 0
    without_progress: int = 0
    """Epochs since the best one."""
    skipped_steps: int = 0
    """Steps left out because their loss was not finite."""
    skipped_in_a_row: int = 0
    """Those since the last one that was finite."""
    history: list[EpochRow] = field(default_factory=list[EpochRow])

    def close_epoch(self, row: EpochRow) -> bool:
        """Take an epoch into the history; True when it is the best so far."""
        self.epochs_done = row.epoch
        self.history.append(row)
        better = row.val_l1 < self.best
        if better:
            self.best, self.best_epoch = row.val_l1, row.epoch
        self.without_progress = 0 if better else self.without_progress + 1
        return better

    def is_exhausted(self, patience: int) -> bool:
        """Whether it is time to stop early."""
        return patience > 0 and self.without_progress >= patience

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingState":
        """The inverse of `as_dict`."""
        state = cls(**values)
        state.history = [EpochRow(**row) for row in values["history"]]
        return state


def as_csv(history: Sequence[EpochRow]) -> str:
    """metrics.csv: a header, and a line an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()
