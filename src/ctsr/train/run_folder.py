"""The run folder: checkpoints, the table and curves of the losses, the log, TensorBoard events, pictures."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ctsr.checkpoint import Checkpoint, save_checkpoint
from ctsr.checkpoint.model_lookup import BEST, FINETUNED, LAST
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair
from ctsr.errors import UsageError
from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.files import STAMP, new_folder, write_atomically, write_json
from ctsr.hu import PRESETS, HURange
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.models.conditioning import is_conditional
from ctsr.models.interpolation import interpolate
from ctsr.progress import Progress
from ctsr.train.context import Validation
from ctsr.train.history import EpochRow, TrainingState, as_csv
from ctsr.train.options import FinetuneOptions

CONFIG = "config.json"

R = TypeVar("R", bound=EpochRow)

Curves = Callable[[Path, TrainingState[R]], None]
"""Draws what a training has been through into a run folder."""

OF_A_RUN = (
    *(BEST, LAST, CONFIG, f"{FINETUNED}_*.json", "metrics.csv", "train.log"),
    *("loss_*.png", "events.out.tfevents.*", "samples"),
)
"""What a run leaves in its folder: this, and nothing else, is moved to make room for the next one."""

MOST_SAMPLES = 3
WINDOW = PRESETS["soft_tissue"]


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


def finetune_folder(options: FinetuneOptions, experiment: str, progress: Progress) -> tuple[Path, FinetuneOptions]:
    """``runs/<experiment>_<time>``, or `--out_dir` itself; and the options, which follow a generator that had to move.

    A fine-tuning that is in `--out_dir` already is moved into ``<experiment>_<time>`` inside it: the same command can
    be given twice, and nothing is lost.

    Raises:
        UsageError: `--out_dir` holds a run of another kind.
    """
    out_dir = options.out_dir
    if out_dir is None:
        return new_folder(options.runs, f"{experiment}_"), options
    described = sorted(out_dir.glob("*_x[24]_*.json"))
    if other := [path for path in described if not path.name.startswith(FINETUNED)]:
        raise UsageError(f"--out_dir {out_dir} is a run of `ctsr train` ({other[0].name}); name another folder")
    out_dir.mkdir(parents=True, exist_ok=True)
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


def draw_samples(folder: Path, validation: Validation, net: nn.Module, epoch: int) -> None:
    """Write ``epoch_003-1.png`` and so on into `folder`: LR, bicubic, SR and HR, a detail enlarged.

    Epoch 0 is the generator before its first step.
    """
    moment = f"after epoch {epoch}" if epoch else "before the first step"
    for number, sample in enumerate(samples_of(validation.series), start=1):
        pair = validation.pair(sample.stored, sample.index)
        figure = comparison_figure(
            _panels(pair, net, validation.hu_range, validation.sampler.degradation.scale),
            WINDOW,
            title=f"{sample.stored.patient_id}, slice {sample.index}, {moment}",
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
