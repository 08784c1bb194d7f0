"""`python -m benchmarks.scanner`: is it sharper and quieter, where the truth is known?

Phantoms go through a simulated scanner (`ctsr.physics.simulated_scanner`), soft and sharp kernel,
full and quarter dose, onto pixels of p mm. Every method makes them p/2; the truth is the same scan
without noise on p/2. Prints a table for each setting, and whether detectability and sharpness reach
1.3 times bicubic's at 0.8 times its noise. Everything follows from the seeds: the same command gives
the same figures.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch

from ctsr.checkpoint import Model, find_model
from ctsr.hu import DEFAULT_RANGE, FloatArray
from ctsr.infer import by_interpolation, by_network, telling
from ctsr.infer.conditions import STRENGTHS, Strength
from ctsr.models.interpolation import fit_linear_filter
from ctsr.physics import DiscTask, detectability, edge_profile, transfer_function
from ctsr.physics.simulated_scanner import (
    DISC_MM,
    ContrastPhantom,
    ScanPair,
    SimulatedScanner,
    random_phantom,
    scan,
)
from ctsr.physics.transfer import EdgeProfile, TransferFunction
from ctsr.projection import SHARP, SOFT, Exposure, FanBeam, ImageGrid, project_shapes
from ctsr.projection.forward import Sinogram
from ctsr.quality.noise import NoiseSpectrum, PowerMap, power_map, spectrum_of

Method: TypeAlias = Callable[[ScanPair], FloatArray]
"""A scan → HU on the fine pixels."""

KERNELS = {"soft": SOFT, "sharp": SHARP}
DOSES = (1.0, 0.25)
SHOWN_HU = (-100.0, 30.0, 100.0, 1000.0)
"""Contrasts whose MTF50 is shown."""
TASK = DiscTask(diameter_mm=3.0, contrast_hu=30.0)
PART = 80
"""LR pixels of each part that is looked at: a disc with its surroundings, or water."""
BORDER = 16
"""SR pixels along the border of a part that are not measured: methods see its end there."""
REGION = 64
"""SR pixels along a side of the squares that noise is measured in."""
PHANTOM = 200
"""LR pixels of the phantom that PSNR is measured on."""
PSNR_RANGE = 3000.0
"""HU −1000 … 2000."""
FITTED_ON, JUDGED_ON = (1, 2), 3
"""Seeds of the random phantoms."""
BICUBIC, LINEAR, DIRECT, TRUTH = "bicubic", "linear filter", "direct on p/2", "truth"
SHARPER, QUIETER = 1.3, 0.8
"""Bounds on d′ and MTF50, and on noise, over bicubic."""


def strength_of(text: str) -> Strength:
    """A strength's name, or denoise and sharpen as in `0.2,0.25`."""
    named = {str(name): strength for name, strength in STRENGTHS.items()}
    if text in named:
        return named[text]
    denoise, sharpen = text.split(",")
    return Strength(float(denoise), float(sharpen))


@dataclass
class Measured:
    """What is collected of one method in one setting."""

    psnr: list[float] = field(default_factory=list)
    profiles: dict[float, list[EdgeProfile]] = field(default_factory=dict)
    noise: list[PowerMap] = field(default_factory=list)

    def noise_spectrum(self, pixel_mm: float) -> NoiseSpectrum:
        """Of all regions."""
        return spectrum_of(self.noise, pixel_mm, len(self.noise))

    def transfer(self, contrast: float, pixel_mm: float) -> TransferFunction:
        """Of all discs of a contrast."""
        return transfer_function(self.profiles[contrast], pixel_mm)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    method: str
    psnr: float
    noise_hu: float
    mean_frequency: float | None
    mtf50: dict[float, float | None]
    d_prime: float | None


@dataclass(frozen=True, eq=False)
class Bench:
    """Objects, already projected, and how they are scanned."""

    pixel_mm: float
    scans: int
    geometry: FanBeam
    contrasts: ContrastPhantom
    discs: Sinogram
    fitted: tuple[Sinogram, ...]
    judged: Sinogram

    @classmethod
    def prepared(cls, pixel_mm: float, scans: int) -> "Bench":
        """Project every object once."""
        geometry, contrasts = FanBeam(), ContrastPhantom()
        return cls(
            pixel_mm,
            scans,
            geometry,
            contrasts,
            discs=project_shapes(contrasts.shapes, geometry),
            fitted=tuple(project_shapes(random_phantom(seed), geometry) for seed in FITTED_ON),
            judged=project_shapes(random_phantom(JUDGED_ON), geometry),
        )

    def measure(self, scanner: SimulatedScanner, models: Mapping[str, Model], strengths: Sequence[str]) -> list[Row]:
        """One setting: fit the linear filter, scan, apply every method."""
        whole = ImageGrid((PHANTOM, PHANTOM), self.pixel_mm)
        pairs = [scan(one, scanner, [whole], seed=7)[0] for one in self.fitted]
        fitted = fit_linear_filter([(pair.lr, pair.hr) for pair in pairs], scale=scanner.scale)
        bicubic = by_interpolation("bicubic", scanner.scale, DEFAULT_RANGE)
        methods: dict[str, Method] = {
            BICUBIC: lambda pair: bicubic(pair.lr),
            LINEAR: lambda pair: fitted(pair.lr),
        }
        noise_hu = self._lr_noise(scanner)
        for name, model in models.items():
            methods |= model_methods(name, model, strengths, noise_hu)
        methods |= {DIRECT: lambda pair: pair.direct, TRUTH: lambda pair: pair.hr}
        found = {name: Measured() for name in methods}
        for seed in range(self.scans):
            self._look(scanner, methods, found, seed)
        (judged,) = scan(self.judged, scanner, [whole], seed=11)
        for name, method in methods.items():
            found[name].psnr.append(psnr(method(judged), judged.hr))
        fine = self.pixel_mm / scanner.scale
        return [row_of(name, measured, fine) for name, measured in found.items()]

    def _lr_noise(self, scanner: SimulatedScanner) -> float:
        """Standard deviation in the water in the middle, HU: what is measured in a series."""
        (pair,) = scan(self.discs, scanner, [ImageGrid((PART, PART), self.pixel_mm)], seed=999)
        return float(pair.lr.std())

    def _look(
        self,
        scanner: SimulatedScanner,
        methods: Mapping[str, Method],
        found: Mapping[str, Measured],
        seed: int,
    ) -> None:
        """One scan of the discs, each disc in its own part, and the water in the middle."""
        shape, chosen = (PART, PART), self.contrasts.contrasts_hu
        # The raster moves against the discs by parts of a pixel, as no two patients lie alike.
        shifts = np.random.default_rng(seed).uniform(-0.5, 0.5, (len(chosen), 2)) * self.pixel_mm
        grids = [ImageGrid(shape, self.pixel_mm)]
        for contrast, shift in zip(chosen, shifts.tolist(), strict=True):
            y, x = self.contrasts.center_mm(contrast)
            grids.append(ImageGrid(shape, self.pixel_mm, (y + shift[0], x + shift[1])))
        water, *discs = scan(self.discs, scanner, grids, seed=seed)
        fine = self.pixel_mm / scanner.scale
        middle = (PART * scanner.scale - 1) / 2
        for name, method in methods.items():
            found[name].noise += noise_maps(method(water), fine)
            for contrast, shift, pair in zip(chosen, shifts.tolist(), discs, strict=True):
                center = (middle - shift[0] / fine, middle - shift[1] / fine)
                profile = edge_profile(method(pair), center, DISC_MM / fine)
                found[name].profiles.setdefault(contrast, []).append(profile)


def model_methods(name: str, model: Model, strengths: Sequence[str], noise_hu: float) -> dict[str, Method]:
    """A model as `ctsr upscale` applies it: at each strength, or once where it cannot be told."""
    scale, hu_range = model.architecture.scale, model.hu_range
    plain = by_network(model.net, scale, hu_range)
    if not model.architecture.conditional:
        return {name: lambda pair: plain(pair.lr)}

    def method(strength: Strength) -> Method:
        told = telling(plain, strength.conditions(noise_hu, scale, hu_range))
        return lambda pair: told(pair.lr)

    return {f"{name} {text}": method(strength_of(text)) for text in strengths}


def noise_maps(image: FloatArray, pixel_mm: float) -> list[PowerMap]:
    """Of the squares of a part of plain water, without its border."""
    inner = image[BORDER:-BORDER, BORDER:-BORDER]
    starts = range(0, inner.shape[0] - REGION + 1, REGION)
    squares = [inner[y : y + REGION, x : x + REGION] for y in starts for x in starts]
    return [power_map(square[None], pixel_mm) for square in squares]


def psnr(image: FloatArray, truth: FloatArray) -> float:
    """Of HU −1000 … 2000, without the border."""
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = float(np.mean((image[inner].astype(np.float64) - truth[inner]) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(PSNR_RANGE**2 / error))


def row_of(name: str, measured: Measured, pixel_mm: float) -> Row:
    """The figures of one method."""
    spectrum = measured.noise_spectrum(pixel_mm)
    return Row(
        method=name,
        psnr=measured.psnr[0],
        noise_hu=spectrum.std_hu,
        mean_frequency=spectrum.mean_per_mm,
        mtf50={hu: measured.transfer(hu, pixel_mm).mtf50_per_mm for hu in SHOWN_HU},
        d_prime=detectability(TASK, measured.transfer(TASK.contrast_hu, pixel_mm), spectrum),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    contrasts = " | ".join(f"MTF50 {hu:+g} HU" for hu in SHOWN_HU)
    lines = [
        f"| method | PSNR, dB | noise, HU | NPS mean, 1/mm | {contrasts} | d′ |",
        "|---|" + "---:|" * (len(SHOWN_HU) + 4),
    ]
    for row in rows:
        mtf50 = " | ".join(_number(row.mtf50[hu], 3) for hu in SHOWN_HU)
        # What is left in the truth is cupping of a tenth of an HU: no noise.
        noiseless = row.method == TRUTH
        noise = "0" if noiseless else f"{row.noise_hu:.1f}"
        mean = "–" if noiseless else _number(row.mean_frequency, 2)
        seen = "–" if noiseless else _number(row.d_prime, 2)
        level = "∞" if noiseless else f"{row.psnr:.1f}"
        lines.append(f"| {row.method} | {level} | {noise} | {mean} | {mtf50} | {seen} |")
    return "\n".join(lines)


def bounds(setting: str, rows: Sequence[Row]) -> list[str]:
    """One line of the table of bounds for each method beside bicubic."""
    base = next(row for row in rows if row.method == BICUBIC)
    lines = list[str]()
    for row in rows:
        if row.method in (BICUBIC, TRUTH):
            continue
        seen = _ratio(row.d_prime, base.d_prime)
        sharp = _ratio(row.mtf50[TASK.contrast_hu], base.mtf50[TASK.contrast_hu])
        noise = row.noise_hu / base.noise_hu
        kept = min(seen, sharp) >= SHARPER and noise <= QUIETER
        verdict = "kept" if kept else "not kept"
        lines.append(f"| {setting} | {row.method} | {seen:.2f} | {sharp:.2f} | {noise:.2f} | {verdict} |")
    return lines


def run(
    models: Sequence[str],
    *,
    kernels: Sequence[str],
    doses: Sequence[float],
    scans: int,
    pixel_mm: float,
    strengths: Sequence[str],
) -> None:
    """Print a table for each kernel and dose, then all bounds."""
    torch.set_num_threads(1)
    generators = {name: find_model(name) for name in models}
    bench = Bench.prepared(pixel_mm, scans)
    verdicts = list[str]()
    print(f"Pixels of {pixel_mm:g} mm made {pixel_mm / 2:g}; {scans} scans of each setting.")
    for name in kernels:
        for dose in doses:
            scanner = SimulatedScanner(KERNELS[name], replace(Exposure(), dose=dose), bench.geometry)
            setting = f"{name} kernel, dose {dose:g}"
            rows = bench.measure(scanner, generators, strengths)
            print(f"\n## {setting}\n\n{table(rows)}", flush=True)
            verdicts += bounds(setting, rows)
    print(
        f"\n## Over bicubic\n\nBounds: d′ (3 mm, 30 HU) and MTF50 at 30 HU ≥ {SHARPER:g}, noise ≤ {QUIETER:g}.\n"
        "\n| setting | method | d′ | MTF50 | noise | bounds |\n|---|---|---:|---:|---:|---|"
    )
    print("\n".join(verdicts))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _ratio(ours: float | None, theirs: float | None) -> float:
    return float("nan") if ours is None or not theirs else ours / theirs


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=["ctsr-x2"], help="×2 models, by name or file")
    parser.add_argument("--kernel", nargs="*", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--dose", nargs="*", type=float, default=list(DOSES), help="of full dose")
    parser.add_argument("--scans", type=int, default=8, help="of the discs, for each kernel and dose")
    parser.add_argument("--pixel", type=float, default=0.8, help="side of an LR pixel, mm; 0.6 to 1")
    parser.add_argument(
        "--strength",
        nargs="*",
        default=["standard", "strong"],
        help="conditional models: strengths by name, or denoise and sharpen as in 0.2,0.25",
    )
    asked = parser.parse_args()
    run(
        asked.model,
        kernels=asked.kernel,
        doses=asked.dose,
        scans=asked.scans,
        pixel_mm=asked.pixel,
        strengths=asked.strength,
    )


if __name__ == "__main__":
    main()
