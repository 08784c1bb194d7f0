"""Detail that the methods under evaluation invent or lose: study, file, plots and part of the report."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ctsr.data.pairs import slice_pair
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.methods import short
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.report.examples import shown_window
from ctsr.evaluate.report.sections import NONE, Section, SectionTable, number
from ctsr.evaluate.report.subjects import chosen_slices, resolvers
from ctsr.figures import save_figure
from ctsr.files import write_json
from ctsr.hallucination import HallucinationStudy, LesionRow, MethodSummary, NamedPair, residual_hu, study
from ctsr.hallucination.figures import recovery_figure, residual_figure, sfrc_figure
from ctsr.hu import FloatArray
from ctsr.progress import Progress

__all__ = ["study_hallucination"]


def study_hallucination(
    plan: EvaluationPlan, folder: ResultFolder, progress: Progress
) -> tuple[list[dict[str, Any]], list[Section]]:
    """Check, and write `hallucination.json` and the plots: a study for each pixel size.

    Returns:
        The figures that are compared, for `summary.json`; and the parts of the report.
    """
    studies = _studied(plan, progress)
    write_json(folder.path / "hallucination.json", [asdict(one) for one in studies])
    document = [{"pixel_mm": one.pixel_mm, "methods": [asdict(own) for own in one.summaries]} for one in studies]
    return document, [_section(plan, folder, one, place) for place, one in enumerate(studies)]


def _studied(plan: EvaluationPlan, progress: Progress) -> list[HallucinationStudy]:
    return [
        study(
            (_named(plan, planned) for planned in slices),
            resolvers(plan),
            degradation=plan.sampler.degradation,
            hu_range=plan.model.hu_range,
            pixel_mm=pixel_mm,
            seed=plan.options.deg_seed,
            progress=progress,
        )
        for pixel_mm, slices in chosen_slices(plan).items()
    ]


def _name(planned: PlannedSlice) -> str:
    ref = planned.ref
    return f"{ref.patient_id} {ref.series_uid} {ref.slice_index}"


def _named(plan: EvaluationPlan, planned: PlannedSlice) -> NamedPair:
    return NamedPair(_name(planned), slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range))


def _section(plan: EvaluationPlan, folder: ResultFolder, found: HallucinationStudy, place: int) -> Section:
    pictures: list[tuple[str, str]] = []
    if not plan.options.no_plots:
        pictures = _plots(plan, folder, found, place)
    return Section(
        f"hallucination-{place}",
        "Invented and lost detail" + ("" if place == 0 else f" ({found.pixel_mm:g} mm)"),
        paragraphs=(
            f"{len({one.slice_name for one in found.slices})} slices with pixels of {found.pixel_mm:g} mm. Read every "
            "number beside interpolation's, which invents nothing.",
        ),
        tables=(_consistency_table(found.summaries), _lesion_table(found.lesions)),
        pictures=pictures,
        notes=(
            "LR-consistency: SR degraded again, without noise, less LR. sFRC (FDA): patches of 64² whose Fourier ring "
            f"correlation with HR falls to 0.5 at 0.33/mm or below; LR ends at {found.lr_nyquist_per_mm:.3f}/mm, and "
            "“within LR” counts those that part where LR still held the truth. Lesions: discs put into HR before it is "
            "degraded, and left out. How it is measured and read: docs/physics.md. All values: hallucination.json.",
        ),
    )


def _plots(plan: EvaluationPlan, folder: ResultFolder, found: HallucinationStudy, place: int) -> list[tuple[str, str]]:
    """The first model's worst slice by flagged patches, the residuals of all methods on it, and recovery."""
    model = short(plan.model_methods[0])
    worst = max((one for one in found.slices if one.method == model), key=lambda one: len(one.sfrc.flagged))
    planned = next(one for one in plan.slices if _name(one) == worst.slice_name)
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    hu_range, degradation, params = plan.model.hu_range, plan.sampler.degradation, pair.draw.params
    lr = hu_range.to_hu(pair.lr[0, 0].cpu().numpy())
    images: dict[str, FloatArray] = {name: resolve(lr) for name, resolve in resolvers(plan).items()}
    residuals = {
        name: residual_hu(
            image, lr, params, scale=degradation.scale, hu_range=hu_range, antialias=degradation.antialias
        )
        for name, image in images.items()
    }
    title = f"{planned.ref.patient_id}, slice {planned.ref.slice_index}"
    hr = np.clip(pair.hr_hu, hu_range.low, hu_range.high)
    save_figure(
        sfrc_figure(
            images[model],
            hr,
            worst.sfrc,
            found.pixel_mm,
            shown_window(plan),
            scale=found.scale,
            title=f"{title}, {model}",
        ),
        folder.plots / f"sfrc_{place}.png",
    )
    noise = params.noise_std * hu_range.hu_per_unit
    save_figure(residual_figure(residuals, noise, title=title), folder.plots / f"residual_{place}.png")
    save_figure(recovery_figure(found), folder.plots / f"lesions_{place}.png")
    return [
        (f"lesions_{place}", "How much of a lesion's contrast comes back; the band is what appears without one."),
        (f"sfrc_{place}", "The slice with the most flagged patches."),
        (f"residual_{place}", "What LR contradicts on it: edges where a method blurs, structure where it invents."),
    ]


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


def _lesion_table(lesions: Sequence[LesionRow]) -> SectionTable:
    columns = (
        "Lesion",
        "method",
        "how many",
        "recovered",
        "± SD",
        "position error, mm",
        "false contrast, HU",
        "appeared",
    )
    rows = [
        (
            f"{one.diameter_mm:g} mm, {one.contrast_hu:+g} HU".replace("-", "−"),
            one.method,
            f"{one.lesions}",
            f"{100 * one.recovered_mean:.0f} %",
            NONE if one.recovered_sd is None else f"{100 * one.recovered_sd:.0f} %",
            number(one.position_error_mm, 2),
            number(one.false_contrast_sd_hu, 1),
            f"{100 * one.appeared:.0f} %",
        )
        for one in lesions
    ]
    return SectionTable("Lesions put in, and left out", columns, rows)
