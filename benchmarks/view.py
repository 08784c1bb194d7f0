"""The viewer in a real browser, with the full network computing behind it: what a reader waits for."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.common import workspace
from ctsr.checkpoint import Checkpoint, Meta, save_checkpoint
from ctsr.degrade import Degradation
from ctsr.models import Architecture, build
from ctsr.nifti import save_volume
from ctsr.volume import Grid

REALTIME = "CTSR_REALTIME"
"""Environment variable; see `_undisturbed`."""
SIZE, SLICES = 512, 300
CACHE_MB, SMALL_CACHE_MB = 256, 48
STEPS, DRAG_S, LOADS = 40, 3.0, 5
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")

SHOWN = """() => {
  const panes = (window.ctsr?.known.geometry && window.ctsr.stage.panes) || [];
  return panes.length && panes.filter((pane) => pane.images[0] !== 'SR').every((pane) => pane.shown[0]);
}"""
STEP = """async () => {
  const {view, stage, moveTo, store} = window.ctsr;
  const index = view.cursor[0] + 1;
  const wanted = stage.panes.filter((pane) => pane.kind === 'image' && pane.images[0] !== 'SR');
  const shows = (pane) => pane.shown[0]?.request.index === index;
  const begun = performance.now();
  moveTo('axial', index);
  while (!wanted.every(shows)) await new Promise(requestAnimationFrame);
  return performance.now() - begun;
}"""
LOUPE = "() => window.ctsr.change({loupe: true, corners: true, hover: {plane: 'axial', x: 100, y: 100}})"
DRAG = """async (seconds) => {
  const {change, stage} = window.ctsr;
  const panes = stage.panes.filter((pane) => pane.shown[0]).length;
  let frames = 0;
  const begun = performance.now();
  while (performance.now() - begun < 1000 * seconds) {
    change({center: 40 + frames % 200, width: 400 + 2 * (frames % 300)});
    await new Promise(requestAnimationFrame);  // comes after the drawing, which was asked for before it
    frames += 1;
  }
  return [panes, 1000 * frames / (performance.now() - begun)];
}"""


def run() -> None:
    """Medians and slowest tenths, with loupe and text on; the machine's other work is part of them, and is named."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("view: not measured, there is no chromium here (Debian package chromium)")
        return
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{_processor()}, {cores} cores, {load:.1f} processes running or waiting before the start", flush=True)
    if REALTIME in os.environ:
        print("slice steps and window drags: viewer and browser before all other work (SCHED_RR)", flush=True)
    with workspace() as folder, sync_playwright() as started:
        volume, model = _volume(folder), _full_network(folder)
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(300_000)
        with _viewer(volume, model, folder) as viewer:
            _report("address printed, series not decoded yet", viewer.seconds, "s", "")
            _report("first picture, decoding the series", _load(page, viewer.address), "s", "under 3")
        with _viewer(volume, model, folder) as viewer:
            _report("address printed", viewer.seconds, "s", "")
            loads = [_load(page, viewer.address) for _ in range(LOADS)]
            _report("first picture", statistics.median(loads), "s", "under 3")
            page.evaluate(LOUPE)
            with _undisturbed():
                steps = [float(page.evaluate(STEP)) for _ in range(STEPS)]
            _report("slice step, LR, interpolations and HR", statistics.median(steps), "ms", "")
            _report("slice step, 90th percentile", statistics.quantiles(steps, n=10)[-1], "ms", "under 60")
            begun = time.perf_counter()
            page.wait_for_function("() => window.ctsr.stage.panes.every((pane) => pane.shown[0])")
            _report("SR of the slice in sight, full network", time.perf_counter() - begun, "s", "")
            with _undisturbed():
                panes, rate = page.evaluate(DRAG, DRAG_S)
            _report(
                f"window drag, {panes} panels with loupe and text, SR computed behind", rate, "frames/s", "at least 30"
            )
            _report(f"memory with the full network, --cache_mb {CACHE_MB}", viewer.grown_mib(), "MiB", "")
        with _viewer(volume, None, folder) as viewer:
            _load(page, viewer.address)
            page.keyboard.press("c")  # needs every slice of LR, which is more than the cache holds
            page.wait_for_function("() => document.getElementById('progress').textContent.includes('cache is full')")
            for _ in range(STEPS):
                page.evaluate(STEP.replace("axial", "coronal").replace("cursor[0]", "cursor[1]"))
            _report(f"memory without a network, --cache_mb {SMALL_CACHE_MB}", viewer.grown_mib(), "MiB", "")
        browser.close()


@dataclass(frozen=True)
class _Viewer:
    process: subprocess.Popen[str]
    address: str
    seconds: float
    rest: int

    def grown_mib(self) -> float:
        """What became the process's own since it began to listen; files that are mapped are not among it."""
        return (_private_bytes(self.process.pid) - self.rest) / 2**20


@contextmanager
def _viewer(volume: Path, model: Path | None, folder: Path) -> Generator[_Viewer]:
    network = ["--model_path", model, "--cache_mb", CACHE_MB] if model else ["--no_model", "--cache_mb", SMALL_CACHE_MB]
    flags = [*map(str, network), "--no_browser", "--store", str(folder / "store")]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ctsr"), "view", volume, *flags], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = next(line for line in process.stderr if line.startswith("Viewer: "))
    yield _Viewer(process, line.split()[1], time.perf_counter() - begun, _private_bytes(process.pid))
    process.terminate()
    process.wait()


def _load(page: Page, address: str) -> float:
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_function(SHOWN)
    return time.perf_counter() - begun


@contextmanager
def _undisturbed() -> Generator[None]:
    """With `REALTIME` set, by root: viewer and browser run before all other work on the machine, for some seconds."""
    if REALTIME not in os.environ:
        yield
        return
    _schedule(os.SCHED_RR, 1)
    yield
    _schedule(os.SCHED_OTHER, 0)


def _schedule(policy: int, priority: int) -> None:
    for process in psutil.Process().children(recursive=True):
        for thread in process.threads():
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread.id, policy, os.sched_param(priority))


def _report(what: str, value: float, unit: str, target: str) -> None:
    print(f"{what:<44} {value:8.2f} {unit:<9}" + (f" (target: {target})" if target else ""), flush=True)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor unknown"
    )


def _private_bytes(pid: int) -> int:
    """What the kernel counts as the process's own; only Linux tells."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def _volume(folder: Path) -> Path:
    """Textured discs in air."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    inside = rows**2 + columns**2 < 0.7
    texture = rng.normal(40, 60, (SIZE, SIZE))
    hu = np.stack([np.where(inside, np.roll(texture, 3 * i, axis=0), -1000) for i in range(SLICES)]).astype(np.int16)
    grid = Grid(hu.shape, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    save_volume(folder / "series.nii", hu, grid, slope=1.0, intercept=0.0)
    return folder / "series.nii"


def _full_network(folder: Path) -> Path:
    """The default architecture with random weights: as slow as a trained one."""
    architecture = Architecture("rrdb", 2, nf=64, nb=23, gc=32)
    meta = Meta("rrdb_x2_blurnoise", architecture, seed=0, degradation=Degradation().as_dict(), split={})
    save_checkpoint(folder / "full.pth", Checkpoint(meta, build(architecture).state_dict()))
    return folder / "full.pth"


if __name__ == "__main__":
    run()
