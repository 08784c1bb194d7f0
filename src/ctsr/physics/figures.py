"""Curves of resolution and noise, and how well discs are seen."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ctsr.figures import ACCENT, INK, QUIET, calm, method_colors, new_figure
from ctsr.hu import FloatArray, Window
from ctsr.physics import NoiseStudy, PhysicsStudy
from ctsr.physics.real_scan import ScanPhysics
from ctsr.quality.noise import NoiseSpectrum, Region

LineStyle: TypeAlias = Literal["-", "--", ":", "-."]
STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.")
"""Line styles of doses, the lowest first."""
PER_ROW = 3


def transfer_figure(study: PhysicsStudy) -> Figure:
    """Task transfer functions: one panel a contrast, a colour a method, a line style a dose."""
    contrasts = study.settings.contrasts_hu
    figure, panels = _panels(len(contrasts), "What is left of an edge, by spatial frequency (task transfer function)")
    colors, doses = _colors(study.methods), _doses(study)
    for axes, contrast in zip(panels, contrasts, strict=True):
        calm(axes, title=_disc(contrast))
        for entry in study.transfer:
            if entry.contrast_hu == contrast:
                axes.plot(
                    entry.transfer.frequencies_per_mm,
                    entry.transfer.values,
                    color=colors[entry.method],
                    linestyle=doses[entry.dose],
                    linewidth=1.4,
                )
        for level in (0.5, 0.1):
            axes.axhline(level, color="#e6e8eb", linewidth=0.8, zorder=0)
        axes.set(xlim=(0, 1 / (2 * study.pixel_mm)), ylim=(0, None))
        _mark_lr(axes, study)
    _legend(figure, study)
    return figure


def phantom_noise_figure(study: PhysicsStudy) -> Figure:
    """Noise power spectra on the uniform phantom: one panel a dose, a colour a method."""
    figure, panels = _panels(len(study.conditions), "Noise on a uniform phantom (noise power spectrum)")
    colors = _colors(study.methods)
    for axes, params, lr_noise in zip(panels, study.conditions, study.lr_noise_hu, strict=True):
        calm(axes, title=f"dose {params.dose:g}, LR noise {lr_noise:.1f} HU")
        spectra = {entry.method: entry.spectrum for entry in study.noise if entry.dose == params.dose}
        _spectra(axes, spectra, colors)
        _mark_lr(axes, study)
    return figure


def noise_figure(study: NoiseStudy, title: str) -> Figure:
    """Noise power spectra of real slices, in the regions that the reference chose.

    Args:
        study: with or without spectra.
        title: which slices.
    """
    regions = sum(len(found) for found in study.regions)
    figure, panels = _panels(1, f"{title}: slices {study.slices}, homogeneous regions {regions}")
    calm(panels[0], title="noise power spectrum")
    # The reference in the colour of text; methods keep the colours they have elsewhere.
    names = list(study.spectra)
    _spectra(panels[0], study.spectra, dict.fromkeys(names[:1], INK) | method_colors(names[1:]))
    return figure


def scan_figure(measured: Mapping[str, ScanPhysics]) -> Figure:
    """Transfer functions and noise power spectra of a real scan: a colour an image, a line style an object."""
    figure, (transfer, noise) = _panels(2, "Real scan")
    calm(transfer, title="transfer function")
    calm(noise, title="noise power spectrum")
    colors = _colors(list(measured))
    for name, found in measured.items():
        for part, style in zip(found.objects, STYLES, strict=False):
            curve = part.transfer
            label = f"{name}, {part.name}"
            transfer.plot(curve.frequencies_per_mm, curve.values, style, color=colors[name], linewidth=1.4, label=label)
    transfer.set(ylim=(0, None), xlim=(0, None))
    transfer.set_xlabel("1/mm", fontsize=8, color=INK)
    transfer.legend(frameon=False, fontsize=7)
    _spectra(noise, {name: found.spectrum for name, found in measured.items() if found.spectrum is not None}, colors)
    return figure


def detectability_figure(study: PhysicsStudy) -> Figure:
    """d′ of discs: one panel a contrast, diameters along the axis, a colour a method, paler for lower doses."""
    contrasts = sorted({entry.contrast_hu for entry in study.detectability})
    figure, panels = _panels(max(1, len(contrasts)), "How well a disc is told from noise (d′, non-prewhitening)")
    colors, doses = _colors(study.methods), sorted({entry.dose for entry in study.detectability})
    bars = [(method, dose) for method in study.methods for dose in doses]
    width = 0.8 / max(1, len(bars))
    for axes, contrast in zip(panels, contrasts, strict=False):
        calm(axes, title=_disc(contrast))
        found = {
            (entry.method, entry.dose, entry.diameter_mm): entry.d_prime
            for entry in study.detectability
            if entry.contrast_hu == contrast
        }
        for place, (method, dose) in enumerate(bars):
            shown = [found.get((method, dose, diameter)) for diameter in study.settings.diameters_mm]
            if all(value is None for value in shown):
                continue
            values = [value or 0.0 for value in shown]
            at = np.arange(len(values)) + (place - (len(bars) - 1) / 2) * width
            opacity = 0.45 + 0.55 * (doses.index(dose) + 1) / len(doses)
            label = f"{method}, dose {dose:g}"
            axes.bar(at, values, width * 0.92, color=colors[method], alpha=opacity, label=label)
        axes.set_xticks(range(len(study.settings.diameters_mm)), [f"{d:g} mm" for d in study.settings.diameters_mm])
        axes.set_ylabel("d′", fontsize=8, color=INK)
        if not axes.patches:
            axes.text(0.5, 0.5, "no noise: everything is seen", ha="center", color=INK, transform=axes.transAxes)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def regions_figure(reference: FloatArray, regions: Sequence[Region], window: Window) -> Figure:
    """Where the noise of a slice was measured."""
    rows, columns = reference.shape
    figure = new_figure(4.0, 4.0 * rows / columns)
    axes = figure.subplots()
    axes.imshow(window.to_01(reference), cmap="gray", vmin=0, vmax=1)
    for region in regions:
        corner = (region.column - 0.5, region.row - 0.5)
        axes.add_patch(Rectangle(corner, region.size, region.size, fill=False, edgecolor=ACCENT, linewidth=1.2))
    axes.set_axis_off()
    return figure


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(count, PER_ROW)
    rows = -(-count // columns)
    figure = new_figure(3.1 * columns + 1.4, 2.5 * rows + 0.5)
    figure.suptitle(title, fontsize=9, color=INK, ha="left", x=0.01)
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return figure, list(grid.flat[:count])


def _spectra(axes: Axes, spectra: Mapping[str, NoiseSpectrum], colors: Mapping[str, str]) -> None:
    for name, spectrum in spectra.items():
        label = f"{name}: {spectrum.std_hu:.1f} HU"
        axes.plot(spectrum.frequencies_per_mm, spectrum.power_hu2_mm2, color=colors[name], linewidth=1.4, label=label)
        if spectrum.mean_per_mm is not None:
            axes.plot(spectrum.mean_per_mm, 0, marker="^", color=colors[name], markersize=5, clip_on=False, zorder=3)
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.set_ylabel("HU²·mm²", fontsize=8, color=INK)
    axes.set_xlabel("1/mm", fontsize=8, color=INK)
    if spectra:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            fontsize=7,
            title="standard deviation\n▲ mean frequency",
            title_fontsize=7,
        )
    else:
        axes.text(0.5, 0.5, "no homogeneous region", ha="center", color=QUIET, transform=axes.transAxes)


def _disc(contrast_hu: float) -> str:
    return f"disc of {contrast_hu:+g} HU".replace("-", "−")


def _mark_lr(axes: Axes, study: PhysicsStudy) -> None:
    axes.axvline(study.lr_nyquist_per_mm, color=QUIET, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel("1/mm; dotted: where LR ends", fontsize=8, color=INK)


def _colors(methods: Sequence[str]) -> dict[str, str]:
    return method_colors(methods)


def _doses(study: PhysicsStudy) -> dict[float, LineStyle]:
    return {params.dose: STYLES[i % len(STYLES)] for i, params in enumerate(study.conditions)}


def _legend(figure: Figure, study: PhysicsStudy) -> None:
    methods = [Line2D([], [], color=color, label=name) for name, color in _colors(study.methods).items()]
    doses = [Line2D([], [], color=INK, linestyle=style, label=f"dose {d:g}") for d, style in _doses(study).items()]
    figure.legend(handles=[*methods, *doses], loc="outside right center", frameon=False, fontsize=8)
