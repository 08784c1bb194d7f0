"""Preprocessing on two cores against read → zoom → save, one slice after the other; each in a program of its own."""

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import ROUNDS, Comparison, exams, report, workspace
from ctsr.data.datasets import open_roots


def run() -> None:
    """Slices per second: scanning, starting processes, logs and checks included, imports left out on both sides."""
    with workspace() as folder:
        root = exams(folder)
        count = sum(len(one.slices) for patient in open_roots([root]).usable for one in patient.series)
        pairs = [
            (_seconds("benchmarks.resample", root, folder), _seconds("benchmarks.zoom", root, folder))
            for _ in range(ROUNDS + 1)
        ][1:]  # the first round warms up
        result = Comparison(
            ours=count / statistics.median(ours for ours, _ in pairs),
            theirs=count / statistics.median(theirs for _, theirs in pairs),
            ratio=statistics.median(theirs / ours for ours, theirs in pairs),
        )
        report("slices preprocessed, two cores", "slices/s", result, target="at least 2")


def _seconds(program: str, root: Path, folder: Path) -> float:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", program, root, out], check=True, capture_output=True, text=True)
    return float(done.stdout)
