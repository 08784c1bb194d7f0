"""What an evaluation leaves behind once all rows are there: summary, plots, a picture, and flat copies."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from matplotlib.figure import Figure

from ctsr.checkpoint.meta import current_versions
from ctsr.data.pairs import slice_pair
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.methods import BICUBIC, METHODS, MODEL, reconstructions
from ctsr.evaluate.plan import PlannedSlice
from ctsr.evaluate.plots import write_plots
from ctsr.evaluate.rows import Row
from ctsr.evaluate.study import Study
from ctsr.evaluate.summary import SeriesDraws, degradation_part, domains, statistics_part, to_json
from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.files import write_atomically
from ctsr.hu import PRESETS, Window

__all__ = ["write_results"]

WIDEST_SHOWN = 2000.0
"""HU. A picture in a window wider than this is flat and grey: soft tissue is shown instead, and named."""


def write_results(study: Study, rows: Sequence[Row], folder: ResultFolder) -> None:
    """Write everything but `metrics.csv`, which has grown by itself, and `config.json`, which was there first."""
    if not study.options.no_plots:
        write_plots(rows, study.title, folder.plots)
        middle = study.slices[len(_first_series(study)) // 2]
        save_figure(_picture(study, middle, rows), folder.plots / "comparison.png")
    summary = to_json(summary_of(study, rows, folder))
    write_atomically(folder.summary_json, summary)
    if study.options.flat_names:
        output = study.options.output_dir
        write_atomically(output / f"metrics_{study.flat_stem}.csv", folder.metrics_csv.read_bytes())
        write_atomically(output / f"summary_{study.flat_stem}.json", summary)


def summary_of(study: Study, rows: Sequence[Row], folder: ResultFolder) -> dict[str, Any]:
    """The document of `summary.json`."""
    subject, options = study.subject, study.options
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "split": options.split,
        "num_patients": len(study.patients),
        "num_slices": len(study.slices),
        "patients": list(study.patients),
        "methods": list(METHODS),
        "paths": {
            "root": str(options.root),
            "model_path": str(subject.generator.path),
            "output_dir": str(options.output_dir),
            "metrics_csv": str(folder.metrics_csv),
            "summary_json": str(folder.summary_json),
            "plots": None if options.no_plots else str(folder.plots),
        },
        "config": study.config(),
        "split_source": study.split_source,
        "model": {
            "name": subject.name,
            "experiment": subject.experiment(study.sampler.degradation.mode),
            "architecture": str(subject.generator.architecture),
            "scale": subject.scale,
            "sha256": subject.generator.sha256,
            "hu_range": [subject.hu_range.low, subject.hu_range.high],
        },
        "window": {"tag": study.window.tag} | _window(study.window.window),
        "metrics": domains(study.window, subject.hu_range),
        "pi_kind": None,
        **degradation_part(study.sampler, _draws(study)),
        **statistics_part(rows),
        "failures": list(study.failures),
        "versions": current_versions(),
    }


def _window(window: Window) -> dict[str, float]:
    return {"center": window.center, "width": window.width, "low": window.low, "high": window.high}


def _draws(study: Study) -> list[SeriesDraws]:
    """What the sampler draws for each slice: made again rather than remembered, as it is a pure function."""
    draws: dict[tuple[str, str], SeriesDraws] = {}
    for planned in study.slices:
        ref = planned.ref
        draw = study.sampler.draw(ref.patient_id, ref.series_uid, ref.sop_instance_uid, ref.slice_index)
        key = (ref.patient_id, ref.series_uid)
        draws.setdefault(key, SeriesDraws(*key)).draws.append((ref, draw))
    return list(draws.values())


def _first_series(study: Study) -> list[PlannedSlice]:
    return [planned for planned in study.slices if planned.stored == study.slices[0].stored]


def _picture(study: Study, planned: PlannedSlice, rows: Sequence[Row]) -> Figure:
    """LR, bicubic, SR and HR of one slice."""
    subject, stored = study.subject, planned.stored
    pair = slice_pair(stored, planned.index, study.sampler, subject.hu_range)
    images = reconstructions(subject.generator.net, pair.lr, subject.scale)
    by_method = dict(zip(METHODS, images, strict=True))
    shown = {"LR": pair.lr[0], "Bicubic": by_method[BICUBIC], "SR": by_method[MODEL], "HR": pair.hr[0]}
    captions = {"LR": f"{pair.lr.shape[-1]} × {pair.lr.shape[-2]}", "HR": "reference"}
    captions |= {"Bicubic": _scores(rows, planned, BICUBIC), "SR": _scores(rows, planned, MODEL)}
    panels = [
        Panel(name, subject.hu_range.to_hu(image[0].cpu().numpy()), captions[name]) for name, image in shown.items()
    ]
    window = study.window.window if study.window.window.width <= WIDEST_SHOWN else PRESETS["soft_tissue"]
    return comparison_figure(
        panels,
        window,
        title=f"{stored.patient_id}, slice {planned.index}; metrics in {study.window.text}",
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
