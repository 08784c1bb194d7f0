"""`python -m benchmarks.through_plane ROOT …`: thin slices from thick ones, beside interpolation along z.

Every thin series below each ROOT is thickened by a slice profile (never by dropping slices), brought back to its own
distance between slices, and compared with itself on coronal and sagittal planes that hold a body.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ctsr.checkpoint import Model, find_model
from ctsr.exams import read_volume, scan
from ctsr.hu import PRESETS, body_blocks, core_masks
from ctsr.infer import TorchEngine
from ctsr.metrics.fidelity import psnr, ssim
from ctsr.padding import SlicePixels
from ctsr.quality.noise import measure_noise
from ctsr.series import Series
from ctsr.through_plane.slice_grid import SliceGrid
from ctsr.through_plane.slice_profile import AlongZ, SliceProfile, interpolation, thickening
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.volume import VoxelsHU

CASES = ((3.0, 3.0), (5.0, 5.0), (5.0, 3.0), (2.5, 2.5), (4.0, 4.0))
"""Thickness and distance, mm."""
BASELINES: tuple[AlongZ, ...] = ("linear", "cubic", "lanczos")
THIN_MM = 1.3
"""Distance between slices up to which a series is truth."""
BODY_SHARE = 0.1
"""Least share of body in a plane that is looked at."""


@dataclass(frozen=True)
class Case:
    """A thin series and what was made thick of it."""

    truth: VoxelsHU
    """(slices, rows, columns), HU, on the wanted slices."""
    thick: VoxelsHU
    grid: SliceGrid


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="folders of patients, or single series")
    parser.add_argument("--model", default="ctsr-z", help="bundled model, run folder or checkpoint")
    parser.add_argument("--case", type=float, nargs=2, action="append", metavar=("T", "D"), help="mm; may be repeated")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0], help="shares of the measured noise to tell")
    parser.add_argument("--picture", type=Path, help="receives a coronal strip of each case")
    given = parser.parse_args()
    model = find_model(given.model, kind="between slices")
    print(f"{given.model}, SHA-256 {model.sha256}; PSNR: mean of coronal and sagittal planes\n")
    print("| series | t / d mm | method | PSNR, dB | over best | SSIM coronal | largest bias HU | back HU | s |")
    print("|---|---|---|---:|---:|---:|---|---:|---:|")
    for root in given.roots:
        for series in scan(root).all_series():
            if series.slice_step and series.slice_step <= THIN_MM and len(series.slices) > 20:
                for thickness, distance in given.case or CASES:
                    measure(series, thickness, distance, model, given.noise, given.picture)


def thickened(series: Series, thickness: float, distance: float) -> Case:
    """A thin series as a thick one, and its slices from the first to the last thick one."""
    volume = read_volume(series)
    step = volume.grid.spacing[0]
    profile = SliceProfile(thickness)
    thin = np.arange(len(volume.hu)) * step
    # The first thick slice lies on a thin one, and all lie whole within the series.
    first = int(np.ceil((profile.reach - step / 2) / step))
    count = int((thin[-1] + step / 2 - profile.reach - thin[first]) / distance + 1e-6) + 1
    thick_at = thin[first] + np.arange(count) * distance
    flat = volume.hu.reshape(len(volume.hu), -1)
    thick = (thickening(profile, thick_at, thin).astype(np.float32) @ flat).reshape(count, *volume.hu.shape[1:])
    grid = SliceGrid(count, distance, profile, step)
    return Case(volume.hu[first : first + grid.num_wanted], thick, grid)


def measure(
    series: Series, thickness: float, distance: float, model: Model, shares: list[float], picture: Path | None
) -> None:
    """Print the rows of one case."""
    case = thickened(series, thickness, distance)
    pixels = [SlicePixels(hu, None) for hu in case.thick]
    source = case.grid.source_positions(0, case.grid.count)
    wanted = case.grid.wanted_positions(0, case.grid.num_wanted)
    results: dict[str, tuple[VoxelsHU, float]] = {}
    for kind in BASELINES:
        results[kind] = along_z(interpolation(kind, source, wanted), case.thick), 0.0
    noise = measure_noise(list(case.thick[:: max(1, len(case.thick) // 3)]), series.pixel_spacing).sigma_hu or 0.0
    for share in shares:
        resolver = ThroughPlaneSuperResolver(TorchEngine(model.net), model.hu_range)
        started = time.perf_counter()
        made = np.stack([slice_.hu for slice_ in resolver(lambda i: pixels[i], case.grid, share * noise)])
        results[f"network, told {share * noise:.0f} HU"] = made, time.perf_counter() - started
    scores = {name: score(result, case) for name, (result, _) in results.items()}
    best = max(scores["linear"][0], scores["cubic"][0])
    for name, (result, seconds) in results.items():
        db, similarity, bias = scores[name]
        inside = thickening(case.grid.profile, source, wanted)[1:-1]
        back = float(np.abs(along_z(inside, result) - case.thick[1:-1]).mean())
        print(
            f"| {series.patient_id} | {thickness:g} / {distance:g} | {name} | {db:.2f} | {db - best:+.2f} "
            f"| {similarity:.4f} | {bias} | {back:.2f} | {seconds:.0f} |",
            flush=True,
        )
    if picture is not None:
        draw(case, {name: result for name, (result, _) in results.items()}, series, picture)


def along_z(matrix: np.ndarray, block: VoxelsHU) -> VoxelsHU:
    """(target, source) · (source, rows, columns)."""
    mixed = matrix.astype(np.float32) @ block.reshape(len(block), -1)
    return mixed.reshape(len(matrix), *block.shape[1:])


def score(result: VoxelsHU, case: Case) -> tuple[float, float, str]:
    """Mean PSNR of coronal and sagittal planes, mean SSIM of coronal planes, and the tissue that is off most."""
    body = np.repeat(np.repeat(body_blocks(case.truth.max(axis=0)), 8, 0), 8, 1)
    truth, made = unit(case.truth), unit(result)
    of_planes: list[float] = []
    similarity: list[float] = []
    for axis in (1, 2):
        share = body.mean(axis=2 - axis)
        for index in range(0, truth.shape[axis], 2):
            if index < len(share) and share[index] > BODY_SHARE:
                pair = plane(made, axis, index), plane(truth, axis, index)
                of_planes.append(psnr(*pair)[0].value or 0.0)
                if axis == 1 and index % 8 == 0:
                    similarity.append(ssim(*pair)[0].value or 0.0)
    return float(np.mean(of_planes)), float(np.mean(similarity)), largest_bias(result, case.truth)


def unit(hu: VoxelsHU) -> torch.Tensor:
    """HU −1000 … 2000 as 0 … 1."""
    return torch.from_numpy((np.clip(hu, -1000, 2000) + 1000) / 3000)


def plane(volume: torch.Tensor, axis: int, index: int) -> torch.Tensor:
    """One plane as an image."""
    return volume.select(axis, index)[None, None].contiguous()


def largest_bias(result: VoxelsHU, truth: VoxelsHU) -> str:
    """Mean of result minus truth in the cores of tissues, over a few slices."""
    found: dict[str, list[float]] = {}
    for index in range(2, len(truth), 5):
        for name, mask in core_masks(truth[index]).items():
            if mask.sum() >= 200:
                found.setdefault(name, []).extend((result[index] - truth[index])[mask][::7].tolist())
    means: Mapping[str, float] = {name: float(np.mean(values)) for name, values in found.items()}
    worst = max(means, key=lambda name: abs(means[name]))
    return f"{means[worst]:+.2f} ({worst})"


def draw(case: Case, results: Mapping[str, VoxelsHU], series: Series, folder: Path) -> None:
    """A coronal strip: thick slices, the methods, the truth, one above the other."""
    row = case.truth.shape[1] // 2
    nearest = np.array([case.grid.nearest(index) for index in range(case.grid.num_wanted)])
    strips = [case.thick[nearest][:, row], *(result[:, row] for result in results.values()), case.truth[:, row]]
    zoom = case.grid.spacing / series.pixel_spacing[1]
    window = PRESETS["soft_tissue"]
    low, high = window.center - window.width / 2, window.center + window.width / 2
    images: list[Image.Image] = []
    for strip in strips:
        grey = Image.fromarray(np.uint8(np.clip((strip[::-1] - low) / (high - low), 0, 1) * 255))
        images.append(grey.resize((grey.width * 2, round(grey.height * 2 * zoom)), Image.Resampling.NEAREST))
    height = sum(image.height + 4 for image in images)
    sheet = Image.new("L", (images[0].width, height), 255)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + 4
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{series.patient_id}_{case.grid.profile.thickness:g}_{case.grid.distance:g}.png")


if __name__ == "__main__":
    main()
