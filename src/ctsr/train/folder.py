"""Where a fine-tuning writes: a run folder of its own, or the folder that was asked for, once it is clear."""

import shutil
import time
from pathlib import Path

from ctsr.checkpoint.reference import BEST, FINETUNED, LAST
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


def finetune_folder(options: FinetuneOptions, experiment: str, progress: Progress) -> Path:
    """``runs/<experiment>_<time>``, or `--out_dir` itself.

    A run that is in `--out_dir` already is moved into ``<experiment>_<time>`` inside it, where it is found by that
    name: the same command can be given twice, and nothing is lost.
    """
    if options.out_dir is None:
        return new_folder(options.runs, f"{experiment}_")
    options.out_dir.mkdir(parents=True, exist_ok=True)
    _make_room(options.out_dir, progress)
    return options.out_dir


def _make_room(folder: Path, progress: Progress) -> None:
    checkpoints = [path for name in (LAST, BEST) if (path := folder / name).is_file()]
    if not checkpoints:
        return
    named = next((path.stem for path in sorted(folder.glob(f"{FINETUNED}_*.json"))), "earlier")
    ended = time.strftime(STAMP, time.localtime(checkpoints[0].stat().st_mtime))
    aside = folder / f"{named}_{ended}"
    aside.mkdir(exist_ok=True)
    for pattern in OF_A_RUN:
        for path in folder.glob(pattern):
            shutil.move(path, aside / path.name)
    progress.note(f"{folder} held an earlier run, which is now in {aside}")
