"""What an evaluation leaves behind once all rows are there: summary, plots, a picture, and flat copies."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from matplotlib.figure import Figure

from ctsr.checkpoint.meta import current_versions
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Draw
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.methods import BICUBIC, METHODS, MODEL, reconstructions
from ctsr.evaluate.perceptual import lpips_part
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.plots import write_plots
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.summary import SeriesDraws, degradation_part, domains, statistics_part
from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.files import write_atomically, write_json
from ctsr.hu import PRESETS, Window

__all__ = ["write_results"]

WIDEST_SHOWN = 2000.0
"""HU. A picture in a window wider than this is flat and grey: soft tissue is shown instead, and named."""


def write_results(plan: EvaluationPlan, rows: Sequence[Row], folder: ResultFolder) -> None:
    """Write everything but `metrics.csv`, which has grown by itself, and `config.json`, which was there first."""
    if not plan.options.no_plots:
        write_plots(rows, plan.title, folder.plots)
        middle = plan.slices[len(_first_series(plan)) // 2]
        save_figure(_picture(plan, middle, rows), folder.plots / "comparison.png")
    write_json(folder.summary_json, summary_of(plan, rows, folder))
    if plan.options.flat_names:
        output = plan.options.output_dir
        write_atomically(output / f"metrics_{plan.flat_stem}.csv", folder.metrics_csv.read_bytes())
        write_atomically(output / f"summary_{plan.flat_stem}.json", folder.summary_json.read_bytes())


def summary_of(plan: EvaluationPlan, rows: Sequence[Row], folder: ResultFolder) -> dict[str, Any]:
    """The document of `summary.json`."""
    model, options = plan.model, plan.options
    roots = [str(root) for root in options.root]
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "split": options.split,
        "num_patients": len(plan.patients),
        "num_slices": len(plan.slices),
        "patients": list(plan.patients),
        "methods": list(METHODS),
        "paths": {
            "root": roots[0] if len(roots) == 1 else roots,
            "model_path": str(model.generator.path),
            "output_dir": str(options.output_dir),
            "metrics_csv": str(folder.metrics_csv),
            "summary_json": str(folder.summary_json),
            "plots": None if options.no_plots else str(folder.plots),
        },
        "config": plan.config(),
        "split_source": plan.split_source,
        "model": {
            "name": model.name,
            "experiment": model.experiment(plan.sampler.degradation.mode),
            "architecture": str(model.generator.architecture),
            "scale": model.scale,
            "sha256": model.generator.sha256,
            "blend": None if model.generator.blend is None else asdict(model.generator.blend),
            "hu_range": [model.hu_range.low, model.hu_range.high],
        },
        "window": {"tag": plan.window.tag} | _window(plan.window.window),
        "metrics": domains(plan.window, model.hu_range),
        "lpips": lpips_part(plan.lpips),
        "pi_kind": None,
        **degradation_part(plan.sampler, _draws(plan)),
        **statistics_part(rows),
        "failures": list(plan.failures),
        "versions": current_versions(),
    }


def _window(window: Window) -> dict[str, float]:
    return {"center": window.center, "width": window.width, "low": window.low, "high": window.high}


def _draws(plan: EvaluationPlan) -> list[SeriesDraws]:
    """What the sampler draws for each slice: made again rather than remembered, as it is a pure function."""
    draws: dict[tuple[str, str], list[tuple[SliceRef, Draw]]] = {}
    for planned in plan.slices:
        ref = planned.ref
        # By the series' own UID, as `slice_pair` does: the number that rows may have behind it is theirs alone.
        draw = plan.sampler.draw(ref.patient_id, planned.stored.series_uid, ref.sop_instance_uid, ref.slice_index)
        draws.setdefault((ref.patient_id, ref.series_uid), []).append((ref, draw))
    return [SeriesDraws(*key, drawn) for key, drawn in draws.items()]


def _first_series(plan: EvaluationPlan) -> list[PlannedSlice]:
    return [planned for planned in plan.slices if planned.stored == plan.slices[0].stored]


def _picture(plan: EvaluationPlan, planned: PlannedSlice, rows: Sequence[Row]) -> Figure:
    """LR, bicubic, SR and HR of one slice."""
    model, stored = plan.model, planned.stored
    pair = slice_pair(stored, planned.index, plan.sampler, model.hu_range)
    images = reconstructions(model.network, pair.lr, model.scale)
    by_method = dict(zip(METHODS, images, strict=True))
    shown = {"LR": pair.lr[0], "Bicubic": by_method[BICUBIC], "SR": by_method[MODEL], "HR": pair.hr[0]}
    captions = {"LR": f"{pair.lr.shape[-1]} × {pair.lr.shape[-2]}", "HR": "reference"}
    captions |= {"Bicubic": _scores(rows, planned, BICUBIC), "SR": _scores(rows, planned, MODEL)}
    panels = [
        Panel(name, model.hu_range.to_hu(image[0].cpu().numpy()), captions[name]) for name, image in shown.items()
    ]
    window = plan.window.window if plan.window.window.width <= WIDEST_SHOWN else PRESETS["soft_tissue"]
    return comparison_figure(
        panels,
        window,
        title=f"{stored.patient_id}, slice {planned.index}; metrics in {plan.window.text}",
        pixel_aspect=stored.pixel_spacing[0] / stored.pixel_spacing[1],
    )


def _scores(rows: Sequence[Row], planned: PlannedSlice, method: str) -> str:
    row = next(row for row in rows if row.slice == planned.ref and row.method == method)
    psnr, ssim = row.metrics["PSNR"], row.metrics["SSIM"]
    words = (
        "" if psnr.value is None else f"{psnr.value:.2f} dB",
        "" if ssim.value is None else f"SSIM {ssim.value:.4f}",
    )
    return ", ".join(word for word in words if word)
