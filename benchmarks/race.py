"""`python -m benchmarks.race CT FOLDER`: small networks against each other, on equal CPU time.

Each contestant trains as `recipes/ctsr-x2.train.yaml` says, on one thread, for as many epochs as fit into the budget by
a measured first epoch, so that its cosine ends with its time. The two that come closest to the top run again with other
seeds. They are judged on the validation patient alone; the test patients stay unread. Results are kept in FOLDER: a
race that is cut off goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from recipes.train import ROOTS
from torch import nn

from ctsr.checkpoint import load_model
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, ModelUnderTest
from ctsr.files import write_json
from ctsr.infer.engine import OpenvinoEngine, converted
from ctsr.models import Architecture, build
from ctsr.models.conditioning import input_channels
from ctsr.models.profile import profile
from ctsr.reporting import Silent
from ctsr.train import TrainOptions, from_plain
from ctsr.train.run import train

RECIPE = Path("recipes/ctsr-x2.train.yaml")
RESAMPLED = "resampled"
"""Where FOLDER holds what is in CT at 0.8 mm."""
MINUTES = 6.25
"""CPU time of each training."""
SEEDS = (42, 43, 44)
FINALISTS = 2
SHORT = {"patches_per_slice": 1, "val_slices": 1, "ema": 0.99}
"""What a short training does otherwise than the recipe: epochs and average of fewer steps."""
CONTESTANTS = {
    "edsr, width 32": ("edsr", 32, 6, 1),
    "edsr, width 64": ("edsr", 64, 2, 1),
    "rrdb_skip": ("rrdb_skip", 24, 1, 12),
    "plain": ("plain", 48, 6, 1),
}
"""Architecture, nf, nb, gc."""
MOST_SECONDS = 0.6
"""That a slice may take; see `seconds_on_two_cores`."""
JUDGED = 16
"""Slices of the validation patient in each root."""


@dataclass(frozen=True)
class Result:
    """One training and its verdict."""

    name: str
    seed: int
    parameters: int
    gmac: float
    """Of a slice of 512²."""
    engine_s: float
    cpu_minutes: float
    steps: int
    psnr_gain_native: float
    """dB over bicubic, HU −1000 … 2000, on the patient's own grid."""
    psnr_gain_resampled: float
    """The same at 0.8 mm."""
    mae_hu: float
    """Mean of both."""
    bias_hu: float
    """The larger of both, with its sign."""


class CpuClock(Silent):
    """Takes the CPU time between the first step and the end of the last epoch."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0

    def note(self, message: str) -> None:
        """Look at the clock where training says that it begins, and where an epoch ends."""
        if message.startswith("run folder"):
            self.started = time.process_time()
        elif message.startswith("epoch "):
            self.ended = time.process_time()
            print(f"    {message}", flush=True)

    @property
    def minutes(self) -> float:
        """CPU minutes of all epochs."""
        return (self.ended - self.started) / 60


@dataclass(frozen=True)
class Track:
    """Where the race takes place."""

    native: tuple[Path, ...]
    resampled: tuple[Path, ...]
    folder: Path

    def options(self, name: str, seed: int, epochs: int, runs: Path) -> TrainOptions:
        """The recipe, for one contestant."""
        arch, nf, nb, gc = CONTESTANTS[name]
        recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
        values: dict[str, Any] = from_plain(TrainOptions, recipe) | SHORT
        values |= {"arch": arch, "nf": nf, "nb": nb, "gc": gc, "seed": seed, "epochs": epochs, "runs": runs}
        store = self.folder / "store"
        return TrainOptions(**values, data_root=self.native + self.resampled, store=store, device="cpu")

    def run(self, name: str, seed: int, engine_s: float) -> Result:
        """Train for the budget, then judge."""
        clock = CpuClock()
        train(self.options(name, seed, 1, self.folder / "warm-up"), progress=clock)
        epochs = max(1, round(MINUTES / clock.minutes))
        clock = CpuClock()
        trained = train(self.options(name, seed, epochs, self.folder / "runs"), progress=clock)
        native, resampled = (self.judge(trained.best, roots) for roots in (self.native, self.resampled))
        cost = profile(_architecture(name), (512, 512))
        return Result(
            name=name,
            seed=seed,
            parameters=cost.parameters,
            gmac=cost.macs / 1e9,
            engine_s=engine_s,
            cpu_minutes=clock.minutes,
            steps=trained.state.global_step,
            psnr_gain_native=native["gain"],
            psnr_gain_resampled=resampled["gain"],
            mae_hu=(native["mae"] + resampled["mae"]) / 2,
            bias_hu=max(native["bias"], resampled["bias"], key=abs),
        )

    def judge(self, checkpoint: Path, roots: tuple[Path, ...]) -> dict[str, float]:
        """PSNR over bicubic, mean absolute error and bias on the validation patient."""
        model = ModelUnderTest(load_model(checkpoint), torch.device("cpu"))
        options = EvaluateOptions(
            root=roots,
            split="val",
            max_slices_per_patient=JUDGED,
            lpips="none",
            no_plots=True,
            store=self.folder / "store",
            output_dir=self.folder / "judged",
        )
        evaluation = evaluate((model,), model.degradation, options)
        ours, bicubic = (evaluation.means[name] for name in (*evaluation.model_methods, BICUBIC))
        found = {
            "gain": (ours["PSNR"].mean, bicubic["PSNR"].mean),
            "mae": (ours["MAE_HU"].mean, 0.0),
            "bias": (ours["BIAS_HU"].mean, 0.0),
        }
        return {key: _number(one) - _number(other) for key, (one, other) in found.items()}


def seconds_on_two_cores(net: nn.Module, cache: Path) -> float:
    """What OpenVINO takes on two cores for 512² → 1024² in fp32.

    Half the CPU time of its two threads, the least of several: it does not matter what else the machine is doing.
    """
    engine = OpenvinoEngine(converted(net, cache), threads=2)
    image = torch.zeros(1, input_channels(net), 512, 512)
    engine(image)
    found: list[float] = []
    for _ in range(8):
        started = time.process_time()
        engine(image)
        found.append((time.process_time() - started) / 2)
    return min(found)


def race(track: Track) -> list[Result]:
    """All contestants that are fast enough, then the finalists' other seeds."""
    kept = track.folder / "results.json"
    results = [Result(**row) for row in json.loads(kept.read_text(encoding="utf-8"))] if kept.is_file() else []
    cache = track.folder / "engines"
    seconds = {name: seconds_on_two_cores(build(_architecture(name)), cache) for name in CONTESTANTS}

    def ensure(name: str, seed: int) -> None:
        if not any((one.name, one.seed) == (name, seed) for one in results):
            print(f"{name}, seed {seed}: {seconds[name]:.2f} s a slice", flush=True)
            results.append(track.run(name, seed, seconds[name]))
            write_json(kept, [asdict(one) for one in results])
            print(_line(results[-1]), flush=True)

    for name, needed in seconds.items():
        if needed > MOST_SECONDS:
            print(f"{name} does not race: {needed:.2f} s a slice, more than {MOST_SECONDS}", flush=True)
        else:
            ensure(name, SEEDS[0])
    best = finalists(results)
    for seed in SEEDS[1:]:
        for name in best:
            ensure(name, seed)
    return results


def finalists(results: Sequence[Result]) -> list[str]:
    """The best of the first seed."""
    first = [one for one in results if one.seed == SEEDS[0]]
    ranked = sorted(first, key=lambda one: one.psnr_gain_native + one.psnr_gain_resampled, reverse=True)
    return [one.name for one in ranked[:FINALISTS]]


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    head = (
        "| network | seed | parameters | GMAC | s a slice | CPU min | steps "
        "| dB over bicubic, native | at 0.8 mm | MAE, HU | bias, HU |"
    )
    rule = "|---|" + "---:|" * 10
    return "\n".join([head, rule, *map(_line, sorted(results, key=lambda one: (one.name, one.seed)))])


def _line(r: Result) -> str:
    return (
        f"| {r.name} | {r.seed} | {r.parameters} | {r.gmac:.1f} | {r.engine_s:.2f} | {r.cpu_minutes:.1f} | {r.steps} "
        f"| {r.psnr_gain_native:+.2f} | {r.psnr_gain_resampled:+.2f} | {r.mae_hu:.2f} | {r.bias_hu:+.2f} |"
    )


def _architecture(name: str) -> Architecture:
    arch, nf, nb, gc = CONTESTANTS[name]
    return Architecture(arch, 2, nf, nb, gc)


def _number(value: float | None) -> float:
    assert value is not None, "a mean over slices of real CT exists"
    return value


def main() -> None:
    """Race on the roots in ``CT`` and their resampled twins in ``FOLDER/resampled``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder with the roots of recipes.train")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives everything; `make bundled-data` fills it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    track = Track(
        native=tuple(given.ct / root for root in ROOTS),
        resampled=tuple(given.folder / RESAMPLED / root for root in ROOTS),
        folder=given.folder,
    )
    results = race(track)
    (given.folder / "race.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
