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
from typing import Literal, TypeAlias

HERE = Path(__file__).parent
ROOTS = ("patients", "singles")


Verb: TypeAlias = Literal["train", "finetune"]
STEPS: Mapping[str, Sequence[Verb]] = {"ctsr-x2": ("train",), "ctsr-x4": ("train",)}
"""The commands that lead to each model, each from what the one before it made."""


@dataclass(frozen=True)
class Workshop:
    """Where images are and runs go."""

    ct: Path
    folder: Path

    def result(self, model: str, steps: int | None = None) -> Path:
        """The checkpoint that a model's first so many steps lead to; all of them when left out."""
        *_, verb = STEPS[model][:steps]
        return _run_in(self.folder / model / verb) / "best.pth"

    def make(self, model: str) -> Path:
        """Every step that is not done yet."""
        for number, verb in enumerate(STEPS[model]):
            self._learn(model, verb, self.result(model, number) if number else None)
        return self.result(model)

    def _learn(self, model: str, verb: Verb, before: Path | None) -> None:
        place, here = self.folder / model / verb, ("--device", "cpu", "--store", self.folder / "store")
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
