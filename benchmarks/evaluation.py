"""What an evaluation costs beyond the model's own time: seconds a slice of 512² by part, and all parts together."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import exams, opened, workspace
from ctsr.data.pairs import SlicePair, slice_pair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.hu import DEFAULT_RANGE, HURange, choose_window
from ctsr.infer import super_resolve
from ctsr.metrics import choose_metrics
from ctsr.metrics.perceptual import choose_perceptual
from ctsr.models import Architecture, build
from ctsr.models.interpolation import interpolate
from ctsr.pool import available_cores
from ctsr.weights import fetch

SIZE, SLICES, ROUNDS = 512, 6, 3
TARGET_S = 0.35
"""Wall seconds a slice on two cores, fidelity and LPIPS of three methods."""
PARTS = {
    "fidelity and HU": ("fidelity", "hu"),
    "HU by tissue": ("tissue",),
    "LPIPS (AlexNet)": ("LPIPS",),
    "NIQE": ("NIQE",),
    "MS-SSIM, HaarPSI, VIF": ("structure",),
    "fidelity, HU and LPIPS": ("fidelity", "hu", "LPIPS"),
    "the default: with tissue and NIQE": ("fidelity", "hu", "tissue", "LPIPS", "NIQE"),
}


def run() -> None:
    """Three methods (bilinear, bicubic, a network that is not timed) on slices of 512²; weights fetched here."""
    with workspace() as folder:
        for name in ("niqe", "alexnet", "lpips-alex"):
            fetch(name, folder / "weights")
        pairs = _pairs(folder)
        net = build(Architecture("rrdb", 2, nf=8, nb=1, gc=4)).eval()
        work = [(_reconstructed(net, pair), pair.hr_hu) for pair in pairs]
        print(
            f"{len(work)} slices of {SIZE}², 3 methods, {available_cores()} cores; threads as `--workers 0` takes them"
        )
        for part, names in PARTS.items():
            _report(part, _judge(names, folder / "weights"), work)


def _reconstructed(net: nn.Module, pair: SlicePair) -> Tensor:
    """Two interpolations and a network, ``(3, 1, H, W)`` in [-1, 1]."""
    interpolated = [interpolate(pair.lr, 2, kind) for kind in ("bilinear", "bicubic")]
    return torch.cat([*interpolated, super_resolve(net, pair.lr)])


def _pairs(folder: Path) -> list[SlicePair]:
    _, stored = opened(exams(folder), folder / "store")
    fitting = [one for one in stored if (one.rows, one.columns) == (SIZE, SIZE)]
    sampler = DegradationSampler(Degradation())
    places = [(one, (i + 1) * len(one) // (SLICES + 1)) for one in fitting[:1] for i in range(SLICES)]
    return [slice_pair(one, index, sampler) for one, index in places]


def _judge(names: tuple[str, ...], cache: Path) -> MetricEvaluator:
    metrics = choose_metrics(names)
    learned = choose_perceptual(metrics, "alex", cache)
    return MetricEvaluator(DEFAULT_RANGE, (Domain(choose_window(HURange())),), metrics, learned.functions)


def _report(part: str, judge: MetricEvaluator, work: list[tuple[Tensor, np.ndarray]]) -> None:
    with ThreadPoolExecutor(available_cores()) as executor:

        def all_slices() -> None:
            list(executor.map(lambda one: judge(*one), work))

        all_slices()  # warms up
        wall, cpu = (
            statistics.median(times) for times in zip(*(_timed(all_slices) for _ in range(ROUNDS)), strict=True)
        )
    target = f"  (target: at most {TARGET_S} s)" if part == "fidelity, HU and LPIPS" else ""
    print(f"{part:<36} {wall / len(work):6.3f} s, {cpu / len(work):6.3f} CPU-s a slice{target}")


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu
