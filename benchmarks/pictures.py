"""`python -m benchmarks.pictures CT FOLDER`: real series at every strength, beside bicubic interpolation, as pictures.

The middle slice of each series of `SHOWN` is taken as it is, that of `DEGRADED` is degraded with the defaults of the
command line and shown beside the truth; CT holds the roots that they are named below. The pictures of the
documentation are made with it (FOLDER `docs/images`). With `--sheets ROOT …`, every series below each ROOT gets a sheet
of details instead: soft tissue, lung and bone, as it is, bicubic and at every strength.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from ctsr.checkpoint import Model, find_model
from ctsr.degrade import Degradation, DegradationSampler, degrade_hu
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.exams import read_slice, scan
from ctsr.figures import Detail, Panel, busiest_detail, comparison_figure, new_figure, save_figure
from ctsr.hu import PRESETS, FloatArray, HURange
from ctsr.infer import by_interpolation, telling
from ctsr.infer.conditions import StrengthName
from ctsr.quality import BeforeAfter
from ctsr.reporting import safe_name
from ctsr.series import Series
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.tuning import super_resolve_sample


@dataclass(frozen=True)
class Shown:
    """A series, and how its picture is drawn."""

    name: str
    folder: str
    """Below CT."""
    preset: str
    """Window."""
    detail: Detail | None = None
    """In pixels of the result; the busiest when None."""


SHOWN = (
    Shown("real-liver", "patients/C3L-00189", "soft_tissue"),
    Shown("real-lung", "patients/CMB-CRC-MSB-01068", "lung"),
    Shown("real-brain", "more/HN_P001", "brain"),
    Shown("real-rods", "pairs/SB-Catphan/S2_RamLak_0.908mm", "soft_tissue"),
    Shown("real-cone-beam", "more/4D-Lung-100_HM10395", "soft_tissue"),
)
DEGRADED = Shown("real", "patients/LIDC-IDRI-0001", "soft_tissue")
DIFFERENCE_HU = 100.0
"""Of SR − HR, where its colours end."""
SHEET_PRESETS = ("soft_tissue", "lung", "bone")
SHEET_DETAIL = 160
"""Pixels of the result."""
COLOURS = 40
"""Of a picture: greys, and the frame of the detail. A quarter of the bytes."""


def main() -> None:
    """Draw the pictures and name them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder of real CT")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives the pictures")
    parser.add_argument("--model", default="ctsr-x2", help="bundled model, run folder or checkpoint")
    parser.add_argument("--sheets", type=Path, nargs="+", default=[], metavar="ROOT", help="draw sheets of all series")
    given = parser.parse_args()
    model = find_model(given.model)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.sheets:
        for number, series in enumerate(series for root in given.sheets for series in scan(root).all_series()):
            path = given.folder / f"{number:02d}-{safe_name(series.path.name)}.png"
            _sheet(series, model, path)
            print(path, flush=True)
        return
    for shown in SHOWN:
        path = given.folder / f"{shown.name}.png"
        _draw(shown, given.ct / shown.folder, model, path)
        print(path, flush=True)
    path = given.folder / f"{DEGRADED.name}.png"
    _draw_degraded(DEGRADED, given.ct / DEGRADED.folder, load_model_under_test(given.model, device="cpu"), path)
    print(path, flush=True)


def _draw_degraded(shown: Shown, folder: Path, model: ModelUnderTest, path: Path) -> None:
    """LR, bicubic, SR, HR and the difference of SR and HR; the model is told what LR was made with."""
    series = next(iter(scan(folder).all_series()))
    index = len(series.slices) // 2
    scale, hu_range = model.scale, model.hu_range
    hr = np.clip(read_slice(series, index).hu, hu_range.low, hu_range.high)
    draw = DegradationSampler(Degradation(scale=scale)).draw(series.patient_id, series.series_uid, "", index)
    lr = degrade_hu(hr, draw.params, draw.noise_seed, scale=scale, hu_range=hu_range)
    bicubic = by_interpolation("bicubic", scale, hu_range)(lr)
    sr = telling(model.method, draw.params)(lr)
    panels = [
        Panel("LR", lr, f"{lr.shape[1]} × {lr.shape[0]}"),
        Panel("bicubic", bicubic, f"{_psnr(bicubic, hr, hu_range):.2f} dB"),
        Panel("SR", sr, f"{_psnr(sr, hr, hu_range):.2f} dB"),
        Panel("HR", hr, "reference"),
        Panel("SR − HR", sr - hr, f"MAE {np.abs(sr - hr).mean():.1f} HU", DIFFERENCE_HU),
    ]
    told = f"blur σ {draw.params.blur_sigma:.2f} pixels, noise {draw.params.noise_std * hu_range.hu_per_unit:.1f} HU"
    figure = comparison_figure(panels, PRESETS[shown.preset], title=f"{_title(series)}; {told}", detail=shown.detail)
    save_figure(figure, path)


def _psnr(image: FloatArray, truth: FloatArray, hu_range: HURange) -> float:
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return 10 * float(np.log10((hu_range.high - hu_range.low) ** 2 / error))


def _draw(shown: Shown, folder: Path, model: Model, path: Path) -> None:
    series = next(iter(scan(folder).all_series()))
    figure = comparison_figure(
        _panels(series, model),
        PRESETS[shown.preset],
        title=_title(series),
        detail=shown.detail,
        pixel_aspect=series.pixel_spacing[0] / series.pixel_spacing[1],
    )
    save_figure(figure, path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _sheet(series: Series, model: Model, path: Path) -> None:
    """The busiest detail of each of `SHEET_PRESETS`, a row each."""
    panels = _panels(series, model)
    finest = panels[-1].hu
    scale = finest.shape[0] // panels[0].hu.shape[0]
    figure = new_figure(3.2 * len(panels), 3.2 * len(SHEET_PRESETS) + 0.5)
    grid = figure.subplots(len(SHEET_PRESETS), len(panels), squeeze=False)
    for axes, preset in zip(grid, SHEET_PRESETS, strict=True):
        window = PRESETS[preset]
        detail = busiest_detail(finest, window, SHEET_DETAIL)
        for axis, panel in zip(axes, panels, strict=True):
            finer = finest.shape[0] // panel.hu.shape[0]
            rows = slice(detail.top // finer, (detail.top + detail.size) // finer)
            columns = slice(detail.left // finer, (detail.left + detail.size) // finer)
            axis.imshow(window.to_01(panel.hu[rows, columns]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(f"{panel.title} {panel.caption}", fontsize=9)
            axis.set_axis_off()
    figure.suptitle(f"{_title(series)}; {', '.join(SHEET_PRESETS)}; x{scale}", fontsize=10)
    save_figure(figure, path)


def _panels(series: Series, model: Model) -> list[Panel]:
    """The middle slice: as it is, bicubic, and at every strength."""
    pixels = read_slice(series, len(series.slices) // 2)
    panels = [Panel("as it is", pixels.hu)]
    for strength in get_args(StrengthName):
        options = UpscaleOptions(strength=strength)
        sample = super_resolve_sample([pixels], model, series.pixel_spacing, options)
        if len(panels) == 1:
            panels.append(Panel("bicubic", sample.bicubic[0], _noise(sample.tuning.bicubic)))
        panels.append(Panel(strength, sample.results[0], _noise(sample.tuning.before_after)))
    return panels


def _title(series: Series) -> str:
    count = len(series.slices)
    return f"{series.path.name}, slice {count // 2 + 1} of {count}, kernel {series.kernel or 'unknown'}"


def _noise(measured: BeforeAfter) -> str:
    return "" if measured.noise_ratio is None else f"noise ×{measured.noise_ratio:.2f}"


if __name__ == "__main__":
    main()
