"""`python -m benchmarks.conditional CT FOLDER`: networks that are told blur and noise against networks that are not.

Each of `SIZES` trains twice with each seed, once conditional and once blind, as `recipes/ctsr-x2.train.yaml` says but
for the length: the same patches in the same order, on one thread. Two more channels into the first convolution are all
that being told costs, so equal steps are equal time. They are judged on the validation patient alone, by what LR is
made with; conditional ones told what was drawn, and told what is measured in each image. Results are kept in FOLDER: a
comparison that is cut off goes on where it was.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from recipes.train import ROOTS

from benchmarks.common import degradations
from benchmarks.race import JUDGED, RECIPE, SHORT, CpuClock
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, ModelUnderTest, load_model_under_test
from ctsr.files import write_json
from ctsr.train import TrainOptions, from_plain
from ctsr.train.run import train

SIZES = ((32, 4), (48, 6))
"""Channels and residual blocks."""
BLIND, DRAWN, ESTIMATED = "blind", "told what was drawn", "told what is measured"


@dataclass(frozen=True)
class Judged:
    """One network under one degradation."""

    size: str
    told: str
    seed: int
    cpu_minutes: float
    steps: int
    degradation: str
    psnr_gain: float
    """dB over bicubic, HU −1000 … 2000, on the patient's own grid."""


@dataclass(frozen=True)
class Comparison:
    """What is trained on, how long, and where results are kept."""

    roots: tuple[Path, ...]
    store: Path
    folder: Path
    epochs: int

    def options(self, size: tuple[int, int], seed: int, *, conditional: bool) -> TrainOptions:
        """The recipe, for one network."""
        recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
        values: dict[str, Any] = from_plain(TrainOptions, recipe) | SHORT
        values |= {"nf": size[0], "nb": size[1], "seed": seed, "epochs": self.epochs, "conditional": conditional}
        return TrainOptions(**values, runs=self.folder / "runs", data_root=self.roots, store=self.store, device="cpu")

    def run(self, size: tuple[int, int], seed: int, *, conditional: bool) -> list[Judged]:
        """Train, then judge."""
        clock = CpuClock()
        trained = train(self.options(size, seed, conditional=conditional), progress=clock)
        model = load_model_under_test(str(trained.best), device="cpu")
        kinds = {DRAWN: "drawn", ESTIMATED: "estimated"} if conditional else {BLIND: "drawn"}
        return [
            Judged(f"{size[0]} × {size[1]}", told, seed, clock.minutes, trained.state.global_step, name, gain)
            for told, conditions in kinds.items()
            for name, gain in self.judge(model, conditions).items()
        ]

    def judge(self, model: ModelUnderTest, conditions: str) -> dict[str, float]:
        """Degradation → PSNR over bicubic on the validation patient, dB."""
        options = EvaluateOptions(
            root=self.roots,
            split="val",
            max_slices_per_patient=JUDGED,
            lpips="none",
            no_plots=True,
            store=self.store,
            output_dir=self.folder / "judged",
            conditions=conditions,
        )
        gains: dict[str, float] = {}
        for name, degradation in degradations(model.degradation).items():
            means = evaluate((model,), degradation, options).means
            (ours,) = (means[method]["PSNR"].mean for method in means if method.startswith("Model"))
            gains[name] = _known(ours) - _known(means[BICUBIC]["PSNR"].mean)
        return gains


def compare(comparison: Comparison, seeds: Sequence[int]) -> list[Judged]:
    """All networks; those that FOLDER has results of are not trained again."""
    kept = comparison.folder / "results.json"
    results = [Judged(**row) for row in json.loads(kept.read_text(encoding="utf-8"))] if kept.is_file() else []
    for seed in seeds:
        for size in SIZES:
            for conditional in (True, False):
                told = DRAWN if conditional else BLIND
                if any((r.size, r.told, r.seed) == (f"{size[0]} × {size[1]}", told, seed) for r in results):
                    continue
                print(f"{size[0]} × {size[1]}, {told}, seed {seed}", flush=True)
                results += comparison.run(size, seed, conditional=conditional)
                write_json(kept, [asdict(row) for row in results])
    return results


def table(results: Sequence[Judged]) -> str:
    """Markdown: a row for each network and what it is told, the seeds' mean and half their difference."""
    names = list(dict.fromkeys(row.degradation for row in results))
    lines = [
        f"| channels × blocks | told | CPU min | steps | {' | '.join(names)} |",
        "|---|---|" + "---:|" * (2 + len(names)),
    ]
    for size, told in dict.fromkeys((row.size, row.told) for row in results):
        rows = [row for row in results if (row.size, row.told) == (size, told)]
        cells = [_gain([row.psnr_gain for row in rows if row.degradation == name]) for name in names]
        minutes = statistics.mean(row.cpu_minutes for row in rows)
        steps = statistics.mean(row.steps for row in rows)
        lines.append(f"| {size} | {told} | {minutes:.1f} | {steps:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _known(value: float | None) -> float:
    assert value is not None, "a mean over slices of real CT exists"
    return value


def _gain(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):+.2f} ± {(max(values) - min(values)) / 2:.2f}"


def main() -> None:
    """Compare on the roots in CT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder with the roots of recipes.train")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives everything")
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43], help="of the weights and the patches")
    given = parser.parse_args()
    torch.set_num_threads(1)
    comparison = Comparison(
        roots=tuple(given.ct / root for root in ROOTS),
        store=given.folder / "store",
        folder=given.folder,
        epochs=given.epochs,
    )
    results = compare(comparison, given.seeds)
    (given.folder / "conditional.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
