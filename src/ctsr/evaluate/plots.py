"""What an evaluation looks like: bars, boxes, and the model against bicubic slice by slice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctsr.evaluate.methods import BICUBIC, METHODS, MODEL
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.statistics import mean_of
from ctsr.figures import COLORS, INK, QUIET, calm, new_figure, save_figure
from ctsr.metrics import METRICS

__all__ = ["bar_figure", "box_figure", "correlation_figure", "write_plots"]

SHOWN = ("PSNR", "SSIM", "MAE_HU", "RMSE_HU")
METHOD_COLORS = dict(zip(METHODS, COLORS, strict=False))
SHORT = {method: method.split("(")[-1].rstrip(")") for method in METHODS}
LABEL = {"fontsize": 9, "fontweight": "bold", "color": "white", "va": "center"}
NAMED_PATIENTS = len(COLORS) - 1
"""Up to this many patients get a colour and a name each; more are drawn alike."""


def write_plots(rows: Sequence[Row], subtitle: str, folder: Path) -> None:
    """Write `bar.png`, `box.png` and `correlation.png`; `subtitle` names split, model and window."""
    figures = {"bar": bar_figure, "box": box_figure, "correlation": correlation_figure}
    for name, make in figures.items():
        save_figure(make(rows, subtitle), folder / f"{name}.png")


def bar_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """Each method's mean over patients, with one dot for each patient."""
    figure, panels = _panels(f"Mean over patients; one dot is one patient\n{subtitle}")
    for axes, metric in zip(panels, SHOWN, strict=True):
        calm(axes, title=_label(metric))
        for place, method in enumerate(METHODS):
            patients = _by_patient(rows, method, metric)
            if not patients:
                continue
            mean = float(np.mean(patients))
            axes.barh(place, mean, color=METHOD_COLORS[method], height=0.62)
            axes.plot(patients, np.linspace(place - 0.2, place + 0.2, len(patients)), ".", color=INK, markersize=4)
            axes.text(0.03, place, f"{mean:.4g}", LABEL, transform=axes.get_yaxis_transform())
        _name_methods(axes)
    return figure


def box_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """How each method's values spread over the slices: quartiles, whiskers to 1.5 times their distance."""
    figure, panels = _panels(f"All slices\n{subtitle}")
    for axes, metric in zip(panels, SHOWN, strict=True):
        calm(axes, title=_label(metric))
        values = [[v for _, v in _values(rows, method, metric)] for method in METHODS]
        line = {"color": INK, "linewidth": 1}
        boxes = axes.boxplot(
            values,
            positions=range(len(METHODS)),
            orientation="horizontal",
            widths=0.6,
            patch_artist=True,
            medianprops=line | {"linewidth": 1.6},
            whiskerprops=line,
            capprops=line,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": QUIET},
        )
        for patch, method in zip(boxes["boxes"], METHODS, strict=True):
            patch.set(facecolor=METHOD_COLORS[method], edgecolor=INK, linewidth=0.8)
        axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        _name_methods(axes)
    return figure


def correlation_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """Each slice's value with the model against its value with bicubic interpolation, by patient."""
    figure, panels = _panels(f"One dot is one slice; on the line both methods are equal\n{subtitle}", height=3.3)
    for axes, metric in zip(panels, SHOWN, strict=True):
        calm(axes, title=_label(metric))
        _scatter(axes, rows, metric)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{SHORT[BICUBIC]} interpolation", fontsize=8, color=INK)
        axes.set_ylabel("Model", fontsize=8, color=INK)
        above = METRICS[metric].better == "higher"
        small = {"fontsize": 7, "color": QUIET, "transform": axes.transAxes}
        axes.text(0.03, 0.97, "model better" if above else "model worse", small, va="top", ha="left")
        axes.text(0.97, 0.03, "model worse" if above else "model better", small, va="bottom", ha="right")
    if 1 < len(_patients(rows)) <= NAMED_PATIENTS:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8, handletextpad=0.2)
    return figure


def _scatter(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    model = dict(_values(rows, MODEL, metric))
    pairs = [(key, value, model[key]) for key, value in _values(rows, BICUBIC, metric) if key in model]
    patients = _patients(rows)
    named = len(patients) <= NAMED_PATIENTS
    for i, patient in enumerate(patients):
        own = [(x, y) for key, x, y in pairs if key.patient_id == patient]
        # The grey of the first colour is that of an interpolation: patients begin with the second.
        color = COLORS[1 + i % (len(COLORS) - 1)] if named else COLORS[1]
        axes.scatter(*np.transpose(own or np.empty((0, 2))), s=10, color=color, alpha=0.7, linewidths=0, label=patient)
    if pairs:
        both = [value for pair in pairs for value in pair[1:]]
        axes.axline((min(both), min(both)), slope=1, color=QUIET, linewidth=0.8, zorder=0)


def _panels(title: str, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    figure = new_figure(3.4 * len(SHOWN), height + 0.5)
    figure.suptitle(title, fontsize=9, color=INK, ha="left", x=0.01)
    return figure, list(figure.subplots(1, len(SHOWN), squeeze=False)[0])


def _name_methods(axes: Axes) -> None:
    axes.set_yticks(range(len(METHODS)), [SHORT[method] if method != MODEL else "Model" for method in METHODS])
    axes.set_ylim(len(METHODS) - 0.45, -0.55)


def _label(metric: str) -> str:
    found = METRICS[metric]
    unit = "" if found.unit == "1" else f" [{found.unit}]"
    return f"{metric.removesuffix('_HU')}{unit}, {found.better} is better"


def _values(rows: Sequence[Row], method: str, metric: str) -> list[tuple[SliceRef, float]]:
    """The slices that have a value, and it."""
    return [
        (row.slice, value) for row in rows if row.method == method and (value := row.metrics[metric].value) is not None
    ]


def _by_patient(rows: Sequence[Row], method: str, metric: str) -> list[float]:
    means = (
        mean_of(row.metrics[metric] for row in rows if row.slice.patient_id == patient and row.method == method)
        for patient in _patients(rows)
    )
    return [mean.value for mean in means if mean.value is not None]


def _patients(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.slice.patient_id for row in rows))
