"""`ctsr preprocess` on two cores against read → zoom → save one after the other: two commands, start included."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.common import compare, exams, report, workspace
from ctsr.exams import scan

SPACING = 0.8


def run() -> None:
    """Slices per second, from calling the command to its end."""
    with workspace() as folder:
        root = exams(folder)
        count = sum(len(one.slices) for one in scan(root).all_series())
        program = str(Path(sys.executable).with_name("ctsr"))
        flags = ["--root", str(root), "--target_spacing", str(SPACING), "--workers", "2"]

        def ours() -> int:
            return _timed([program, "preprocess", *flags, "--out_dir"], folder / "ours", count)

        def theirs() -> int:
            return _timed([sys.executable, "-m", "benchmarks.zoom", str(root), str(SPACING)], folder / "theirs", count)

        report("slices preprocessed, two cores", "slices/s", compare(ours, theirs, rounds=3), target="at least 2")


def _timed(command: list[str], out: Path, count: int) -> int:
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([*command, str(out)], capture_output=True, check=True)
    return count
