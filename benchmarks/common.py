"""What benchmarks share: exams to measure on, paired timing, and how a row is printed."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ctsr.data.datasets import open_roots
from ctsr.data.hu_cache import StoredSeries, open_all
from ctsr.degrade import Degradation
from ctsr.hu import DEFAULT_RANGE
from ctsr.series import Series

REAL_CT = "CTSR_REAL_CT"
ROUNDS = 5


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing the same, timed in turn."""

    ours: float
    theirs: float
    """Median things a second."""
    ratio: float
    """Median of the ratios of neighbouring rounds: what a drifting machine cannot spoil."""


def exams(folder: Path) -> Path:
    """A root of exams: the real ones where they are at hand, else a synthetic set made in `folder`."""
    if REAL_CT in os.environ:
        return Path(os.environ[REAL_CT]) / "patients"
    from ctsr.phantom import make_exams

    make_exams(folder / "exams")
    return folder / "exams"


@contextmanager
def workspace() -> Generator[Path]:
    """A temporary folder; one core for torch, so that figures are per core."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ctsr-bench-") as folder:
        yield Path(folder)


def opened(root: Path, store: Path) -> tuple[list[Series], tuple[StoredSeries, ...]]:
    """The series of a root, scanned and stored."""
    series = [one for patient in open_roots([root]).usable for one in patient.series]
    return series, open_all(series, store, "evaluate").series


def compare(ours: Callable[[], int], theirs: Callable[[], int], *, rounds: int = ROUNDS) -> Comparison:
    """Time two functions in turn; each returns how many things it did. The first round warms up and is not counted."""
    pairs = [(_rate(ours), _rate(theirs)) for _ in range(rounds + 1)][1:]
    return Comparison(
        ours=statistics.median(one for one, _ in pairs),
        theirs=statistics.median(other for _, other in pairs),
        ratio=statistics.median(one / other for one, other in pairs),
    )


def report(what: str, unit: str, result: Comparison, *, target: str) -> None:
    """One line: the two rates and their ratio beside the target."""
    rates = f"{result.ours:9.1f} against {result.theirs:7.1f} {unit:<14}"
    print(f"{what:<40} {rates} ×{result.ratio:5.1f}  (target: {target})")


def _rate(work: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - started)


def degradations(trained_on: Degradation) -> dict[str, Degradation]:
    """Those of real-scan figures: what an image may have been made with, from sharp and clean to soft and noisy."""
    fixed = replace(trained_on, dose_factor_range=(1.0, 1.0), noise_cutoff_range=(1.0, 1.0))

    def made(sigma: float, noise_hu: float, noise_model: Literal["white", "correlated"]) -> Degradation:
        noise = noise_hu / DEFAULT_RANGE.hu_per_unit
        return replace(
            fixed,
            blur_sigma_range=(sigma, sigma),
            noise_sigma_range=(noise, noise),
            noise_model=(noise_model,),
        )

    return {
        "σ 0.8, noise 5 HU, white": made(0.8, 5, "white"),
        "none": replace(trained_on, mode="clean"),
        "σ 0.5, noise 5 HU, white": made(0.5, 5, "white"),
        "σ 1.1, noise 14 HU, correlated": made(1.1, 14, "correlated"),
        "σ 0.3, noise 30 HU, correlated": made(0.3, 30, "correlated"),
    }
