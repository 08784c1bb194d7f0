"""`python -m recipes.train MODEL CT FOLDER`: train a bundled model, or go on where that was cut off.

CT holds the roots of `ROOTS`. The training is a `ctsr train` with the flags of `recipes/<model>.train.yaml`, shown
before it runs. The last line names the result.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOTS = ("patients", "singles", "more", "thin")
"""Folders of CT with one folder per patient; those that are missing are an error."""
MODELS = tuple(sorted(path.name.removesuffix(".train.yaml") for path in HERE.glob("*.train.yaml")))


def train(model: str, ct: Path, folder: Path) -> Path:
    """Train a model, or continue its training; the checkpoint of its best epoch."""
    runs = folder / model
    here = ("--device", "cpu", "--store", folder / "store")
    if any(runs.glob("*/last.pth")):
        _ctsr("train", "--resume", run_in(runs), *here)
    else:
        roots = [ct / root for root in ROOTS]
        config = HERE / f"{model}.train.yaml"
        _ctsr("train", "--config", config, "--data_root", *roots, "--runs", runs, *here)
    return run_in(runs) / "best.pth"


def bundle(model: str, folder: Path) -> None:
    """Put a trained model and its card into the package."""
    target = f"src/ctsr/bundled/{model}.safetensors"
    card = f"docs/models/{model}.md"
    made = run_in(folder / model) / "best.pth"
    _ctsr("export", target, "--model_path", made, "--card", card, "--overwrite")


def run_in(runs: Path) -> Path:
    """The newest run folder of `runs`."""
    found = sorted(path.parent for path in runs.glob("*/last.pth"))
    if not found:
        sys.exit(f"{runs} holds no run: train the model first")
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
    """Train the model, or put what was trained into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS, metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("ct", type=Path, metavar="CT", help=f"folder with the roots {', '.join(ROOTS)}")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives everything")
    parser.add_argument("--bundle", action="store_true", help="put what was trained into the package, with its card")
    given = parser.parse_args()
    if given.bundle:
        bundle(given.model, given.folder)
    else:
        print(train(given.model, given.ct, given.folder))


if __name__ == "__main__":
    main()
