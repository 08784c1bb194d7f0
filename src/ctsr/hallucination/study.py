"""All checks for invented and lost detail, of several methods on slices with a reference, and their figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, DegradationParams
from ctsr.errors import DomainError
from ctsr.figures import ACCENT, COLORS, INK, QUIET, calm, method_colors, new_figure
from ctsr.hallucination.lesion_insertion import (
    Lesion,
    LesionImages,
    LesionRow,
    LesionSpec,
    LesionTrial,
    lesion_table,
    lesion_trials,
)
from ctsr.hallucination.slice_checks import SFRC, Consistency, SFRCSettings, consistency, frc_curve, sfrc
from ctsr.hashing import rng_from
from ctsr.hu import FloatArray, HURange, Window
from ctsr.infer import SuperResolver, telling
from ctsr.models.conditioning import Conditions
from ctsr.reporting import SILENT, Progress

WITHIN_LR = 0.8
"""Fraction of LR's Nyquist frequency: interpolations, which invent nothing, lose correlation with HR only beyond it."""


@dataclass(frozen=True, eq=False)
class NamedPair:
    """A slice with its reference and name."""

    name: str
    """`patient series slice`, unique: for results, and for seeds where it has no other name, `drawn_by`."""
    pair: SlicePair
    pixel_mm: float
    """Side of an HR pixel."""
    told: Conditions | None = None
    """What conditional networks are told of LR; how it was made when None."""
    drawn_by: str = ""

    @property
    def made_with(self) -> DegradationParams | Conditions:
        """For `ctsr.infer.telling`."""
        return self.told or self.pair.draw.params


@dataclass(frozen=True)
class HallucinationSettings:
    """Settings of the checks."""

    patch_lr: int = 16
    """Side of the consistency's patches, LR pixels."""
    sfrc: SFRCSettings = field(default_factory=SFRCSettings)
    lesions: LesionSpec | None = field(default_factory=LesionSpec)
    """None inserts no lesions."""


@dataclass(frozen=True)
class SliceChecks:
    """The checks of one slice by one method."""

    slice_name: str
    method: str
    consistency: Consistency
    sfrc: SFRC
    lr_nyquist_per_mm: float
    """Where it is below sFRC's limit, interpolation is flagged, too: LR holds nothing up to the limit."""
    flagged_within_lr: int
    """Flagged patches that lose correlation below `WITHIN_LR` of LR's Nyquist frequency, where LR held the truth."""


@dataclass(frozen=True)
class MethodSummary:
    """Results of a method over all slices."""

    method: str
    mean_abs_hu: float
    """Mean absolute consistency residual, mean over slices."""
    p95_hu: float
    """Its 95th percentile, mean over slices."""
    worst_slice: str
    """With the highest mean residual."""
    worst_mean_abs_hu: float
    noise_mean_abs_hu: float
    """See `Consistency`; mean over slices."""
    worst_patch_in_noise: float | None
    """The patch mean farthest from 0, in standard deviations of its noise; None as in `ResidualPatch`."""
    worst_patch_hu: float | None
    """The patch mean farthest from 0; None where no slice holds a patch."""
    judged: int
    """sFRC patches with structure."""
    flagged: int
    flagged_share: float | None
    flagged_within_lr: int
    """See `SliceChecks`."""


@dataclass(frozen=True)
class HallucinationStudy:
    """The result of a study."""

    methods: tuple[str, ...]
    scale: int
    seed: int
    settings: HallucinationSettings
    summaries: tuple[MethodSummary, ...]
    slices: tuple[SliceChecks, ...]
    lesions: tuple[LesionRow, ...]
    trials: tuple[LesionTrial, ...]


def check_slice(
    sr_hu: FloatArray,
    subject: NamedPair,
    method: str,
    *,
    degradation: Degradation,
    hu_range: HURange,
    settings: HallucinationSettings | None = None,
) -> SliceChecks:
    """Check one SR slice for LR-consistency and by sFRC.

    Args:
        sr_hu: the shape of the pair's HR, HU.
        subject: HR and LR.
        method: its name.
        degradation: of LR.
        hu_range: of the pair.
        settings: see `HallucinationSettings`.
    """
    settings, pair = settings or HallucinationSettings(), subject.pair
    params = pair.draw.params
    residual = consistency(
        sr_hu,
        hu_range.to_hu(pair.lr[0, 0].cpu().numpy()),
        params,
        scale=degradation.scale,
        hu_range=hu_range,
        antialias=degradation.antialias,
        patch=settings.patch_lr,
    )
    hr = np.clip(pair.hr_hu, hu_range.low, hu_range.high)
    noise = params.noise_std * hu_range.hu_per_unit
    found = sfrc(sr_hu, hr, subject.pixel_mm, noise_hu=noise, settings=settings.sfrc)
    within = within_lr(subject.pixel_mm, degradation.scale)
    return SliceChecks(
        slice_name=subject.name,
        method=method,
        consistency=residual,
        sfrc=found,
        lr_nyquist_per_mm=within / WITHIN_LR,
        flagged_within_lr=sum(patch.frequency_per_mm <= within for patch in found.flagged),
    )


def study(
    subjects: Iterable[NamedPair],
    super_resolvers: Mapping[str, SuperResolver],
    *,
    degradation: Degradation,
    hu_range: HURange,
    seed: int = 42,
    settings: HallucinationSettings | None = None,
    progress: Progress = SILENT,
) -> HallucinationStudy:
    """Run every check on every slice and method, one slice at a time.

    Args:
        subjects: slices, from `ctsr.data.pairs.slice_pair`.
        super_resolvers: name → method; see `ctsr.infer.by_network`.
        degradation: of the pairs.
        hu_range: of the pairs and the networks.
        seed: of the lesions, with the slice's name, independent of the order of slices and methods.
        settings: see `HallucinationSettings`.
        progress: receives the number of slices done.

    Raises:
        DomainError: no method or no slice, or a method that does not enlarge by the degradation's scale.
    """
    settings = settings or HallucinationSettings()
    checks, trials = list[SliceChecks](), list[LesionTrial]()
    check = partial(check_slice, degradation=degradation, hu_range=hu_range, settings=settings)
    attempt = partial(lesion_trials, degradation=degradation, hu_range=hu_range)
    for subject in progress.track(subjects, total=None, what="hallucination"):
        lr = hu_range.to_hu(subject.pair.lr[0, 0].cpu().numpy())
        for name, method in super_resolvers.items():
            checks.append(check(telling(method, subject.made_with)(lr), subject, name))
        if settings.lesions:
            rng = rng_from(seed, "lesions", subject.drawn_by or subject.name)
            lesions = settings.lesions.sample(subject.pair.hr_hu, subject.pixel_mm, rng)
            told = {name: telling(method, subject.made_with) for name, method in super_resolvers.items()}
            trials += attempt(subject.name, subject.pair, lesions, told, pixel_mm=subject.pixel_mm)
    if not checks:
        raise DomainError("a study of hallucination needs at least one slice and one method")
    return HallucinationStudy(
        methods=tuple(super_resolvers),
        scale=degradation.scale,
        seed=seed,
        settings=settings,
        summaries=tuple(_summary(checks, name) for name in super_resolvers),
        slices=tuple(checks),
        lesions=tuple(lesion_table(trials)),
        trials=tuple(trials),
    )


def within_lr(pixel_mm: float, scale: int) -> float:
    """The frequency, 1/mm, up to which LR holds what HR holds: `WITHIN_LR` of its Nyquist frequency."""
    return WITHIN_LR / (2 * pixel_mm * scale)


def _summary(checks: Sequence[SliceChecks], method: str) -> MethodSummary:
    own = [check for check in checks if check.method == method]
    worst = max(own, key=lambda check: check.consistency.mean_abs_hu)
    patches = [check.consistency.worst_patch for check in own if check.consistency.worst_patch]
    in_noise = [patch.in_noise for patch in patches if patch.in_noise is not None]
    judged = sum(check.sfrc.judged for check in own)
    flagged = sum(len(check.sfrc.flagged) for check in own)
    return MethodSummary(
        method=method,
        mean_abs_hu=float(np.mean([check.consistency.mean_abs_hu for check in own])),
        p95_hu=float(np.mean([check.consistency.p95_hu for check in own])),
        worst_slice=worst.slice_name,
        worst_mean_abs_hu=worst.consistency.mean_abs_hu,
        noise_mean_abs_hu=float(np.mean([check.consistency.noise_mean_abs_hu for check in own])),
        worst_patch_in_noise=max(in_noise, key=abs) if in_noise else None,
        worst_patch_hu=max((patch.mean_hu for patch in patches), key=abs) if patches else None,
        judged=judged,
        flagged=flagged,
        flagged_share=flagged / judged if judged else None,
        flagged_within_lr=sum(check.flagged_within_lr for check in own),
    )


def sfrc_figure(
    sr_hu: FloatArray, hr_hu: FloatArray, found: SFRC, pixel_mm: float, window: Window, *, scale: int, title: str
) -> Figure:
    """The flagged patches, framed in SR and HR; below, the first of them with its correlation by frequency.

    Patches that lose correlation within what LR holds have bold frames with their frequency, the others thin ones.

    Args:
        sr_hu: (rows, columns), HU.
        hr_hu: the same shape.
        found: from `sfrc`.
        pixel_mm: side of a pixel.
        window: HU from black to white.
        scale: HR rows / LR rows.
        title: slice and method.
    """
    rows, columns = hr_hu.shape
    tall, below = 4.0 * rows / columns, 2.6 if found.flagged else 0.0
    figure = new_figure(8.4, tall + below + 0.5)
    share = "" if found.share is None else f" ({100 * found.share:.1f} %)"
    figure.suptitle(
        f"{title}: {len(found.flagged)} of {found.judged} patches with structure flagged{share}\n"
        f"bold: they part within what LR holds, at this many 1/mm; window C {window.center:g} / W {window.width:g} HU",
        fontsize=9,
        color=INK,
        ha="left",
        x=0.01,
    )
    grid = figure.add_gridspec(2, 6, height_ratios=[tall, below]) if below else figure.add_gridspec(1, 6)
    for place, image, name in ((grid[0, :3], sr_hu, "SR"), (grid[0, 3:], hr_hu, "HR")):
        axes = figure.add_subplot(place)
        _show(axes, image, window, name)
        _frames(axes, found, within_lr(pixel_mm, scale))
    if below:
        panels = [figure.add_subplot(grid[1, first : first + 2]) for first in (0, 2, 4)]
        _first_to_part(panels, sr_hu, hr_hu, found, pixel_mm, window)
    return figure


def flagged_figure(
    sr_hu: FloatArray, hr_hu: FloatArray, found: SFRC, window: Window, *, title: str, most: int = 8
) -> Figure:
    """The flagged patches of a slice, SR above HR, the lowest frequency on the left.

    Args: as `sfrc_figure`, and
        most: number of patches shown, at most.

    Raises:
        DomainError: no patch is flagged.
    """
    shown, size = found.flagged[:most], found.settings.patch
    if not shown:
        raise DomainError("no patch is flagged: there is nothing to show")
    figure = new_figure(max(4.0, 1.3 * len(shown) + 0.4), 3.3)
    text = f"{title}: {len(shown)} of {len(found.flagged)} flagged patches"
    figure.suptitle(text, fontsize=9, color=INK, ha="left", x=0.01)
    for column, patch in zip(figure.subplots(2, len(shown), squeeze=False).T, shown, strict=True):
        part = (slice(patch.row, patch.row + size), slice(patch.column, patch.column + size))
        for axes, image in zip(column, (sr_hu, hr_hu), strict=True):
            axes.imshow(window.to_01(image[part]), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"{patch.frequency_per_mm:.2f}/mm", fontsize=8, color=INK)
        column[1].set_xlabel(f"{patch.row}, {patch.column}", fontsize=7, color=QUIET)
        if patch is shown[0]:
            for axes, name in zip(column, ("SR", "HR"), strict=True):
                axes.set_ylabel(name, fontsize=9, color=INK)
    return figure


def residual_figure(residuals: Mapping[str, FloatArray], noise_hu: float, *, title: str) -> Figure:
    """SR degraded again less LR, one panel for each method, blue below LR and red above.

    Args:
        residuals: method → (rows, columns) of LR, HU; from `residual_hu`.
        noise_hu: standard deviation of LR's noise; the colours end at three times this value.
        title: the slice.
    """
    end = max(3 * noise_hu, 5.0)
    figure = new_figure(3.1 * len(residuals) + 0.8, 3.5)
    figure.suptitle(f"{title}: degraded again − LR; LR's noise is {noise_hu:.1f} HU", fontsize=9, color=INK)
    panels = figure.subplots(1, len(residuals), squeeze=False)[0]
    for axes, (name, residual) in zip(panels, residuals.items(), strict=True):
        axes.imshow(residual, cmap="RdBu_r", vmin=-end, vmax=end)
        axes.set_title(f"{name}: {np.abs(residual).mean():.1f} HU", fontsize=10, color=INK)
        axes.set_axis_off()
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.7, pad=0.01)
    bar.set_label("HU", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    return figure


def lesion_figure(images: LesionImages, shown: Mapping[str, tuple[FloatArray, FloatArray]], window: Window) -> Figure:
    """One lesion: with it, without it, and the difference, in HR, LR and each method.

    Args:
        images: from `lesion_images`.
        shown: method → SR with and SR without, HU.
        window: HU from black to white; the difference is shown over the lesion's contrast.
    """
    lesion = images.lesion
    pairs = {"HR": (images.hr_with, images.hr_without), "LR": (images.lr_with, images.lr_without), **shown}
    figure = new_figure(1.75 * len(pairs), 5.9)
    text = f"{lesion.diameter_mm:g} mm, {lesion.contrast_hu:+g} HU, {lesion.tissue}".replace("-", "−")
    figure.suptitle(text, fontsize=10, color=INK)
    span = abs(lesion.contrast_hu)
    for column, (name, (having, without)) in zip(
        figure.subplots(3, len(pairs), squeeze=False).T, pairs.items(), strict=True
    ):
        difference = having.astype(np.float64) - without
        _close_up(column[0], having, lesion, images, window.low, window.high)
        _close_up(column[1], without, lesion, images, window.low, window.high)
        _close_up(column[2], difference, lesion, images, -span, span)
        column[0].set_title(name, fontsize=10, color=INK, fontweight="bold")
        if name == "HR":
            for axes, row in zip(column, ("with", "without", "difference"), strict=True):
                axes.set_ylabel(row, fontsize=9, color=INK)
    return figure


def recovery_figure(study: HallucinationStudy) -> Figure:
    """Recovered share of a lesion's contrast, by contrast: one panel for each diameter, one colour for each method.

    The band about 0 is twice the standard deviation of the contrast that appears without a lesion, as a share of the
    lesion's contrast: a lesion inside the band cannot be distinguished from none.
    """
    diameters = sorted({row.diameter_mm for row in study.lesions})
    figure = new_figure(3.2 * max(1, len(diameters)) + 1.2, 3.0)
    figure.suptitle("How much of a lesion's contrast comes back", fontsize=9, color=INK, ha="left", x=0.01)
    panels: Sequence[Axes] = figure.subplots(1, max(1, len(diameters)), squeeze=False, sharey=True)[0]
    for axes, diameter in zip(panels, diameters, strict=False):
        calm(axes, title=f"{diameter:g} mm")
        for level in (0.0, 1.0):
            axes.axhline(level, color="#d9dce0", linewidth=0.8, zorder=0)
        for i, method in enumerate(study.methods):
            _recovery(axes, study, method, diameter, i)
        axes.set_xlabel("contrast, HU", fontsize=8, color=INK)
    panels[0].set_ylabel("share recovered ± SD", fontsize=8, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def _recovery(axes: Axes, study: HallucinationStudy, method: str, diameter_mm: float, place: int) -> None:
    rows = [r for r in study.lesions if r.method == method and r.diameter_mm == diameter_mm]
    rows.sort(key=lambda row: row.contrast_hu)
    color = method_colors(study.methods)[method]
    # Evenly spaced contrasts, with the methods side by side.
    at = np.arange(len(rows)) + (place - (len(study.methods) - 1) / 2) * 0.16
    means, spread = [r.recovered_mean for r in rows], [r.recovered_sd or 0.0 for r in rows]
    axes.errorbar(at, means, spread, fmt="o", color=color, markersize=4, linewidth=1.2, label=method)
    false = [2 * (r.false_contrast_sd_hu or 0.0) / abs(r.contrast_hu) for r in rows]
    axes.bar(at, [2 * f for f in false], 0.13, bottom=[-f for f in false], color=color, alpha=0.3, linewidth=0)
    axes.set_xticks(range(len(rows)), [f"{r.contrast_hu:+g}".replace("-", "−") for r in rows])


def _show(axes: Axes, image: FloatArray, window: Window, name: str) -> None:
    axes.imshow(window.to_01(image), cmap="gray", vmin=0, vmax=1)
    axes.set_title(name, fontsize=11, color=INK, fontweight="bold")
    axes.set_axis_off()


def _frames(axes: Axes, found: SFRC, within_per_mm: float) -> None:
    size = found.settings.patch
    for patch in reversed(found.flagged):
        bold = patch.frequency_per_mm <= within_per_mm
        corner = (patch.column - 0.5, patch.row - 0.5)
        width, opacity = (1.6, 1.0) if bold else (0.6, 0.7)
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=ACCENT, linewidth=width, alpha=opacity))
        if not bold:
            continue
        small = {"fontsize": 6, "color": "white", "va": "top"}
        axes.text(
            patch.column + 2,
            patch.row + 2,
            f"{patch.frequency_per_mm:.2f}",
            small,
            bbox={"facecolor": ACCENT, "edgecolor": "none", "pad": 0.8},
        )


def _first_to_part(
    panels: Sequence[Axes], sr_hu: FloatArray, hr_hu: FloatArray, found: SFRC, pixel_mm: float, window: Window
) -> None:
    size, settings, first = found.settings.patch, found.settings, found.flagged[0]
    part = (slice(first.row, first.row + size), slice(first.column, first.column + size))
    for axes, image, name in zip(panels[:2], (sr_hu, hr_hu), ("SR", "HR"), strict=True):
        _show(axes, image[part], window, f"{name}, row {first.row}, column {first.column}")
        axes.title.set(fontsize=8, fontweight="normal")
    calm(panels[2])
    panels[2].set_title("Fourier ring correlation", fontsize=8, color=INK)
    curve = frc_curve(sr_hu[part], hr_hu[part])
    panels[2].plot(np.arange(len(curve)) / (size * pixel_mm), curve, color=COLORS[1], linewidth=1.4)
    panels[2].axhline(settings.threshold, color=QUIET, linewidth=0.8)
    panels[2].axvline(settings.limit_per_mm, color=ACCENT, linewidth=1.0, linestyle="--")
    panels[2].set(xlim=(0, 1 / (2 * pixel_mm)), ylim=(min(0.0, float(curve.min())), 1.03))
    panels[2].set_xlabel("1/mm; dashed: limit", fontsize=8, color=INK)


def _close_up(axes: Axes, image: FloatArray, lesion: Lesion, images: LesionImages, low: float, high: float) -> None:
    """Show a third of the region, centred on the lesion, whatever the image's pixels; the ring marks its place."""
    rows, columns = images.hr_with.shape
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
    reach = rows / 6
    axes.set(xlim=(lesion.column - reach, lesion.column + reach), ylim=(lesion.row + reach, lesion.row - reach))
    axes.set(xticks=[], yticks=[])
    axes.add_patch(
        Circle((lesion.column, lesion.row), reach * 0.55, fill=False, edgecolor=ACCENT, linewidth=0.8, linestyle=":")
    )
