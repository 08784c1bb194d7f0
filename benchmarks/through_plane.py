"""`python -m benchmarks.through_plane ROOT …`: thin slices from thick ones, beside interpolation along z, as Markdown.

The table of `ctsr evaluate --through_plane` for the five cases of the bounds, with PSNR, SSIM, LPIPS, HU and tissues of
every series below each ROOT that is thin enough; results and pictures go to OUT. Where both are wanted, are slices
better made finer in plane first or between slices first? `--order` measures that (docs/decisions/, number 19).
"""

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

import ctsr
from ctsr.checkpoint import find_model
from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL
from ctsr.cli.console import Console
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import load_model_under_test
from ctsr.evaluate.through_plane import evaluate_through_plane, method_figures, series_section
from ctsr.infer import EngineRequest, choose_engine, open_engine
from ctsr.padding import SlicePixels
from ctsr.through_plane import THIN_ENOUGH, SliceGrid, SliceProfile, thicken
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver

CASES = ((3.0, 3.0), (5.0, 5.0), (5.0, 3.0), (2.5, 2.5), (4.0, 4.0))
"""Thickness and distance, mm."""
MIDDLE = 192
"""Pixels along each side of the part of a series on which orders are compared."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="*", metavar="ROOT", help="folders of patients")
    parser.add_argument("--model", default=DEFAULT_SLICE_MODEL, help="bundled model, run folder or checkpoint")
    parser.add_argument("--case", type=float, nargs=2, action="append", metavar=("T", "D"), help="mm; may be repeated")
    parser.add_argument("--planes", type=int, default=24, help="of each direction and series")
    parser.add_argument("--out", type=Path, default=Path("eval_results"), help="receives tables and pictures")
    parser.add_argument("--order", action="store_true", help="in plane first, or between slices first")
    parser.add_argument("--cost", type=int, metavar="N", help="time and memory for N slices of 5 mm, 512², to 1 mm")
    given = parser.parse_args()
    console = Console()
    if given.cost:
        print_cost(given.model, given.cost, console)
        return
    if given.order:
        for root in given.roots:
            print_order(root, *(given.case or [(5.0, 5.0)])[0])
        return
    model = load_model_under_test(given.model, device="cpu", kind="between slices", progress=console)
    cases = given.case or CASES
    options = EvaluateOptions(
        root=tuple(given.roots),
        output_dir=given.out,
        through_plane=True,
        thickness=tuple(thickness for thickness, _ in cases),
        distance=tuple(distance for _, distance in cases),
        planes=given.planes,
        allow_train_patients=True,
    )
    result = evaluate_through_plane([model], options, console)
    section = series_section(method_figures(result))
    (table,) = section.tables
    print(f"{given.model}, SHA-256 {model.model.sha256}\n")
    print(f"| {' | '.join(table.columns)} |")
    print(f"|{'---|' * len(table.columns)}")
    for row in table.rows:
        print(f"| {' | '.join(row)} |")
    print("", *section.notes, sep="\n")


def print_cost(name: str, count: int, console: Console) -> None:
    """Time and memory from slices of 5 mm to slices of 1 mm, by the engine that `ctsr upscale` takes."""
    model = find_model(name, kind="between slices", progress=console)
    engine = open_engine(choose_engine(model, EngineRequest(), None, console), model)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = (y / 0.65) ** 2 + (x / 0.85) ** 2 < 1
    rng = np.random.default_rng(0)

    def read(index: int) -> SlicePixels:
        tissue = 40 + 300 * ((y * 9 + index / 7) % 1 < 0.2) + rng.normal(0, 12, body.shape)
        return SlicePixels(np.where(body, tissue, -1000).astype(np.float32), None)

    grid = SliceGrid(count, 5.0, SliceProfile(5.0), 1.0)
    at_rest, started, used = _resident(), time.perf_counter(), time.process_time()
    made = sum(1 for _ in ThroughPlaneSuperResolver(engine, model.hu_range)(read, grid, 0.0))
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{engine.name}: {count} slices of 5 mm, 512², to {made} of 1 mm: {seconds:.0f} s, {cpu:.0f} s of CPU time")
    print(f"memory {_resident() / 2**30:.2f} GiB at most, {at_rest / 2**30:.2f} GiB before; load of the machine {load}")


def _resident() -> int:
    """The most memory that this process has had, bytes; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_order(root: Path, thickness: float, distance: float) -> None:
    """Compare both orders on the middle of each thin series: made thick, then coarse and noisy in plane."""
    print("| series | order | PSNR axial, dB | coronal | sagittal | SSIM coronal | s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for series in ctsr.scan(root).all_series():
        if (series.slice_step or distance) * THIN_ENOUGH > distance:
            continue
        volume = ctsr.read_volume(series)
        top, left = ((size - MIDDLE) // 2 for size in volume.hu.shape[1:])
        middle = volume.hu[:, top : top + MIDDLE, left : left + MIDDLE]
        step, *pixel = volume.grid.spacing
        case = thicken(middle, step, SliceProfile(thickness), distance)
        thick = ctsr.Volume.from_array(case.thick, spacing=(distance, pixel[0], pixel[1]))
        coarse = ctsr.degrade(thick, scale=2, degradation="blurnoise", seed=1)
        profile = f"{thickness:g}"

        def in_plane(source: ctsr.Volume) -> ctsr.Volume:
            return ctsr.upscale(source, model="ctsr-x2", engine="torch")

        def between(source: ctsr.Volume, step: float = step, profile: str = profile) -> ctsr.Volume:
            return ctsr.upscale(source, slice_spacing=step, slice_profile=profile, engine="torch")

        for name, steps in (("in plane first", (in_plane, between)), ("between slices first", (between, in_plane))):
            started = time.perf_counter()
            made = coarse
            for make in steps:
                made = make(made)
            seconds = time.perf_counter() - started
            found = [
                ctsr.metrics(np.moveaxis(made.hu, axis, 0), np.moveaxis(case.truth, axis, 0), names=("PSNR", "SSIM"))
                for axis in range(3)
            ]
            psnr = " | ".join(f"{means['PSNR'] or 0:.2f}" for means in found)
            print(
                f"| {series.patient_id} | {name} | {psnr} | {found[1]['SSIM'] or 0:.4f} | {seconds:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
