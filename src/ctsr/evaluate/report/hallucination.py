"""Detail that the methods under evaluation invent or lose: study, file, plots and part of the report."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ctsr.data.pairs import slice_pair
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.report.examples import shown_window
from ctsr.evaluate.report.sections import Section, SectionTable, number
from ctsr.evaluate.report.subjects import chosen_slices, labels, resolvers
from ctsr.figures import save_figure
from ctsr.files import write_json
from ctsr.hallucination import HallucinationStudy, LesionRow, MethodSummary, NamedPair, residual_hu, study
from ctsr.hallucination.figures import flagged_figure, recovery_figure, residual_figure, sfrc_figure
from ctsr.hu import FloatArray
from ctsr.progress import Progress

__all__ = ["study_hallucination"]


def study_hallucination(
    plan: EvaluationPlan, folder: ResultFolder, progress: Progress
) -> tuple[list[dict[str, Any]], Section]:
    """Check, and write `hallucination.json` and the plots.

    Returns:
        The figures of each method, for `summary.json`; and the part of the report.
    """
    slices = [planned for own in chosen_slices(plan, progress).values() for planned in own]
    found = study(
        (_named(plan, planned) for planned in slices),
        resolvers(plan),
        degradation=plan.sampler.degradation,
        hu_range=plan.model.hu_range,
        seed=plan.options.deg_seed,
        progress=progress,
    )
    write_json(folder.path / "hallucination.json", asdict(found))
    return [asdict(one) for one in found.summaries], _section(plan, folder, found, slices)


def _name(planned: PlannedSlice) -> str:
    ref = planned.ref
    return f"{ref.patient_id} {ref.series_uid} {ref.slice_index}"


def _named(plan: EvaluationPlan, planned: PlannedSlice) -> NamedPair:
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    return NamedPair(_name(planned), pair, planned.stored.pixel_spacing[0])


def _section(
    plan: EvaluationPlan, folder: ResultFolder, found: HallucinationStudy, slices: Sequence[PlannedSlice]
) -> Section:
    return Section(
        "hallucination",
        "Invented and lost detail",
        paragraphs=(f"{len(slices)} slices. Read every number beside interpolation's, which invents nothing.",),
        tables=(_consistency_table(found.summaries), *_lesion_tables(found)),
        pictures=() if plan.options.no_plots else _plots(plan, folder, found, slices),
        notes=(
            "LR-consistency: SR degraded again, without noise, less LR. sFRC (FDA): patches of 64² whose Fourier ring "
            "correlation with HR falls to 0.5 at 0.33/mm or below; “within LR” counts those that part where LR still "
            "held the truth. Lesions: discs put into HR before it is degraded, or left out. How it is measured and "
            "read: docs/physics.md. All values: hallucination.json.",
        ),
    )


def _plots(
    plan: EvaluationPlan, folder: ResultFolder, found: HallucinationStudy, slices: Sequence[PlannedSlice]
) -> list[tuple[str, str]]:
    """Recovery of lesions; the first model's slice with the most flagged patches, and all methods' residuals on it."""
    model = labels(plan)[plan.model_methods[0]]
    worst = max((one for one in found.slices if one.method == model), key=lambda one: len(one.sfrc.flagged))
    planned = next(one for one in slices if _name(one) == worst.slice_name)
    subject = _named(plan, planned)
    hu_range, degradation, params = plan.model.hu_range, plan.sampler.degradation, subject.pair.draw.params
    lr = hu_range.to_hu(subject.pair.lr[0, 0].cpu().numpy())
    images: dict[str, FloatArray] = {name: resolve(lr) for name, resolve in resolvers(plan).items()}
    residuals = {
        name: residual_hu(
            image, lr, params, scale=degradation.scale, hu_range=hu_range, antialias=degradation.antialias
        )
        for name, image in images.items()
    }
    title = f"{planned.ref.patient_id}, slice {planned.ref.slice_index}"
    flagged = sfrc_figure(
        images[model],
        np.clip(subject.pair.hr_hu, hu_range.low, hu_range.high),
        worst.sfrc,
        subject.pixel_mm,
        shown_window(plan),
        scale=found.scale,
        title=f"{title}, {model}",
    )
    save_figure(flagged, folder.plots / "sfrc.png")
    pictures = [("lesions", "How much of a lesion's contrast comes back; the band is what appears without one.")]
    pictures += _flagged(plan, folder, found, slices)
    noise = params.noise_std * hu_range.hu_per_unit
    save_figure(residual_figure(residuals, noise, title=title), folder.plots / "residual.png")
    save_figure(recovery_figure(found), folder.plots / "lesions.png")
    return [
        *pictures,
        ("sfrc", f"The slice of {model} with the most flagged patches."),
        ("residual", "What LR contradicts on it: edges where a method blurs, structure where it invents."),
    ]


def _flagged(
    plan: EvaluationPlan, folder: ResultFolder, found: HallucinationStudy, slices: Sequence[PlannedSlice]
) -> list[tuple[str, str]]:
    """For each model, the patches that part first, on the slice where most are flagged."""
    hu_range, window, named = plan.model.hu_range, shown_window(plan), labels(plan)
    pictures: list[tuple[str, str]] = []
    for place, model in enumerate(named[method] for method in plan.model_methods):
        worst = max((one for one in found.slices if one.method == model), key=lambda one: len(one.sfrc.flagged))
        if not worst.sfrc.flagged:
            continue
        subject = _named(plan, next(one for one in slices if _name(one) == worst.slice_name))
        sr = resolvers(plan)[model](hu_range.to_hu(subject.pair.lr[0, 0].cpu().numpy()))
        hr = np.clip(subject.pair.hr_hu, hu_range.low, hu_range.high)
        figure = flagged_figure(sr, hr, worst.sfrc, window, title=f"{model}, {worst.slice_name}")
        save_figure(figure, folder.plots / f"flagged_{place}.png")
        pictures.append(
            (f"flagged_{place}", f"Flagged patches of {model}, those that part first; all are in the file.")
        )
    return pictures


def _consistency_table(summaries: Sequence[MethodSummary]) -> SectionTable:
    columns = (
        *("Method", "residual, HU", "95 %, HU", "worst slice, HU", "noise alone, HU", "worst patch, HU"),
        *("patches judged", "flagged by sFRC", "flagged within LR"),
    )
    rows = [
        (
            one.method,
            f"{one.mean_abs_hu:.2f}",
            f"{one.p95_hu:.2f}",
            f"{one.worst_mean_abs_hu:.2f}",
            f"{one.noise_mean_abs_hu:.2f}",
            number(one.worst_patch_hu, 1),
            f"{one.judged}",
            f"{one.flagged}" + ("" if one.flagged_share is None else f" ({100 * one.flagged_share:.1f} %)"),
            f"{one.flagged_within_lr}",
        )
        for one in summaries
    ]
    return SectionTable("LR-consistency and sFRC", columns, rows)


def _lesion_tables(found: HallucinationStudy) -> list[SectionTable]:
    """A line for each kind of lesion, a column for each method."""
    by_key = {(one.diameter_mm, one.contrast_hu, one.method): one for one in found.lesions}
    kinds = sorted({key[:2] for key in by_key})
    recovered = [
        (
            f"{mm:g} mm, {hu:+g} HU".replace("-", "−"),
            *(_recovered(by_key[mm, hu, method]) for method in found.methods),
        )
        for mm, hu in kinds
    ]
    nothing = [
        (f"{mm:g} mm", *(number(by_key[mm, hu, method].false_contrast_sd_hu, 1) for method in found.methods))
        for mm, hu in {kind[0]: kind for kind in kinds}.values()
    ]
    return [
        SectionTable("Lesions: share of the contrast that comes back, ± SD", ("Lesion", *found.methods), recovered),
        SectionTable("Where none was put: contrast that appears, SD in HU", ("Size", *found.methods), nothing),
    ]


def _recovered(one: LesionRow) -> str:
    spread = "" if one.recovered_sd is None else f" ± {100 * one.recovered_sd:.0f}"
    return f"{100 * one.recovered_mean:.0f}{spread} %".replace("-", "−")
