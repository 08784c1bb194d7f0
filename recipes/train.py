"""`python -m recipes.train MODEL CT FOLDER`: train a bundled model step by step, or go on where that was cut off.

CT holds the roots `patients` and `singles`, FOLDER/resampled the same at 0.8 mm (`make bundled-data`). Every step is a
`ctsr` command, shown before it runs; its flags are those of `recipes/<model>.<verb>.yaml`. The last line names the
result.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
ROOTS = ("patients", "singles")


@dataclass(frozen=True)
class Step:
    """One command on the way to a model."""

    verb: Literal["train", "finetune", "blend"]
    start: str | None = None
    """Another bundled model whose result it starts from; None for the step before it."""
    alpha: float = 1.0
    """Of a blend: how much of the step before is wanted, the rest being what that started from."""


STEPS: Mapping[str, Sequence[Step]] = {
    "ctsr-x2": (Step("train"),),
    "ctsr-x4": (Step("train"),),
    "ctsr-x2-sharp": (Step("finetune", start="ctsr-x2"), Step("blend", start="ctsr-x2", alpha=0.75)),
}


@dataclass(frozen=True)
class Workshop:
    """Where images are and runs go."""

    ct: Path
    folder: Path

    def result(self, model: str, steps: int | None = None) -> Path:
        """The checkpoint that a model's first so many steps lead to; all of them when left out."""
        *_, last = STEPS[model][:steps]
        place = self.folder / model / last.verb
        return place / "best.pth" if last.verb == "blend" else _run_in(place) / "best.pth"

    def make(self, model: str) -> Path:
        """Every step that is not done yet."""
        for number, step in enumerate(STEPS[model]):
            before = self.result(step.start) if step.start else self.result(model, number) if number else None
            place = self.folder / model / step.verb
            if step.verb == "blend":
                made = self.result(model, number)
                _ctsr("blend", before, made, "--alpha", step.alpha, "--out", place / "best.pth", "--overwrite")
            else:
                self._learn(model, step.verb, place, before)
        return self.result(model)

    def _learn(self, model: str, verb: str, place: Path, before: Path | None) -> None:
        here = ("--device", "cpu", "--store", self.folder / "store")
        if any(place.glob("*/last.pth")):
            _ctsr(verb, "--resume", _run_in(place), *here)
            return
        roots = [kind / root for kind in (self.ct, self.folder / "resampled") for root in ROOTS]
        start = ("--pretrained_g", before) if before else ()
        config = HERE / f"{model}.{verb}.yaml"
        _ctsr(verb, "--config", config, *start, "--data_root", *roots, "--runs", place, *here)


def _run_in(place: Path) -> Path:
    found = sorted(one.parent for one in place.glob("*/last.pth"))
    if not found:
        sys.exit(f"{place} holds no run: train what it starts from first")
    return found[-1]


def _ctsr(*words: object) -> None:
    line = [str(word) for word in words]
    print("ctsr", *line, flush=True)
    # One thread: what it costs is then the same everywhere, and so are the bits.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "ctsr", *line], check=False, env=environment)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Make the model, or put what was made into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=STEPS, metavar="MODEL", help=", ".join(STEPS))
    parser.add_argument("ct", type=Path, metavar="CT", help="folder with the roots patients and singles")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives everything")
    parser.add_argument("--bundle", action="store_true", help="put what was made into the package, with its card")
    given = parser.parse_args()
    workshop = Workshop(given.ct, given.folder)
    if given.bundle:
        made, card = workshop.result(given.model), f"docs/models/{given.model}.md"
        target = f"src/ctsr/bundled/{given.model}.safetensors"
        _ctsr("export", target, "--model_path", made, "--card", card, "--overwrite")
    else:
        print(workshop.make(given.model))


if __name__ == "__main__":
    main()
