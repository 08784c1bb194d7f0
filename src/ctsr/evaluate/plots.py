"""Plots of an evaluation: bars, boxes, profiles along the patient, correlations, agreement in HU, example slices."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ctsr.evaluate.examples import Agreement, ExampleSlice
from ctsr.evaluate.methods import BICUBIC, short_name
from ctsr.evaluate.output_folder import Row, SliceRef
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.statistics import NOBODY, People, methods_of, patient_means
from ctsr.figures import (
    ACCENT,
    COLORS,
    INK,
    QUIET,
    Panel,
    calm,
    comparison_figure,
    method_colors,
    new_figure,
    save_figure,
)
from ctsr.hu import PRESETS, Window
from ctsr.metrics import METRICS, plain_metric

SHOWN = ("PSNR", "SSIM", "MAE_HU", "RMSE_HU")
"""Metrics that are plotted where they were computed; where none was, the first four that were."""
PAIRED = "#c9ced6"
"""Colour of lines that join what is of one patient."""
NAMED_PATIENTS = len(COLORS) - 1
"""Up to this many patients get a colour and a name each; more are drawn in one colour."""
CHARACTERS_PER_INCH = 14
"""Approximately, at the 9 points of a title."""
LONGEST_NAME = 24
"""Characters of a patient's name that an axis has room for."""
MOST_SERIES = 12
"""Series drawn along the patient; further ones are in the tables only."""
WIDEST_SHOWN = 2000.0
"""HU. In a wider window a picture is flat and grey: the soft-tissue window is used instead, and named."""
DIFFERENCE_HU = 100.0
"""Shown in full red and full blue."""


def write_plots(rows: Sequence[Row], plan: EvaluationPlan, agreement: Mapping[str, Agreement], folder: Path) -> None:
    """Write the plots of the first domain as PNG files.

    Args:
        rows: of the domain.
        plan: gives split, models and domain.
        agreement: method → agreement with HR, see `ctsr.evaluate.examples.agreement`.
        folder: receives the files.
    """
    subtitle = f"{plan.title}, metrics in {plan.domains[0].title}"
    models = plan.model_methods
    figures: Mapping[str, Callable[[Sequence[Row], str], Figure]] = {
        "bar": lambda rows, subtitle: means_figure(rows, subtitle, plan.caveats.people),
        "bar_patients": patients_figure,
        "box": box_figure,
        "position": position_figure,
        "correlation": lambda rows, subtitle: correlation_figure(rows, subtitle, models[0]),
        "heatmap": lambda rows, subtitle: heat_figure(rows, subtitle, models[0]),
    }
    for name, make in figures.items():
        save_figure(make(rows, subtitle), folder / f"{name}.png")
    # In HU and on blocks: it depends on neither window nor mask.
    save_figure(agreement_figure(agreement, plan.title), folder / "bland_altman.png")


def means_figure(rows: Sequence[Row], subtitle: str, people: People = NOBODY) -> Figure:
    """Each method's mean over patients, and each patient's means joined by a line from method to method.

    `people` as for `ctsr.evaluate.statistics.patient_level`.
    """
    methods = methods_of(rows)
    title = f"Mean over patients (large); one dot is one patient, a line joins it from method to method\n{subtitle}"
    figure, panels = _panels(rows, title, _height(methods))
    for axes, metric in panels:
        by_method = [patient_means(rows, method, metric, people) for method in methods]
        for patient in by_method[0]:
            means = [(found[patient].value, place) for place, found in enumerate(by_method) if patient in found]
            line = [(value, place) for value, place in means if value is not None]
            axes.plot([v for v, _ in line], [p for _, p in line], color=PAIRED, linewidth=0.8, zorder=1)
        for place, method in enumerate(methods):
            patients = [mean.value for mean in by_method[place].values() if mean.value is not None]
            if not patients:
                continue
            mean, color = float(np.mean(patients)), _color(methods, method)
            axes.plot(patients, [place] * len(patients), "o", color=color, markersize=3.5, alpha=0.6, zorder=2)
            axes.plot([mean], [place], "D", color=color, markeredgecolor=INK, markersize=7, zorder=3)
            axes.annotate(
                f"{mean:.4f}" if METRICS[metric].unit == "1" else f"{mean:.2f}",
                (mean, place),
                (0, 8),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )
        axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        axes.margins(x=0.12)
        _name_methods(axes, methods, first=axes is panels[0][0])
        axes.set_ylim(len(methods) - 0.5, -0.75)  # room for the number above the first
    return figure


def patients_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """A line for each patient with a dot for every method: the means over slices."""
    methods, patients = methods_of(rows), _patients(rows)
    figure, panels = _panels(rows, f"Mean over the slices of each patient\n{subtitle}", 1.2 + 0.3 * len(patients))
    for axes, metric in panels:
        by_method = {method: patient_means(rows, method, metric) for method in methods}
        for place, patient in enumerate(patients):
            known = [found[patient].value for found in by_method.values() if patient in found]
            values = [value for value in known if value is not None]
            if values:
                axes.plot([min(values), max(values)], [place, place], color=PAIRED, linewidth=1, zorder=1)
        for method, found in by_method.items():
            dots = [(mean.value, patients.index(patient)) for patient, mean in found.items() if mean.value is not None]
            x, y = [value for value, _ in dots], [place for _, place in dots]
            axes.plot(x, y, "o", color=_color(methods, method), markersize=5.5, label=short_name(method), zorder=2)
        axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        axes.margins(x=0.06)
        axes.set_yticks(range(len(patients)), [_brief(name) for name in patients] if axes is panels[0][0] else [])
        axes.set_ylim(len(patients) - 0.5, -0.5)
    _legend(figure, panels[0][0])
    return figure


def box_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """Distribution of each method's values over the slices: quartiles, whiskers to 1.5 times their distance."""
    methods = methods_of(rows)
    figure, panels = _panels(rows, f"All slices\n{subtitle}", _height(methods))
    for axes, metric in panels:
        line = {"color": INK, "linewidth": 1}
        boxes = axes.boxplot(
            [list(_values(rows, method, metric).values()) for method in methods],
            positions=range(len(methods)),
            orientation="horizontal",
            widths=0.6,
            patch_artist=True,
            medianprops=line | {"linewidth": 1.6},
            whiskerprops=line,
            capprops=line,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": QUIET},
        )
        for patch, method in zip(boxes["boxes"], methods, strict=True):
            patch.set(facecolor=_color(methods, method), edgecolor=INK, linewidth=0.8)
        axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        _name_methods(axes, methods, first=axes is panels[0][0])
    return figure


def position_figure(rows: Sequence[Row], subtitle: str) -> Figure:
    """Each method's values along the patient, one panel for each series."""
    methods, metric = methods_of(rows), _shown(rows)[0]
    every = list(dict.fromkeys((row.slice.patient_id, row.slice.series_uid) for row in rows))
    series = every[:MOST_SERIES]
    part = "" if len(series) == len(every) else f", the first {len(series)} of {len(every)} series"
    across = min(3, len(series))
    down = -(-len(series) // across)
    figure = new_figure(4.5 * across, 2.3 * down + 0.8)
    _head(figure, f"{metric} along the patient{part}\n{subtitle}")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, (patient, uid) in zip(panels, series, strict=False):
        calm(axes, title=_brief(patient))
        for method in methods:
            own = [
                (r.z_mm, v)
                for r, v in _values(rows, method, metric).items()
                if (r.patient_id, r.series_uid) == (patient, uid)
            ]
            axes.plot(
                *np.transpose(own or np.empty((0, 2))),
                ".-",
                color=_color(methods, method),
                label=short_name(method),
                markersize=3,
                linewidth=1,
            )
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("z, mm", fontsize=8, color=INK)
        axes.set_ylabel(_unit(metric), fontsize=8, color=INK)
    for axes in panels[len(series) :]:
        axes.set_axis_off()
    _legend(figure, panels[0])
    return figure


def correlation_figure(rows: Sequence[Row], subtitle: str, model: str) -> Figure:
    """Each slice's value by the model against its value by an interpolation, coloured by patient."""
    methods = methods_of(rows)
    baseline = BICUBIC if BICUBIC in methods else methods[0]
    figure, panels = _panels(rows, f"One dot is one slice; on the line both methods are equal\n{subtitle}", 3.3)
    for axes, metric in panels:
        _scatter(axes, rows, metric, (baseline, model))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(baseline, fontsize=8, color=INK)
        axes.set_ylabel(short_name(model), fontsize=8, color=INK)
        if METRICS[metric].better == "nearer 0":
            continue
        above = METRICS[metric].better == "higher"
        small = {"fontsize": 7, "color": QUIET, "transform": axes.transAxes}
        axes.text(0.03, 0.97, "model better" if above else "model worse", small, va="top", ha="left")
        axes.text(0.97, 0.03, "model worse" if above else "model better", small, va="bottom", ha="right")
    if 1 < len(_patients(rows)) <= NAMED_PATIENTS:
        _legend(figure, panels[0][0])
    return figure


def heat_figure(rows: Sequence[Row], subtitle: str, model: str) -> Figure:
    """Spearman's rank correlation over the slices, of each pair of metrics of the model."""
    names = [name for name in METRICS if len(set(_values(rows, model, name).values())) > 2]
    figure = new_figure(1.8 + 0.42 * max(6, len(names)), 1.6 + 0.42 * max(4, len(names)))
    _head(figure, f"Rank correlation over slices, {short_name(model)}\n{subtitle}")
    axes = figure.subplots()
    if not names:
        axes.text(0.5, 0.5, "too few slices", ha="center", color=INK, transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    values = {name: _values(rows, model, name) for name in names}
    rows_of_matrix = [_rank_correlations(values[name], values) for name in names]
    matrix = np.array(rows_of_matrix)
    axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    shown = [plain_metric(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=60, ha="right", fontsize=7, color=INK)
    axes.set_yticks(range(len(names)), shown, fontsize=7, color=INK)
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            color = "white" if abs(value) > 0.6 else INK
            axes.text(j, i, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center", fontsize=6, color=color)
    axes.tick_params(length=0)
    return figure


def _rank_correlations(values: Mapping[SliceRef, float], others: Mapping[str, Mapping[SliceRef, float]]) -> list[float]:
    return [_rank_correlation(values, other) for other in others.values()]


def _rank_correlation(x: Mapping[SliceRef, float], y: Mapping[SliceRef, float]) -> float:
    both = [ref for ref in x if ref in y]
    x_values, y_values = [x[ref] for ref in both], [y[ref] for ref in both]
    if len(both) < 3 or len(set(x_values)) == 1 or len(set(y_values)) == 1:
        return float("nan")
    return float(cast("tuple[float, float]", stats.spearmanr(x_values, y_values))[0])


def agreement_figure(by_method: Mapping[str, Agreement], subtitle: str) -> Figure:
    """Bland–Altman: the difference of mean HU against their mean, in blocks of the middle slice of each patient."""
    figure = new_figure(3.9 * len(by_method), 3.6)
    block = next(iter(by_method.values())).block
    what = f"HU of {block}×{block} blocks of the body, middle slice of each series; lines: bias, limits of agreement"
    _head(figure, f"{what}\n{subtitle}")
    panels = list(figure.subplots(1, len(by_method), squeeze=False, sharey=True)[0])
    for axes, (method, found) in zip(panels, by_method.items(), strict=True):
        # Beside lines that lie close together the numbers would cover each other.
        numbers = f"bias {found.bias:.1f}, limits {found.low:.1f} … {found.high:.1f} HU".replace("-", "−")
        calm(axes, title=f"{short_name(method)}\n{numbers}")
        axes.scatter(found.mean_hu, found.difference_hu, s=2, color=COLORS[1], alpha=0.35, linewidths=0)
        for level, style in ((found.bias, "-"), (found.low, "--"), (found.high, "--")):
            axes.axhline(level, color=ACCENT, linewidth=1, linestyle=style)
        axes.set_xlabel("mean of both, HU", fontsize=8, color=INK)
    panels[0].set_ylabel("image − HR, HU", fontsize=8, color=INK)
    return figure


def example_figure(plan: EvaluationPlan, example: ExampleSlice, rows: Sequence[Row]) -> Figure:
    """LR, an interpolation, SR of each model, HR, and the first model's SR minus HR.

    Args:
        plan: names methods and domain.
        example: the slice.
        rows: of the first domain; the slice's are written below its images.
    """
    planned, lr, images = example.planned, example.lr_hu, example.images_hu
    baseline = BICUBIC if BICUBIC in images else plan.baselines[-1]
    difference = images[plan.model_methods[0]] - example.hr_hu
    models = [
        Panel("SR" if len(plan.models) == 1 else short_name(name), images[name], _scores(rows, planned.ref, name))
        for name in plan.model_methods
    ]
    panels = [
        Panel("LR", lr, f"{lr.shape[1]} × {lr.shape[0]}"),
        Panel(short_name(baseline), images[baseline], _scores(rows, planned.ref, baseline)),
        *models,
        Panel("HR", example.hr_hu, "reference"),
        Panel(
            f"{models[0].title} − HR",
            difference,
            f"MAE {np.abs(difference).mean():.1f} HU, whole slice",
            signed_limit=DIFFERENCE_HU,
        ),
    ]
    stored = planned.stored
    return comparison_figure(
        panels,
        shown_window(plan),
        title=f"{planned.ref.patient_id}, slice {planned.index}; metrics in {plan.domains[0].title}",
        pixel_aspect=stored.pixel_spacing[0] / stored.pixel_spacing[1],
    )


def shown_window(plan: EvaluationPlan) -> Window:
    """The metrics' window, or soft tissue where that is wider than `WIDEST_SHOWN`."""
    window = plan.domains[0].window.window
    return window if window.width <= WIDEST_SHOWN else PRESETS["soft_tissue"]


def _scores(rows: Sequence[Row], ref: SliceRef, method: str) -> str:
    row = next(row for row in rows if row.slice == ref and row.method == method)
    values = {name: row.metrics[name].value for name in ("PSNR", "SSIM") if name in row.metrics}
    formats = {"PSNR": "{:.2f} dB", "SSIM": "SSIM {:.4f}"}
    return ", ".join(formats[name].format(value) for name, value in values.items() if value is not None)


def _scatter(axes: Axes, rows: Sequence[Row], metric: str, methods: tuple[str, str]) -> None:
    """Plot the second method against the first."""
    x, y = _values(rows, methods[0], metric), _values(rows, methods[1], metric)
    pairs = [(key, value, y[key]) for key, value in x.items() if key in y]
    patients = _patients(rows)
    named = len(patients) <= NAMED_PATIENTS
    for i, patient in enumerate(patients):
        own = [pair[1:] for pair in pairs if pair[0].patient_id == patient]
        # The first colour, grey, is that of an interpolation: patients begin with the second.
        color = COLORS[1 + i % (len(COLORS) - 1)] if named else COLORS[1]
        axes.scatter(
            *np.transpose(own or np.empty((0, 2))), s=10, color=color, alpha=0.7, linewidths=0, label=_brief(patient)
        )
    if pairs:
        both = [value for pair in pairs for value in pair[1:]]
        axes.axline((min(both), min(both)), slope=1, color=QUIET, linewidth=0.8, zorder=0)


def _panels(rows: Sequence[Row], title: str, height: float) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A panel with a title for each metric that is plotted."""
    names = _shown(rows)
    figure = new_figure(max(5.0, 3.4 * len(names)), height + 0.5)
    _head(figure, title)
    panels = list(zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True))
    for axes, name in panels:
        calm(axes, title=f"{_unit(name)}, {METRICS[name].better} is better")
    return figure, panels


def _head(figure: Figure, title: str) -> None:
    """Set the title flush left, with its lines wrapped to the figure's width."""
    room = int(figure.get_figwidth() * CHARACTERS_PER_INCH)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, room)]
    figure.suptitle("\n".join(lines), fontsize=9, color=INK, ha="left", x=0.01)


def _brief(name: str) -> str:
    """A patient's name, shortened to `LONGEST_NAME`."""
    return (
        textwrap.shorten(name, LONGEST_NAME, placeholder="…")
        if " " in name
        else name[:LONGEST_NAME] + "…" * (len(name) > LONGEST_NAME)
    )


def _shown(rows: Sequence[Row]) -> tuple[str, ...]:
    computed = tuple(rows[0].metrics)
    return tuple(name for name in SHOWN if name in computed) or computed[: len(SHOWN)]


def _height(methods: Sequence[str]) -> float:
    return 0.9 + 0.4 * len(methods)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8, handletextpad=0.4)


def _name_methods(axes: Axes, methods: Sequence[str], *, first: bool) -> None:
    """Label the first panel only: the others have the same order."""
    axes.set_yticks(range(len(methods)), [short_name(method) if first else "" for method in methods])
    axes.set_ylim(len(methods) - 0.45, -0.55)


def _color(methods: Sequence[str], method: str) -> str:
    return method_colors(methods)[method]


def _unit(metric: str) -> str:
    unit = METRICS[metric].unit
    return plain_metric(metric) + ("" if unit == "1" else f" [{unit}]")


def _values(rows: Sequence[Row], method: str, metric: str) -> dict[SliceRef, float]:
    """The metric of each slice that has a value."""
    own = (row for row in rows if row.method == method and metric in row.metrics)
    return {row.slice: value for row in own if (value := row.metrics[metric].value) is not None}


def _patients(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.slice.patient_id for row in rows))
