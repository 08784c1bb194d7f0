"""`python -m benchmarks.through_plane ROOT …`: thin slices from thick ones, beside interpolation along z, as Markdown.

The table of `ctsr evaluate --through_plane` for the five cases of the bounds, with PSNR, SSIM, LPIPS, HU and tissues of
every series below each ROOT that is thin enough; results and pictures go to OUT. Where both are wanted, are slices
better made finer in plane first or between slices first? `--order` measures that (docs/decisions/, number 19).
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import ctsr
from ctsr.checkpoint import find_model
from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL
from ctsr.cli.console import Console
from ctsr.dicom.encode import slice_header
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import load_model_under_test
from ctsr.evaluate.planes import super_resolve_thick
from ctsr.evaluate.through_plane import evaluate_through_plane, method_figures, series_section
from ctsr.hu import tissue_masks
from ctsr.infer import EngineRequest, choose_engine, open_engine
from ctsr.infer.engine import Engine, OpenvinoEngine, converted
from ctsr.padding import SlicePixels
from ctsr.phantom import make_exams
from ctsr.quantization.acceptance import FEWEST_PIXELS, SyntheticSlices, compare_engines, series_pairs
from ctsr.quantization.quantized_model import Int8Network
from ctsr.through_plane import (
    THIN_ENOUGH,
    Block,
    SliceGrid,
    SliceProfile,
    ThickenedVolume,
    thicken,
)
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.volume import Plane

CASES = ((3.0, 3.0), (5.0, 5.0), (5.0, 3.0), (2.5, 2.5), (4.0, 4.0))
"""Thickness and distance, mm."""
DONE = re.compile(r"LONG: (\d+)/(\d+)")
"""How much of a long series is done, as the command says it."""
FILLED = 160
"""Slices of a long series that a body fills."""
PROFILES = {
    "rectangle": SliceProfile(5.0),
    "soft": SliceProfile(5.0, 1.0),
    "Gaussian": SliceProfile(0.5, 2.12),
}
"""All 5 mm wide at half height; as `--slice_profile` takes them 5, 5,1 and 0.5,2.12."""
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
    parser.add_argument("--memory", type=int, metavar="N", help="memory of `ctsr upscale` on N slices of 1.25 mm, 512²")
    parser.add_argument("--precisions", action="store_true", help="loss and time in bf16 and INT8")
    parser.add_argument("--profiles", action="store_true", help="loss by a profile that is not the true one")
    given = parser.parse_args()
    console = Console()
    if given.profiles:
        print_profiles(given.model, given.roots, console)
        return
    if given.precisions:
        print_precisions(given.model, given.roots, console)
        return
    if given.memory:
        print_memory(given.model, given.memory)
        return
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


def print_precisions(name: str, roots: Sequence[Path], console: Console) -> None:
    """Compare bf16 and INT8 with fp32 on the middle of thin series, made 5 mm thick; then what users' series pass.

    One core.
    """
    model = find_model(name, kind="between slices", progress=console)
    thick = SliceProfile(5.0)
    engines: dict[str, Engine] = {
        "fp32": OpenvinoEngine(converted(model.net), threads=1),
        "bf16": OpenvinoEngine(converted(model.net), "bf16", threads=1),
        "int8": Int8Network(SyntheticSlices()).open(model, threads=1),
    }
    print("| series | | PSNR, dB | loss, dB | largest shift of a tissue, HU | any voxel, HU | CPU time |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for patient, case in (made for root in roots for made in _middles(root, thick, 5.0)):
        results: dict[str, Block] = {}
        seconds: dict[str, float] = {}
        for kind, engine in engines.items():
            started = time.process_time()
            results[kind] = super_resolve_thick(engine, model.hu_range, case)
            seconds[kind] = time.process_time() - started
        psnr = {kind: ctsr.metrics(made, case.truth, names=("PSNR",))["PSNR"] or 0 for kind, made in results.items()}
        for kind, made in results.items():
            apart = made - results["fp32"]
            masks = tissue_masks(case.truth).values()
            shift = max((float(apart[mask].mean()) for mask in masks if mask.sum() > FEWEST_PIXELS), key=abs)
            numbers = f"{psnr[kind]:.2f} | {psnr['fp32'] - psnr[kind]:.3f} | {shift:+.2f} | {np.abs(apart).max():.0f}"
            print(f"| {patient} | {kind} | {numbers} | {seconds[kind] / seconds['fp32']:.2f} × |", flush=True)

    print("\n| series | | loss, dB | largest bias, HU | any voxel, HU | |\n|---|---|---:|---:|---:|---|")
    for patient in (patient for root in roots for patient in ctsr.scan(root).usable):
        if not (pairs := series_pairs(model, patient.series, assume_hu=True)):
            continue
        for kind in ("bf16", "int8"):
            found = compare_engines(engines[kind], engines["fp32"], pairs, model.hu_range)
            numbers = f"{found.loss_db:.3f} | {found.largest_bias_hu:+.2f} | {found.most_apart_hu:.0f}"
            used = "in use" if found.passes else "fp32"
            print(f"| {patient.patient_id} | {kind} | {numbers} | {used} |", flush=True)


def _middles(root: Path, profile: SliceProfile, distance: float) -> Iterator[tuple[str, ThickenedVolume]]:
    """The middle of each series below a root that is thin enough, made thick; and whose it is."""
    for series in ctsr.scan(root).all_series():
        if (series.slice_step or distance) * THIN_ENOUGH > distance:
            continue
        volume = ctsr.read_volume(series)
        top, left = ((size - MIDDLE) // 2 for size in volume.hu.shape[1:])
        middle = volume.hu[:, top : top + MIDDLE, left : left + MIDDLE]
        yield series.patient_id, thicken(middle, volume.grid.spacing[0], profile, distance)


def print_profiles(name: str, roots: Sequence[Path], console: Console) -> None:
    """What it costs to be told another slice profile than the true one, on the middle of thin series."""
    model = find_model(name, kind="between slices", progress=console)
    engine = open_engine(choose_engine(model, EngineRequest(), None, console), model)
    print("| series | t / d, mm | true profile | over cubic, dB, told: " + " | ".join(PROFILES) + " |")
    print("|---|---|---|" + "---:|" * len(PROFILES))
    for root, distance in ((root, distance) for root in roots for distance in (5.0, 3.0)):
        for true, profile in PROFILES.items():
            for patient, case in _middles(root, profile, distance):
                cubic = ctsr.metrics(case.interpolated("cubic"), case.truth, names=("PSNR",))["PSNR"] or 0
                gains: list[str] = []
                for told in PROFILES.values():
                    made = super_resolve_thick(
                        engine, model.hu_range, replace(case, grid=replace(case.grid, profile=told))
                    )
                    psnr = ctsr.metrics(made, case.truth, names=("PSNR",))["PSNR"] or 0
                    gains.append(f"{psnr - cubic:+.2f}")
                print(f"| {patient} | 5 / {distance:g} | {true} | {' | '.join(gains)} |", flush=True)


def print_memory(name: str, count: int) -> None:
    """The most memory of `ctsr upscale` from slices of 1.25 mm to slices of 1 mm, as the result grows.

    A body fills the first slices (`FILLED`), as many as two slabs take; in the others it is small, so that the network
    has little to do there and what grows with the number of slices is seen in minutes.
    """
    with tempfile.TemporaryDirectory(prefix="ctsr-bench-") as made:
        folder = Path(made)
        _write_long_series(folder / "exams" / "LONG" / "1", count)
        flags = ("--slice_spacing", "1.0", "--slice_model", name, "--workers", "1")
        command = [sys.executable, "-m", "ctsr", "upscale", str(folder / "exams"), str(folder / "out"), *flags]
        print("| done | most memory so far, GiB |\n|---:|---:|", flush=True)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            shown = -1.0
            for line in process.stderr or ():
                found, peak = DONE.search(line), _peak(process.pid)
                if found and peak and (done := int(found[1]) / int(found[2])) >= shown + 1 / 16:
                    shown = done
                    print(f"| {done:.0%} | {peak / 2**30:.2f} |", flush=True)
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"| all; exit status {process.returncode} | {most / 2**30:.2f} |")


def _write_long_series(folder: Path, count: int) -> None:
    exams = folder.parent.parent / "header"
    make_exams(exams, patients=1, slices=1, workers=1)
    series = next(iter(ctsr.scan(exams).all_series()))
    header, plane = slice_header(series.slices[0]), series.plane(0)
    header.SliceThickness = 1.25
    derivation = Derivation(description="made", label="made", settings="made", series_uid="2.25.1")
    shutil.rmtree(exams)
    folder.mkdir(parents=True)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    for index in range(count):
        small = 1.0 if index < FILLED else 0.12
        hu = np.where((y / 0.65) ** 2 + (x / 0.85) ** 2 < small**2, 40.0, -1000.0)
        hu += np.random.default_rng(index).normal(0, 12, hu.shape)
        place = Plane((512, 512), (0.8, 0.8), (*plane.origin[:2], plane.origin[2] + 1.25 * index), plane.directions)
        image = derive_slice(header, hu.astype(np.float32), place, derivation, instance_number=index + 1, frame=index)
        save_slice(image, folder / f"{index}.dcm")


def _peak(pid: int) -> int | None:
    """The most memory that a process has had, bytes; None once it has ended. Only Linux tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


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
