"""What a training has been through: one row an epoch, and where it stands."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["EpochRow", "FinetuneRow", "L1Row", "TrainingState", "as_csv"]


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
        plain: dict[str, Any] = {**values, "history": [row(**line) for line in values["history"]]}
        return cls(**plain)


def as_csv(history: Sequence[EpochRow]) -> str:
    """metrics.csv: a header, and a line an epoch; what was not computed is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue()
