"""`python -m benchmarks [NAME …]`: run the benchmarks named, or all of them."""

import sys

from benchmarks import evaluation, finetune, memory, patches, preprocess, quality, startup, training, upscale, view

BENCHMARKS = {
    "startup": startup.run,
    "patches": patches.run,
    "preprocess": preprocess.run,
    "training": training.run,
    "finetune": finetune.run,
    "memory": memory.run,
    "evaluation": evaluation.run,
    "view": view.run,
    "upscale": upscale.run,
    "quality": quality.run,
}


def main() -> int:
    """Exit status: 2 for a name that is none."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names:
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
