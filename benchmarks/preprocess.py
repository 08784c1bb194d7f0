"""`ctsr preprocess` on two cores against read → zoom → save, one slice after the other; both as whole programs."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.common import compare, exams, report, workspace
from ctsr.data.roots import open_roots


def run() -> None:
    """Slices per second, the start of the programs and their processes included."""
    with workspace() as folder:
        root = exams(folder)
        count = sum(len(one.slices) for patient in open_roots([root]).usable for one in patient.series)
        ctsr = Path(sys.executable).with_name("ctsr")

        def ours() -> int:
            return _timed(folder / "ours", [ctsr, "preprocess", "--root", root, "--out_dir", folder / "ours"], count)

        def theirs() -> int:
            return _timed(folder / "theirs", [sys.executable, "-m", "benchmarks.zoom", root, folder / "theirs"], count)

        report("slices preprocessed, two cores", "slices/s", compare(ours, theirs), target="at least 2")


def _timed(out: Path, command: list[str | Path], count: int) -> int:
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return count
