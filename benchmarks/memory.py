"""Memory of training's data side, on a set and on one ten times larger."""

import gc
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import workspace
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import PatchDataset, Ticket
from ctsr.degrade import Degradation
from ctsr.hu import DEFAULT_RANGE, body_blocks

SERIES, SLICES, SIZE, BATCH = 4, 40, 512, 10
STEPS = 160
"""Enough to see every slice of the larger set; as many on the smaller one, as allocators breathe."""


def run() -> None:
    """Bytes that belong to the process alone.

    Pages of mapped files are not among them: they are the system's cache, and given up when it needs the room.
    """
    # Blocks that were freed go back to the system at once: live memory is measured, not what glibc keeps for later.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with workspace() as folder:
        for times in (1, 10):
            series = [_series(folder / f"{times}-{i}", i) for i in range(SERIES * times)]
            size = sum(one.hu.nbytes for one in series)
            # A process of its own, so that what making the series has left behind is not counted.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                grown = pool.submit(_grown, series).result()
            print(f"training data: {size / 2**20:7.0f} MiB of slices, {grown / 2**20:6.1f} MiB more than at rest")


def _grown(series: list[StoredSeries]) -> int:
    torch.set_num_threads(1)
    start = _private_bytes()
    return _most(series) - start


def _most(series: list[StoredSeries]) -> int:
    patches = PatchDataset(series, patch_size=192, degradation=Degradation(), hu_range=DEFAULT_RANGE, seed=0)
    peak = 0
    for step in range(STEPS):
        patches.__getitems__([Ticket(step, (step * BATCH + i) % len(patches)) for i in range(BATCH)])
        peak = max(peak, _private_bytes())
    return peak


def _private_bytes() -> int:
    """What the kernel counts as the process's own; only Linux tells."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def _series(folder: Path, number: int) -> StoredSeries:
    folder.mkdir(parents=True)
    hu = np.random.default_rng(number).integers(-100, 200, (SLICES, SIZE, SIZE), dtype=np.int16)
    np.save(folder / "hu.npy", hu)
    np.save(folder / "body.npy", np.stack([body_blocks(image) for image in hu]))
    blank = StoredSeries(
        folder, f"P{number}", f"1.{number}", (), (), SIZE, SIZE, (0.8, 0.8), slice_thickness=1.0, kernel="", scanner=""
    )
    return replace(
        blank, identities=tuple(f"1.{number}.{i}" for i in range(SLICES)), z_mm=tuple(map(float, range(SLICES)))
    )
