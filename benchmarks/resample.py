"""`ctsr preprocess` as a program that times itself. ROOT OUT; prints the seconds."""

import sys
import time
from pathlib import Path

from ctsr.preprocess import preprocess

if __name__ == "__main__":
    started = time.perf_counter()
    preprocess(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
    print(time.perf_counter() - started)
