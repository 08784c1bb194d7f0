"""Upscaling: engines side by side with plain PyTorch in CPU-seconds, memory, and what is spent outside the network."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.common import exams, workspace
from ctsr.checkpoint import Checkpoint, Meta, current_versions, save_checkpoint
from ctsr.degrade import Degradation
from ctsr.exams import read_slice, scan
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import body_roi
from ctsr.infer.engine import Engine, OpenvinoEngine, TorchEngine, converted
from ctsr.models import Architecture, build
from ctsr.quantization.acceptance import degraded_pairs
from ctsr.quantization.calibration import convert_calibrated

FULL = Architecture("rrdb", 2, nf=64, nb=23, gc=32)
SIDE = 256
"""LR pixels."""
ROUNDS = 2
PLAIN = f"plain PyTorch, {SIDE}² LR pixels"
SERIES_SLICES = 2
CHEST = "ACRIN-013"
TELLING_PEAK = """
import re, sys
from pathlib import Path
from ctsr.cli.main import main
status = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""
"""ctsr, and then its peak resident memory, KiB. `getrusage` would tell the benchmark's own where that is higher."""


def run() -> None:
    """Two cores, the full ×2 RRDB on slices of 256² LR pixels."""
    with workspace() as folder:
        torch.set_num_threads(os.cpu_count() or 1)
        _engines(folder)
        _programs(folder)


def _few_images() -> Sequence[npt.NDArray[np.float32]]:
    """A calibration that is quick: speed does not depend on it, and accuracy is not measured here."""
    return [np.random.default_rng(i).uniform(-1, 1, (1, 1, 32, 32)).astype(np.float32) for i in range(2)]


def _engines(folder: Path) -> None:
    torch.manual_seed(0)
    net = build(FULL).eval()
    patient, slices = _chest(folder)
    whole = slices[:1]
    exact = OpenvinoEngine(converted(net, folder))
    rounded = OpenvinoEngine(convert_calibrated(net, "benchmark", _few_images, folder), "int8")
    contenders = {
        PLAIN: _Contender(_eager(net), whole),
        "torch fp32, channels last": _Contender(TorchEngine(net), whole),
        "openvino fp32": _Contender(exact, whole, "at least 1.6"),
        "openvino int8": _Contender(rounded, whole, "at least 6.5"),
        f"openvino fp32, air skipped, {patient}": _Contender(_skipping(exact), slices),
        f"openvino int8, air skipped, {patient}": _Contender(_skipping(rounded), slices, "at least 8"),
    }
    seconds = _in_turn(contenders)
    for name, contender in contenders.items():
        times = seconds[PLAIN] / seconds[name]
        print(f"{name:<38} {seconds[name]:6.2f} CPU-s a slice  ×{times:4.1f}  (target: {contender.target})", flush=True)


@dataclass(frozen=True, eq=False)
class _Contender:
    work: "Callable[[Tensor], Tensor] | Engine"
    slices: list[Tensor]
    target: str = "none"


def _in_turn(contenders: dict[str, _Contender]) -> dict[str, float]:
    """CPU-seconds a slice, the least of several rounds: a machine that slows down for a while hits one round of all."""
    least = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, one in contenders.items():
            spent = float(np.mean([_cpu_seconds(one.work, lr) for lr in one.slices]))
            least[name] = min(least[name], spent)
    return least


def _eager(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(lr: Tensor) -> Tensor:
        with torch.no_grad():
            return net(lr)

    return run


def _skipping(engine: "Callable[[Tensor], Tensor] | Engine") -> Callable[[Tensor], Tensor]:
    """The part of a slice that upscaling gives to the network."""

    def run(lr: Tensor) -> Tensor:
        box = body_roi(DEFAULT_RANGE.to_hu(lr[0, 0].numpy()).astype(np.float32))
        assert box is not None
        return engine(lr[(..., *box.part)].contiguous())

    return run


def _chest(folder: Path) -> tuple[str, list[Tensor]]:
    """A patient, and LR slices spread over a chest series: real CT where it is at hand, else a phantom."""
    patients = scan(exams(folder)).usable
    chosen = next((one for one in patients if one.patient_id == CHEST), patients[0])
    series = chosen.series[0]
    places = np.linspace(0.2, 0.8, SERIES_SLICES) * (len(series.slices) - 1)
    slices = [read_slice(series, int(place)).hu for place in places]
    pairs = degraded_pairs(slices, Degradation(), DEFAULT_RANGE)
    return chosen.patient_id, [pair.lr[..., :SIDE, :SIDE].contiguous() for pair in pairs]


def _cpu_seconds(work: "Callable[[Tensor], Tensor] | Engine", lr: Tensor) -> float:
    work(lr)  # OpenVINO compiles for a size at first
    started = _used()
    work(lr)
    return _used() - started


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _programs(folder: Path) -> None:
    """Whole programs: peak resident memory, and time outside the network."""
    small = _model(folder, "small.pth", Architecture("rrdb", 2, nf=8, nb=1, gc=4))
    peaks = {count: _run(folder, small, count=count, side=128).peak for count in (20, 1000)}
    shown = ", ".join(f"{count} slices: {peak / 2**20:.0f} MiB" for count, peak in peaks.items())
    print(f"ctsr upscale, {shown}  (target: the same)", flush=True)
    full = _run(folder, _model(folder, "full.pth", FULL), count=2, side=512)
    print(f"ctsr upscale, full network on 512²: {full.peak / 1e9:.2f} GB  (target: under 1.5)")
    print(f"ctsr upscale, full network on 512²: {100 * full.outside:.1f} % outside the network  (target: under 5)")
    own = _run(folder, "ctsr-x2", count=100, side=512)
    print(f"ctsr upscale, ctsr-x2 on 512²: {own.wall / 100:.2f} s a slice, {own.peak / 1e9:.2f} GB")
    print(f"ctsr upscale, ctsr-x2 on 512²: {100 * own.outside:.1f} % outside the network  (target: none)")


@dataclass(frozen=True)
class _Ran:
    """A whole `ctsr upscale`."""

    peak: float
    """Bytes resident at most."""
    wall: float
    """Seconds from reading the first slice to checking the last: starting and loading take the same for any series."""
    network: float
    """Seconds of those with the network at work."""

    @property
    def outside(self) -> float:
        return 1 - self.network / self.wall


def _model(folder: Path, name: str, architecture: Architecture) -> Path:
    """A checkpoint of a fresh network, converted already: that is done once in a network's life."""
    torch.manual_seed(0)
    net = build(architecture).eval()
    degradation = Degradation(scale=architecture.scale).as_dict()
    meta = Meta("benchmark", architecture, 0, degradation, {}, versions=current_versions())
    save_checkpoint(folder / name, Checkpoint(meta, net.state_dict()))
    converted(net, folder / "cache" / "ctsr" / "engines")
    return folder / name


def _run(folder: Path, model: Path | str, *, count: int, side: int) -> _Ran:
    """`ctsr upscale` on a series of so many slices."""
    source, out = folder / f"{count}x{side}", folder / f"{count}x{side}-sr"
    subprocess.run([sys.executable, "-m", "benchmarks.series", source, str(count), str(side)], check=True)
    command = [sys.executable, "-c", TELLING_PEAK, "upscale", source, out, "--model_path", model, "--no_skip_air"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds = json.loads((out / "run.json").read_text(encoding="utf-8"))["seconds"]
    shutil.rmtree(out)
    return _Ran(1024 * float(done.stdout.splitlines()[-1]), seconds["wall"], seconds["network"])
