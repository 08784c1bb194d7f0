"""Where a fine-tuning writes: a run folder of its own, or the folder that was asked for, once it is clear."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

from ctsr.checkpoint.model_lookup import BEST, FINETUNED, LAST
from ctsr.errors import UsageError
from ctsr.files import STAMP, new_folder
from ctsr.progress import Progress
from ctsr.train.journal import CONFIG
from ctsr.train.options import FinetuneOptions

__all__ = ["finetune_folder"]

OF_A_RUN = (
    *(BEST, LAST, CONFIG, f"{FINETUNED}_*.json", "metrics.csv", "train.log"),
    *("loss_*.png", "events.out.tfevents.*", "samples"),
)
"""What a run leaves in its folder: this, and nothing else, is moved to make room for the next one."""


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
