"""A look at a result: one slice before and after, with interpolation between them for comparison."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.hu import PRESETS, FloatArray
from ctsr.models.interpolation import enlarge
from ctsr.quality.before_after import BeforeAfter
from ctsr.upscale.plan import Job
from ctsr.upscale.tuning import Tuning
from ctsr.volume import Plane

WINDOW = PRESETS["soft_tissue"]


@dataclass(frozen=True, eq=False)
class LookedAt:
    """One slice as it came and as it became, HU."""

    index: int
    before: FloatArray
    """(rows, columns)."""
    after: FloatArray
    """(rows, columns) on the grid of the result, on the same field of view."""


def draw(job: Job, seen: LookedAt, tuning: Tuning, path: Path) -> None:
    """Write the picture: the source, bicubic interpolation and the result, whole and in the busiest detail."""
    series = job.series
    smooth = enlarge(torch.from_numpy(seen.before)[None, None], job.model.scale, "bicubic")[0, 0].numpy()
    panels = [
        Panel("before", seen.before, _size(series.plane(seen.index))),
        Panel("bicubic", smooth, _size(job.network_plane(seen.index)) + _noise(tuning.bicubic)),
        Panel("super-resolution", seen.after, _size(job.plane(seen.index)) + _noise(tuning.before_after)),
    ]
    figure = comparison_figure(
        panels,
        WINDOW,
        title=f"{series.patient_id}, slice {seen.index + 1} of {len(series.slices)}, not for diagnosis",
        pixel_aspect=series.pixel_spacing[0] / series.pixel_spacing[1],
    )
    save_figure(figure, path)


def _noise(measured: BeforeAfter) -> str:
    return "" if measured.noise_ratio is None else f", noise ×{measured.noise_ratio:.2f}"


def _size(plane: Plane) -> str:
    spacing = " × ".join(dict.fromkeys(f"{mm:.3g}" for mm in plane.spacing))
    return f"{plane.shape[0]} × {plane.shape[1]}, {spacing} mm"
