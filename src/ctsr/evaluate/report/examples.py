"""Slices to look at: the best, the middle and the worst of the first model, each beside what it is compared with."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ctsr.data.pairs import slice_pair
from ctsr.evaluate.methods import BICUBIC, reconstructions, short
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.tables import merit
from ctsr.figures import Panel, comparison_figure
from ctsr.hu import PRESETS, Window
from ctsr.metrics import METRICS

__all__ = ["choose_examples", "example_figure", "shown_window"]

WIDEST_SHOWN = 2000.0
"""HU. A picture in a window wider than this is flat and grey: soft tissue is shown instead, and named."""
DIFFERENCE_HU = 100.0
"""What is shown in full red and full blue."""
JUDGED_BY = ("PSNR", "SSIM", "LPIPS", "RMSE_HU")
"""The first of these that was computed ranks the slices."""


def choose_examples(plan: EvaluationPlan, rows: Sequence[Row]) -> dict[str, PlannedSlice]:
    """`comparison` (the middle of the first series), and `best`, `median` and `worst` by the first model's ranking.

    Args:
        plan: with its slices.
        rows: of the domain that is shown.
    """
    first = [planned for planned in plan.slices if planned.stored == plan.slices[0].stored]
    chosen = {"comparison": first[len(first) // 2]}
    metric = next((name for name in JUDGED_BY if name in plan.metrics), None)
    if metric is None:
        return chosen
    own = {row.slice: row.metrics[metric].value for row in rows if row.method == plan.model_methods[0]}
    by_ref = {planned.ref: planned for planned in plan.slices}
    scored = [(ref, value) for ref, value in own.items() if value is not None]
    ranked = sorted(scored, key=lambda item: merit(METRICS[metric].better, item[1]))
    if ranked:
        places = {"worst": 0, "median": len(ranked) // 2, "best": -1}
        chosen |= {name: by_ref[ranked[place][0]] for name, place in places.items()}
    return chosen


def shown_window(plan: EvaluationPlan) -> Window:
    """The metrics' window, or soft tissue where that would be flat and grey."""
    window = plan.domains[0].window.window
    return window if window.width <= WIDEST_SHOWN else PRESETS["soft_tissue"]


def example_figure(plan: EvaluationPlan, planned: PlannedSlice, rows: Sequence[Row]) -> Figure:
    """LR, an interpolation, SR of each model, HR, and what the first model's SR has over HR."""
    model, stored = plan.model, planned.stored
    pair = slice_pair(stored, planned.index, plan.sampler, model.hu_range)
    networks = [model.network for model in plan.models]
    images = reconstructions(networks, pair.lr, model.scale, plan.options.baselines)
    in_hu = {
        method: model.hu_range.to_hu(image[0].cpu().numpy()) for method, image in zip(plan.methods, images, strict=True)
    }
    baseline = BICUBIC if BICUBIC in in_hu else plan.baselines[-1]
    hr = model.hu_range.to_hu(pair.hr[0, 0].numpy())
    difference = in_hu[plan.model_methods[0]] - hr
    panels = [
        Panel("LR", model.hu_range.to_hu(pair.lr[0, 0].numpy()), f"{pair.lr.shape[-1]} × {pair.lr.shape[-2]}"),
        Panel(short(baseline), in_hu[baseline], _scores(rows, planned.ref, baseline)),
        *(Panel(_title(plan, one), in_hu[one], _scores(rows, planned.ref, one)) for one in plan.model_methods),
        Panel("HR", hr, "reference"),
        Panel(
            "SR − HR", difference, f"MAE {np.abs(difference).mean():.1f} HU, whole slice", signed_limit=DIFFERENCE_HU
        ),
    ]
    return comparison_figure(
        panels,
        shown_window(plan),
        title=f"{stored.patient_id}, slice {planned.index}; metrics in {plan.domains[0].text}",
        pixel_aspect=stored.pixel_spacing[0] / stored.pixel_spacing[1],
    )


def _title(plan: EvaluationPlan, method: str) -> str:
    return "SR" if len(plan.models) == 1 else short(method)


def _scores(rows: Sequence[Row], ref: SliceRef, method: str) -> str:
    row = next(row for row in rows if row.slice == ref and row.method == method)
    found = {name: row.metrics[name].value for name in ("PSNR", "SSIM") if name in row.metrics}
    words = {"PSNR": "{:.2f} dB", "SSIM": "SSIM {:.4f}"}
    return ", ".join(words[name].format(value) for name, value in found.items() if value is not None)
