"""`python -m benchmarks [NAME …]`: run the benchmarks named, or all of them."""

import sys

from benchmarks import memory, patches, preprocess, startup, training, upscale

BENCHMARKS = {
    "startup": startup.run,
    "patches": patches.run,
    "preprocess": preprocess.run,
    "training": training.run,
    "memory": memory.run,
    "upscale": upscale.run,
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
