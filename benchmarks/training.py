"""The share of training in which the network waits for data, as training itself reports it."""

import shutil
from pathlib import Path

from benchmarks.common import exams, workspace
from ctsr.reporting import Silent
from ctsr.train import TrainOptions
from ctsr.train.run import train


class Listener(Silent):
    """Keeps the lines that tell of an epoch."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        """Remember a line about an epoch."""
        if message.startswith("epoch "):
            self.lines.append(message)


def run() -> None:
    """Three epochs of a small net, two processes preparing batches."""
    with workspace() as folder:
        listener = Listener()
        options = TrainOptions(
            data_root=(exams(folder),),
            epochs=3,
            patch_size=96,
            batch_size=10,
            nf=32,
            nb=2,
            gc=16,
            val_slices=1,
            num_workers=2,
            device="cpu",
            runs=folder / "runs",
            store=folder / "store",
            splits=folder / "splits",
        )
        train(options, progress=listener)
        for line in listener.lines:
            print(line, "  (target: under 5 % waiting)")
        shutil.rmtree(Path(folder / "runs"))
