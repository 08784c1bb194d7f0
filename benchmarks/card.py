"""`python -m benchmarks.card CT FOLDER`: every figure of a bundled model's card, measured on its test patients.

CT and FOLDER are those of `make train-bundled`. Evaluations are kept in FOLDER and continued where they were cut off.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from benchmarks.race import RESAMPLED, ROOTS, seconds_on_two_cores
from ctsr.checkpoint import find_generator
from ctsr.data.body import BLOCK, body_blocks
from ctsr.data.exams import open_exams
from ctsr.data.pairs import SlicePair, slice_pair
from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.evaluate.methods import BICUBIC, MODEL
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.rows import Row, read_rows
from ctsr.evaluate.run import evaluate
from ctsr.infer import super_resolve
from ctsr.models.interpolation import interpolate

METRICS = ("PSNR", "SSIM", "LPIPS", "MAE_HU", "BIAS_HU")
TISSUES = {"lung": (-950, -700), "fat": (-140, -60), "soft tissue": (20, 120), "bone": (250, 1500)}
"""HU of the smoothed reference."""
SMOOTH = 2.0
"""σ in pixels. Tissue is told from the reference without its noise: told with it, the noise would look like a bias."""
PATCH = 64
"""HR pixels, of LR-consistency."""
EVERY = 4
"""Of the slices, for tissues and LR-consistency."""
MEASURED = 16
"""Slices of each patient for the main table, drawn as `ctsr evaluate --max_slices_per_patient` does."""
FEWER = 4
"""Slices of each patient for other degradations."""
OTHER = {
    "clean (no blur, no noise)": Degradation("clean"),
    "blur (no noise)": Degradation("blur"),
    "blurnoise, as in training": Degradation(),
    "half the least dose (0.125)": Degradation(dose_factor_range=(0.125, 0.125)),
    "a quarter of the least dose (0.0625)": Degradation(dose_factor_range=(0.0625, 0.0625)),
    "three times the most noise (σ 0.009)": Degradation(noise_sigma_range=(0.009, 0.009)),
    "more blur (σ 1.1)": Degradation(blur_sigma_range=(1.1, 1.1)),
}
DRAWS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Bench:
    """The model and the exams."""

    model: ModelUnderTest
    roots: Mapping[str, tuple[Path, ...]]
    """By what the grids are."""
    folder: Path

    def rows(self, grids: str, degradation: Degradation, slices: int, lpips: bool) -> list[Row]:
        """One row a slice and method."""
        options = EvaluateOptions(
            root=self.roots[grids],
            split="test",
            max_slices_per_patient=slices,
            lpips="alex" if lpips else "none",
            no_plots=True,
            store=self.folder / "store",
            output_dir=self.folder / "measured",
        )
        return read_rows(evaluate(self.model, degradation, options).folder / "metrics.csv")

    def pairs(self, grids: str) -> Iterator[tuple[str, SlicePair]]:
        """Some slices of each test patient, degraded as in the evaluation."""
        exams = open_exams(self.roots[grids], checkpoint_split=self.model.split)
        sampler = DegradationSampler(self.model.degradation)
        for stored in exams.part("test", "evaluate", self.folder / "store").series:
            for index in range(0, len(stored), EVERY):
                yield stored.patient_id, slice_pair(stored, index, sampler, self.model.hu_range)


def by_patient(bench: Bench, grids: str) -> None:
    """Bicubic, the model, and their difference with its interval over slices."""
    print(f"\n### {grids}\n")
    print("| patient | slices | method | PSNR, dB | SSIM | LPIPS | MAE, HU | bias, HU |\n|---|---:|---|" + "---:|" * 5)
    for patient, rows in _grouped(bench.rows(grids, bench.model.degradation, MEASURED, lpips=True)).items():
        values = {method: _table(rows, method) for method in (BICUBIC, MODEL)}
        count = len(values[MODEL])
        for method, label in ((BICUBIC, "bicubic"), (MODEL, "ctsr")):
            print(f"| {patient} | {count} | {label} | {_cells(values[method].mean(0))} |")
        print(f"| {patient} | {count} | ctsr − bicubic | {_intervals(values[MODEL] - values[BICUBIC])} |")


def other_degradations(bench: Bench) -> None:
    """PSNR over bicubic beyond what it was trained on."""
    print("\n| degradation | grids | PSNR over bicubic, dB | bias, HU |\n|---|---|---:|---:|")
    for name, degradation in OTHER.items():
        for grids in bench.roots:
            patients = _grouped(bench.rows(grids, degradation, FEWER, lpips=False)).values()
            ours, theirs = ([_table(rows, method).mean(0) for rows in patients] for method in (MODEL, BICUBIC))
            gains = ", ".join(f"{one[0] - other[0]:+.2f}" for one, other in zip(ours, theirs, strict=True))
            print(f"| {name} | {grids} | {gains} | {', '.join(f'{one[4]:+.2f}' for one in ours)} |")


def tissues_and_consistency(bench: Bench, grids: str) -> None:
    """HU bias by tissue; patches in which SR, degraded again, is farther from LR's truth than bicubic."""
    errors: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = {}
    patches: dict[str, list[npt.NDArray[np.float64]]] = {}
    for patient, pair in bench.pairs(grids):
        images = {MODEL: super_resolve(bench.model.network, pair.lr), BICUBIC: interpolate(pair.lr, 2, "bicubic")}
        smooth = ndimage.gaussian_filter(pair.hr_hu.astype(np.float64), SMOOTH)
        for tissue, (low, high) in TISSUES.items():
            inside = ndimage.binary_erosion((smooth >= low) & (smooth <= high))
            for method, image in images.items():
                error = bench.model.hu_range.to_hu(image[0, 0].double().numpy()) - pair.hr_hu
                errors.setdefault((tissue, method), []).append(error[inside])
        patches.setdefault(patient, []).append(_inconsistency(pair, images))
    print(f"\n### {grids}\n\n| tissue | pixels | bias of bicubic, HU | bias of ctsr, HU |\n|---|---:|---:|---:|")
    for tissue, (low, high) in TISSUES.items():
        theirs, ours = (np.concatenate(errors[tissue, method]) for method in (BICUBIC, MODEL))
        print(f"| {tissue} ({low} … {high} HU) | {len(ours)} | {theirs.mean():+.2f} | {ours.mean():+.2f} |")
    print()
    for patient, found in patches.items():
        ours, theirs = np.concatenate(found, axis=1)
        worse, most = (ours > theirs).sum(), (ours / theirs).max()
        print(
            f"{patient}: degraded again, SR is {ours.mean():.2f} HU from HR, bicubic {theirs.mean():.2f}; "
            f"farther than bicubic in {worse} of {len(ours)} patches, at most ×{most:.2f}"
        )


def _inconsistency(pair: SlicePair, images: Mapping[str, torch.Tensor]) -> npt.NDArray[np.float64]:
    """Mean |degraded SR − degraded HR| without noise, HU: (2, patches) of the model and bicubic, in the body."""
    quiet = replace(pair.draw.params, noise_sigma=0.0)
    low = [degrade(image.cpu(), [quiet], [0], scale=2)[0, 0] for image in (pair.hr, images[MODEL], images[BICUBIC])]
    step = PATCH // 2
    rows, columns = (length // step for length in low[0].shape)
    size = (rows, step, columns, step)
    apart = [
        1500 * (one - low[0])[: rows * step, : columns * step].abs().double().reshape(size).mean((1, 3)).numpy()
        for one in low[1:]
    ]
    blocks = body_blocks(pair.hr_hu)[: rows * PATCH // BLOCK, : columns * PATCH // BLOCK]
    side = PATCH // BLOCK
    inside = blocks.reshape(rows, side, columns, side).mean((1, 3)) > 0.5
    return np.stack([one[inside] for one in apart])


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {
        name: [row for row in rows if row.slice.patient_id == name]
        for name in sorted({row.slice.patient_id for row in rows})
    }


def _table(rows: Sequence[Row], method: str) -> npt.NDArray[np.float64]:
    """(slices, metrics); NaN where a metric was not computed."""
    values = [[row.metrics[name].value for name in METRICS] for row in rows if row.method == method]
    return np.array(values, dtype=np.float64)


def _cells(values: npt.NDArray[np.float64]) -> str:
    psnr, ssim, lpips, mae, bias = values
    return f"{psnr:.2f} | {ssim:.4f} | {lpips:.4f} | {mae:.2f} | {bias:+.2f}"


def _intervals(differences: npt.NDArray[np.float64]) -> str:
    """Means, and their 95 % intervals by a bootstrap of slices."""
    rng = np.random.default_rng(0)
    drawn = differences[rng.integers(len(differences), size=(DRAWS, len(differences)))].mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    digits = (2, 4, 4, 2, 2)
    return " | ".join(
        f"{mean:+.{n}f} ({a:+.{n}f} … {b:+.{n}f})"
        for mean, a, b, n in zip(differences.mean(0), low, high, digits, strict=True)
    )


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder with the roots patients and singles")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where training has put its data")
    parser.add_argument("--model", default="ctsr-x2", help="bundled model, run folder or checkpoint")
    given = parser.parse_args()
    model = ModelUnderTest(find_generator(given.model), torch.device("cpu"))
    roots = {
        "resampled to 0.8 mm": tuple(given.folder / RESAMPLED / root for root in ROOTS),
        "native grids": tuple(given.ct / root for root in ROOTS),
    }
    bench = Bench(model, roots, given.folder)
    print(f"{model.generator.architecture}, SHA-256 {model.generator.sha256}")
    seconds = seconds_on_two_cores(model.generator.net, given.folder / "engines")
    print(f"512² → 1024²: {seconds:.2f} s in OpenVINO fp32 on two cores")
    for grids in roots:
        by_patient(bench, grids)
    for grids in roots:
        tissues_and_consistency(bench, grids)
    other_degradations(bench)


if __name__ == "__main__":
    main()
