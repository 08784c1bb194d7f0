"""What the metrics of an evaluation cost a slice, and what NIQE says of CT: whole slices, and the part without air."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.common import exams, opened, workspace
from ctsr.hu import preset
from ctsr.metrics import MetricFunction, ssim
from ctsr.metrics.fidelity import haarpsi, ms_ssim, vif
from ctsr.metrics.perceptual import LpipsTrunk, PerceptualName, choose_metric
from ctsr.weights import fetch

SliceHU = npt.NDArray[np.float32]

SIZE, ROUNDS = 512, 7
LEARNED: tuple[tuple[PerceptualName, LpipsTrunk], ...] = (("NIQE", "alex"), ("LPIPS", "alex"), ("LPIPS", "vgg"))
MIDDLE = slice(SIZE // 2 - 144, SIZE // 2 + 144)
"""Nine blocks of NIQE around the centre: hardly any air."""


def run() -> None:
    """On the middle slice of each series of 512², weights fetched into a temporary folder."""
    with workspace() as folder:
        series, stored = opened(exams(folder), folder / "store")
        middles = {one.patient_id: two.slice_hu(len(two) // 2) for one, two in zip(series, stored, strict=True)}
        slices = {name: one for name, one in middles.items() if one.shape == (SIZE, SIZE)}
        functions = _functions(folder / "weights")
        _report_costs(functions, _on_unit(next(iter(slices.values())), "global"))
        _report_niqe(functions["NIQE"], slices)


def _functions(cache: Path) -> dict[str, MetricFunction]:
    for name in ("niqe", "alexnet", "lpips-alex", "vgg16", "lpips-vgg"):
        fetch(name, cache)
    functions: dict[str, MetricFunction] = {"SSIM": ssim, "MS-SSIM": ms_ssim, "HaarPSI": haarpsi, "VIF": vif}
    for name, net in LEARNED:
        label = name if name == "NIQE" else f"{name} ({net})"
        functions[label] = choose_metric(name, "builtin", net, cache).function
    if (ma := choose_metric("MA")).backend != "none":
        functions["MA"] = ma.function
    return functions


def _on_unit(hu: SliceHU, window: str) -> Tensor:
    return torch.from_numpy(preset(window).to_01(hu))[None, None]


def _report_costs(functions: Mapping[str, MetricFunction], reference: Tensor) -> None:
    """In turn, so that a drifting machine slows all of them."""
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    image = (reference + 0.01 * noise).clamp(0, 1)
    rounds = [{name: _cpu_s(function, image, reference) for name, function in functions.items()} for _ in range(ROUNDS)]
    for name in functions:
        cost = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["SSIM"] for one in rounds)
        print(f"{name:<14} {1000 * cost:7.0f} CPU-ms for a slice of {SIZE}²  ×{ratio:5.1f} of SSIM")


def _cpu_s(function: MetricFunction, image: Tensor, reference: Tensor) -> float:
    started = time.process_time()
    function(image, reference)
    return time.process_time() - started


def _report_niqe(niqe: MetricFunction, slices: Mapping[str, SliceHU]) -> None:
    print(f"NIQE on              {'global':>16} {'soft_tissue':>16}   (whole slice, middle)")
    for name, hu in slices.items():
        found = [(_on_unit(hu, window), _on_unit(hu[MIDDLE, MIDDLE], window)) for window in ("global", "soft_tissue")]
        columns = (f"{_one(niqe, whole):>8} {_one(niqe, part):>7}" for whole, part in found)
        print(f"{name:<20} {' '.join(columns)}")


def _one(niqe: MetricFunction, image: Tensor) -> str:
    (found,) = niqe(image, image)
    return "-" if found.value is None else f"{found.value:.1f}"
