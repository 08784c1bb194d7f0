"""`python -m benchmarks.card CT FOLDER`: every figure of a bundled model's card, measured on its test patients.

CT and FOLDER are those of `make train-bundled`; images at 0.8 mm are measured as well where `make bundled-data` has
made them. Evaluations are kept in FOLDER and continued where they were cut off.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from recipes.train import ROOTS

from benchmarks.common import degradations
from benchmarks.race import RESAMPLED, seconds_on_two_cores
from ctsr.checkpoint import find_model
from ctsr.data.datasets import open_exams
from ctsr.data.pairs import SlicePair, slice_pair
from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, ModelUnderTest
from ctsr.evaluate.output_folder import Row, read_rows
from ctsr.hu import BLOCK, CORE_SMOOTHING, TISSUE_CORES, body_blocks, core_masks
from ctsr.infer import SuperResolver, by_interpolation
from ctsr.models.interpolation import interpolate
from ctsr.physics import NoiseSlice, NoiseSpectrum, noise_study, study

METRICS = ("PSNR", "SSIM", "LPIPS", "MAE_HU", "BIAS_HU")
BY_TISSUE = ("BIAS_HU_fat", "BIAS_HU_soft", "BIAS_HU_bone")
LABELS = {"soft": "soft tissue"}
"""Of tissues whose names are short."""
PATCH = 64
"""HR pixels, of LR-consistency."""
EVERY = 4
"""Of the slices, for tissues and LR-consistency."""
MEASURED = 16
"""Slices of each patient for the main table, drawn as `ctsr evaluate --max_slices_per_patient` does."""
FEWER = 4
"""Slices of each patient for other degradations."""
NATIVE_GRIDS = "native grids"
RESAMPLED_GRIDS, PIXEL_MM = "resampled to 0.8 mm", 0.8
DRAWS = 2000
"""Of the bootstrap."""
CONTRASTS = (30.0, 100.0, 1000.0)
"""HU, of the edges whose MTF50 is shown."""


CLOSENESS = f"""
## How close it comes
On the two patients kept for test, {MEASURED} slices of each, degraded as in training; PSNR, SSIM and LPIPS on
HU −1000 … 2000. Intervals are 95 %, by a bootstrap **over slices** of that patient. `python -m benchmarks.card CT
bundled --model MODEL` measures every table of this page."""
BY_PLACE = f"""
## HU by tissue, and LR-consistency
Bias is the mean of SR − HR over both patients, on every fourth slice, inside of tissue: where HR smoothed by σ =
{CORE_SMOOTHING:g} pixels says what it is, without the rim. LR-consistency: SR and HR are degraded again, without noise,
and compared in patches of {PATCH}² HR pixels inside the body."""
PHYSICS = """
## Sharpness and noise against bicubic
MTF50 is where an edge of that contrast keeps half of itself; noise is its standard deviation ([how both are
measured](../physics.md))."""
BEYOND = """
## By what LR was made with
Gain over bicubic and bias for C3L-00189 and LIDC-IDRI-0001, four slices of each; blur in HR pixels. The network is
told the blur and the noise."""

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """The model and the exams."""

    model: ModelUnderTest
    roots: Mapping[str, tuple[Path, ...]]
    """By what the grids are."""
    folder: Path

    def values(
        self, grids: str, degradation: Degradation, slices: int, metrics: Sequence[str]
    ) -> Mapping[str, Mapping[str, Table]]:
        """Patient → bicubic and ctsr → (slices, metrics); NaN where a metric could not be computed."""
        options = EvaluateOptions(
            root=self.roots[grids],
            split="test",
            max_slices_per_patient=slices,
            metrics=tuple(metrics),
            no_plots=True,
            store=self.folder / "store",
            output_dir=self.folder / "measured",
        )
        found = evaluate((self.model,), degradation, options)
        rows = read_rows(found.folder / "metrics.csv")
        methods = {"bicubic": BICUBIC, "ctsr": found.model_methods[0]}
        return {
            patient: {label: _table(rows, patient, method, metrics) for label, method in methods.items()}
            for patient in sorted({row.slice.patient_id for row in rows})
        }

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
    measured = bench.values(grids, bench.model.degradation, MEASURED, METRICS + BY_TISSUE)
    whole = slice(len(METRICS))
    for patient, values in measured.items():
        ours, theirs = values["ctsr"][:, whole], values["bicubic"][:, whole]
        for label, one in (("bicubic", theirs), ("ctsr", ours)):
            print(f"| {patient} | {len(ours)} | {label} | {_cells(one.mean(0))} |")
        print(f"| {patient} | {len(ours)} | ctsr − bicubic | {_intervals(ours - theirs)} |")
    print("\nBias as `ctsr evaluate --metrics tissue` tells it, HU:\n")
    print("| patient | method | fat | soft tissue | bone |\n|---|---|---:|---:|---:|")
    for patient, values in measured.items():
        for label, one in values.items():
            print(f"| {patient} | {label} | {' | '.join(f'{b:+.2f}' for b in np.nanmean(one, 0)[len(METRICS) :])} |")


def other_degradations(bench: Bench) -> None:
    """PSNR over bicubic beyond what it was trained on."""
    print("\n| degradation | grids | PSNR over bicubic, dB | bias, HU |\n|---|---|---:|---:|")
    for name, degradation in degradations(bench.model.degradation).items():
        for grids in bench.roots:
            measured = bench.values(grids, degradation, FEWER, ("PSNR", "BIAS_HU")).values()
            means = [(one["ctsr"].mean(0), one["bicubic"].mean(0)) for one in measured]
            gains = ", ".join(f"{ours[0] - theirs[0]:+.2f}" for ours, theirs in means)
            print(f"| {name} | {grids} | {gains} | {', '.join(f'{ours[1]:+.2f}' for ours, _ in means)} |")


def tissues_and_consistency(bench: Bench, grids: str) -> None:
    """HU bias by tissue; patches in which SR, degraded again, is farther from LR's truth than bicubic."""
    errors: dict[tuple[str, str], list[Table]] = {}
    patches: dict[str, list[Table]] = {}
    for patient, pair in bench.pairs(grids):
        images = {
            "ctsr": bench.model.super_resolve(pair.lr, pair.draw.params),
            "bicubic": interpolate(pair.lr, bench.model.scale, "bicubic"),
        }
        # Tissue is told from the reference without its noise: told with it, the noise would look like a bias.
        for tissue, inside in core_masks(pair.hr_hu).items():
            for method, image in images.items():
                error: Table = bench.model.hu_range.to_hu(image[0, 0].double().numpy()) - pair.hr_hu.astype(np.float64)
                errors.setdefault((tissue, method), []).append(error[inside])
        patches.setdefault(patient, []).append(_inconsistency(pair, images, bench.model.scale))
    print(f"\n### {grids}\n\n| tissue | pixels | bias of bicubic, HU | bias of ctsr, HU |\n|---|---:|---:|---:|")
    for tissue in TISSUE_CORES.values():
        theirs, ours = (np.concatenate(errors[tissue.name, method]) for method in ("bicubic", "ctsr"))
        label = f"{LABELS.get(tissue.name, tissue.name)} ({tissue.low:g} … {tissue.high:g} HU)"
        print(f"| {label} | {len(ours)} | {theirs.mean():+.2f} | {ours.mean():+.2f} |")
    print()
    for patient, found in patches.items():
        ours, theirs = np.concatenate(found, axis=1)
        worse, most = (ours > theirs).sum(), (ours / theirs).max()
        print(
            f"* {patient}: degraded again, SR is {ours.mean():.2f} HU from HR, bicubic {theirs.mean():.2f}; "
            f"farther than bicubic in {worse} of {len(ours)} patches, at most ×{most:.2f}"
        )


def physics(bench: Bench, pixel_mm: float) -> None:
    """Resolution and noise on phantoms, at both ends of the doses."""
    model = bench.model
    found = study(_methods(model), model.degradation, model.hu_range, pixel_mm)
    ends = f"MTF50 in 1/mm; LR ends at {found.lr_nyquist_per_mm:.2f}/mm."
    heads = " | ".join(f"MTF50 at {contrast:+.0f} HU" for contrast in CONTRASTS)
    print(f"\n### Phantoms with pixels of {pixel_mm} mm\n\n{ends}\n")
    print(f"| dose | noise of LR, HU | method | {heads} | noise, HU | its mean frequency, 1/mm |")
    print("|---:|---:|---|" + "---:|" * 5)
    mtf50 = {(one.method, one.dose, one.contrast_hu): one.transfer.mtf50_per_mm for one in found.transfer}
    for one in found.noise:
        lr = found.lr_noise_hu[[condition.dose for condition in found.conditions].index(one.dose)]
        cells = " | ".join(_optional(mtf50[one.method, one.dose, contrast]) for contrast in CONTRASTS)
        print(f"| {one.dose:g} | {lr:.1f} | {one.method} | {cells} | {_noise(one.spectrum)} |")


def noise_on_slices(bench: Bench, grids: str, pixel_mm: float) -> None:
    """The noise in homogeneous soft tissue, HR's own among it."""
    methods = _methods(bench.model)

    def slices() -> Iterator[NoiseSlice]:
        for _, pair in bench.pairs(grids):
            lr = bench.model.hu_range.to_hu(pair.lr[0, 0].numpy())
            yield NoiseSlice(pair.hr_hu, {name: method(lr) for name, method in methods.items()})

    found = noise_study(slices(), pixel_mm)
    count = sum(map(len, found.regions))
    print(f"\nNoise in {count} homogeneous regions of {found.slices} slices, {grids}:\n")
    print("| image | noise, HU | its mean frequency, 1/mm |\n|---|---:|---:|")
    for name, spectrum in found.spectra.items():
        print(f"| {name} | {_noise(spectrum)} |")


def _noise(spectrum: NoiseSpectrum) -> str:
    return f"{spectrum.std_hu:.1f} | {_optional(spectrum.mean_per_mm)}"


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _methods(model: ModelUnderTest) -> dict[str, SuperResolver]:
    return {
        "bicubic": by_interpolation("bicubic", model.scale, model.hu_range),
        "ctsr": model.method,
    }


def _inconsistency(pair: SlicePair, images: Mapping[str, torch.Tensor], scale: int) -> Table:
    """Mean |degraded SR − degraded HR| without noise, HU: (2, patches) of the model and bicubic, in the body."""
    low = [
        degrade(image.cpu(), [pair.draw.params.noiseless], [0], scale=scale)[0, 0]
        for image in (pair.hr, images["ctsr"], images["bicubic"])
    ]
    step = PATCH // scale
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


def _table(rows: Sequence[Row], patient: str, method: str, metrics: Sequence[str]) -> Table:
    mine = [row.metrics for row in rows if row.slice.patient_id == patient and row.method == method]
    return np.array([[one[name].value for name in metrics] for one in mine], dtype=np.float64)


def _cells(values: Table) -> str:
    psnr, ssim, lpips, mae, bias = values
    return f"{psnr:.2f} | {ssim:.4f} | {lpips:.4f} | {mae:.2f} | {bias:+.2f}"


def _intervals(differences: Table) -> str:
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
    parser.add_argument("ct", type=Path, metavar="CT", help=f"folder with the roots {', '.join(ROOTS)}")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where training has put its data")
    parser.add_argument("--model", default="ctsr-x2", help="bundled model, run folder or checkpoint")
    given = parser.parse_args()
    model = ModelUnderTest(find_model(given.model), torch.device("cpu"))
    roots = {NATIVE_GRIDS: tuple(given.ct / root for root in ROOTS)}
    if (given.folder / RESAMPLED).is_dir():
        roots[RESAMPLED_GRIDS] = tuple(given.folder / RESAMPLED / root for root in ROOTS)
    bench = Bench(model, roots, given.folder)
    print(f"{model.model.architecture}, SHA-256 {model.model.sha256}")
    seconds = seconds_on_two_cores(model.model.net, given.folder / "engines")
    print(f"512² → {512 * model.scale}²: {seconds:.2f} s in OpenVINO fp32 on two cores")
    print(CLOSENESS)
    for grids in roots:
        by_patient(bench, grids)
    print(BY_PLACE)
    for grids in roots:
        tissues_and_consistency(bench, grids)
    print(PHYSICS)
    physics(bench, PIXEL_MM)
    if RESAMPLED_GRIDS in roots:
        noise_on_slices(bench, RESAMPLED_GRIDS, PIXEL_MM)
    print(BEYOND)
    other_degradations(bench)


if __name__ == "__main__":
    main()
