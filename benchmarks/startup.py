"""How long a user waits for the help page."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7


def run() -> None:
    """Wall time of whole processes, median of several."""
    program = Path(sys.executable).with_name("ctsr")
    for arguments in (["--help"], ["train", "--help"], ["evaluate", "--help"]):
        seconds: list[float] = []
        for _ in range(RUNS):
            started = time.perf_counter()
            subprocess.run([program, *arguments], capture_output=True, check=True)
            seconds.append(time.perf_counter() - started)
        print(f"ctsr {' '.join(arguments):<20} {statistics.median(seconds):6.2f} s   (target, ctsr --help: under 0.5)")
