"""Sizes of real results by `ctsr upscale --compress none|rle|jpegls|htj2k`, and the time that compression takes.

    python -m benchmarks.compression SERIES... [--slices a:b]

Each series is super-resolved once by `ctsr upscale`; the slices of that result are then compressed by each method, as
`--compress` does before it writes them. A browser's viewer holds a few hundred MB, hence the column for 400 slices.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from ctsr.dicom.encode import SYNTAXES, Compression, compress
from ctsr.dicom.write import save_slice

METHODS: tuple[Compression, ...] = ("none", *SYNTAXES)
SLICES = "10:20"
"""Of each series, unless others are named."""
LONG_SERIES = 400
MB = 1e6


@dataclass(frozen=True)
class Measured:
    """One method on one result."""

    method: Compression
    num_bytes: int
    seconds: float
    """To encode, compare and write, a slice."""


def main(arguments: Sequence[str]) -> int:
    """Print a table for each series."""
    series, slices = list(arguments), SLICES
    if "--slices" in series:
        place = series.index("--slices")
        slices = series[place + 1]
        del series[place : place + 2]
    if not series:
        print(__doc__, file=sys.stderr)
        return 2
    for source in series:
        with tempfile.TemporaryDirectory(prefix="ctsr-bench-") as folder:
            result = Path(folder) / "result"
            command = [sys.executable, "-m", "ctsr", "upscale", source, str(result), "--slices", slices, "--no_picture"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            files = sorted(result.glob("*.dcm"))
            _show(Path(source).name, len(files), [_measured(files, method) for method in METHODS])
    return 0


def _measured(files: Sequence[Path], method: Compression) -> Measured:
    num_bytes, started = 0, time.perf_counter()
    for path in files:
        dataset = dcmread(path)
        compress(dataset, method)
        compressed = path.with_suffix(f".{method}")
        save_slice(dataset, compressed)
        num_bytes += compressed.stat().st_size
        compressed.unlink()
    return Measured(method, num_bytes, (time.perf_counter() - started) / len(files))


def _show(name: str, count: int, found: Sequence[Measured]) -> None:
    print(f"{name}: {count} slices")
    for measured in found:
        a_slice = measured.num_bytes / count / MB
        ratio = found[0].num_bytes / measured.num_bytes
        long = f"{LONG_SERIES * a_slice:5.0f} MB for {LONG_SERIES} slices"
        print(f"  {measured.method:7} {a_slice:5.2f} MB a slice  ÷{ratio:5.2f}  {measured.seconds:.3f} s  {long}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
