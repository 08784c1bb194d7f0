"""`python -m benchmarks.pictures CT FOLDER`: real series at every strength, beside bicubic interpolation, as pictures.

The middle slice of each series of `SHOWN` is taken as it is; CT holds the roots that they are named below. The
pictures of the documentation are made with it (FOLDER `docs/images`).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from PIL import Image

from ctsr.checkpoint import Model, find_model
from ctsr.exams import read_slice, scan
from ctsr.figures import Detail, Panel, comparison_figure, save_figure
from ctsr.hu import PRESETS
from ctsr.infer.conditions import StrengthName
from ctsr.quality.before_after import BeforeAfter
from ctsr.upscale.options import UpscaleOptions
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
    Shown("real-rods", "pairs/SB-Catphan/S2_RamLak_0.908mm", "soft_tissue"),
    Shown("real-cone-beam", "more/4D-Lung-100_HM10395", "soft_tissue"),
)
COLOURS = 40
"""Of a picture: greys, and the frame of the detail. A quarter of the bytes."""


def main() -> None:
    """Draw the pictures and name them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder of real CT")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives the pictures")
    parser.add_argument("--model", default="ctsr-x2", help="bundled model, run folder or checkpoint")
    given = parser.parse_args()
    model = find_model(given.model)
    given.folder.mkdir(parents=True, exist_ok=True)
    for shown in SHOWN:
        path = given.folder / f"{shown.name}.png"
        _draw(shown, given.ct / shown.folder, model, path)
        print(path, flush=True)


def _draw(shown: Shown, folder: Path, model: Model, path: Path) -> None:
    series = next(iter(scan(folder).all_series()))
    index = len(series.slices) // 2
    pixels = read_slice(series, index)
    panels = [Panel("as it is", pixels.hu)]
    for strength in get_args(StrengthName):
        options = UpscaleOptions(strength=strength)
        sample = super_resolve_sample([pixels], model, series.pixel_spacing, options)
        if len(panels) == 1:
            panels.append(Panel("bicubic", sample.bicubic[0], _noise(sample.tuning.bicubic)))
        panels.append(Panel(strength, sample.results[0], _noise(sample.tuning.before_after)))
    figure = comparison_figure(
        panels,
        PRESETS[shown.preset],
        title=f"{folder.name}, slice {index + 1} of {len(series.slices)}, kernel {series.kernel or 'unknown'}",
        detail=shown.detail,
        pixel_aspect=series.pixel_spacing[0] / series.pixel_spacing[1],
    )
    save_figure(figure, path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _noise(measured: BeforeAfter) -> str:
    return "" if measured.noise_ratio is None else f"noise ×{measured.noise_ratio:.2f}"


if __name__ == "__main__":
    main()
