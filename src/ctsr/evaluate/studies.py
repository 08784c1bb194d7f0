"""Studies of an evaluation's methods: physics and hallucination, as files, plots and sections of the report."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ctsr.data.pairs import slice_pair
from ctsr.errors import DomainError
from ctsr.evaluate.methods import short_name, super_resolvers
from ctsr.evaluate.output_folder import OutputFolder
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.plots import shown_window
from ctsr.evaluate.report import NONE, Section, SectionTable, format_number
from ctsr.evaluate.runner import reconstruct_slice
from ctsr.evaluate.slices import PlannedSlice
from ctsr.figures import save_figure
from ctsr.files import write_json
from ctsr.hallucination import (
    HallucinationStudy,
    LesionRow,
    MethodSummary,
    NamedPair,
    SliceChecks,
    residual_hu,
)
from ctsr.hallucination import study as hallucination_study
from ctsr.hallucination.study import flagged_figure, recovery_figure, residual_figure, sfrc_figure
from ctsr.infer import SuperResolver, telling
from ctsr.physics import REFERENCE, NoiseSlice, NoiseStudy, PhysicsStudy, noise_study, phantoms_text
from ctsr.physics import figures as physics_figures
from ctsr.physics import study as physics_study
from ctsr.quality.noise import NoiseSpectrum
from ctsr.reporting import Progress

SQUARE = 1e-3
"""Relative difference of the two pixel spacings up to which pixels count as square."""
MOST_SPECTRA = 3
"""Pixel sizes whose noise is drawn: those with the most homogeneous regions; all are in the table."""


def study_names(plan: EvaluationPlan) -> dict[str, str]:
    """Method → its name in studies: short, where the short names are unique."""
    short = {method: short_name(method) for method in plan.methods}
    unique = len({*short.values(), REFERENCE, "LR"}) == len(short) + 2
    return short if unique else {method: method for method in short}


def _resolvers(plan: EvaluationPlan, pixel_mm: float | None = None) -> dict[str, SuperResolver]:
    """Name in studies → method; conditions to be measured are, in each image, whose HR pixels are `pixel_mm`."""
    source = plan.options.conditions_source
    measured = source.kind not in ("drawn", "fixed")
    lr_mm = plan.model.scale * pixel_mm if measured and pixel_mm is not None else None
    methods = super_resolvers(plan.models, plan.baseline_methods, plan.fixed_conditions, lr_mm, source.kind)
    return dict(zip(study_names(plan).values(), methods, strict=True))


def study_slices(plan: EvaluationPlan, progress: Progress) -> dict[float, list[PlannedSlice]]:
    """Pixel size in mm → slices to study: a few of each series with square pixels, evenly along it.

    Raises:
        DomainError: no series has them.
    """
    series: dict[str, list[PlannedSlice]] = {}
    for planned in plan.slices:
        series.setdefault(str(planned.stored.folder), []).append(planned)
    by_size: dict[float, list[PlannedSlice]] = {}
    for own in series.values():
        rows_mm, columns_mm = own[0].stored.pixel_spacing
        if not math.isclose(rows_mm, columns_mm, rel_tol=SQUARE):
            who = f"{own[0].ref.patient_id}: pixels of {rows_mm:g} × {columns_mm:g} mm are not square"
            progress.note(f"warning: {who}; physics and hallucination are studied without this series")
            continue
        count = min(plan.options.study_slices, len(own))
        places = [int((i + 0.5) * len(own) / count) for i in range(count)]
        by_size.setdefault(round(rows_mm, 4), []).extend(own[place] for place in places)
    if not by_size:
        raise DomainError("no series has square pixels")
    return dict(sorted(by_size.items()))


# Physics


def study_physics(plan: EvaluationPlan, folder: OutputFolder, progress: Progress) -> tuple[dict[str, Any], Section]:
    """Resolution, noise and detectability: for `summary.json`, and as a section of the report.

    Raises:
        DomainError: there is no slice to study.
    """
    chosen = study_slices(plan, progress)
    most_common = max(chosen, key=lambda pixel_mm: len(chosen[pixel_mm]))
    phantoms = physics_study(
        _resolvers(plan, most_common),
        plan.sampler.degradation,
        plan.model.hu_range,
        most_common,
        seed=plan.options.deg_seed,
        progress=progress,
    )
    noise = [noise_study(_noise_slices(plan, own), mm, progress=progress) for mm, own in chosen.items()]
    write_json(
        folder.path / "physics.json", {"phantoms": asdict(phantoms), "slices": [asdict(study) for study in noise]}
    )
    pictures = [
        ("transfer", "Task transfer functions; beyond the dotted line LR itself holds nothing."),
        ("phantom_noise", "What each method makes of LR's noise on a uniform phantom."),
        ("detectability", "How well a faint disc is told from the noise (non-prewhitening observer)."),
    ]
    if not plan.options.no_plots:
        pictures += _physics_plots(folder, phantoms, noise)
    section = Section(
        "physics",
        "Physics",
        paragraphs=(
            "Phantoms sent through degradation and method, at both ends of the range of doses. A network is not "
            "linear: read each number at its contrast and dose.",
            phantoms_text(plan.sampler.degradation),
        ),
        tables=(*_transfer_tables(phantoms), _noise_table(phantoms, noise), _detectability_table(phantoms)),
        pictures=pictures,
        notes=(
            f"Pixels of {phantoms.pixel_mm:g} mm; LR ends at {phantoms.lr_nyquist_per_mm:.3f}/mm. How it is measured "
            "and read: docs/explanation/physics.md. All values are in physics.json.",
        ),
    )
    return _physics_document(phantoms), section


def _noise_slices(plan: EvaluationPlan, slices: Sequence[PlannedSlice]) -> Iterator[NoiseSlice]:
    names = study_names(plan)
    for planned in slices:
        images, hr_hu = reconstruct_slice(plan, planned)
        images_hu = plan.model.hu_range.to_hu(images[:, 0].cpu().numpy())
        yield NoiseSlice(hr_hu, dict(zip(names.values(), images_hu, strict=True)))


def _physics_document(found: PhysicsStudy) -> dict[str, Any]:
    transfer = [
        {
            "method": measured.method,
            "contrast_hu": measured.contrast_hu,
            "dose": measured.dose,
            "mtf50_per_mm": measured.transfer.mtf50_per_mm,
            "mtf10_per_mm": measured.transfer.mtf10_per_mm,
        }
        for measured in found.transfer
    ]
    noise = [
        {
            "method": measured.method,
            "dose": measured.dose,
            "std_hu": measured.spectrum.std_hu,
            "peak_per_mm": measured.spectrum.peak_per_mm,
            "mean_per_mm": measured.spectrum.mean_per_mm,
        }
        for measured in found.noise
    ]
    return {
        "pixel_mm": found.pixel_mm,
        "lr_nyquist_per_mm": found.lr_nyquist_per_mm,
        "transfer": transfer,
        "noise": noise,
        "detectability": [asdict(measured) for measured in found.detectability],
    }


def _physics_plots(folder: OutputFolder, phantoms: PhysicsStudy, noise: Sequence[NoiseStudy]) -> list[tuple[str, str]]:
    """Write the plots; returns names and captions of those of noise on slices."""
    save_figure(physics_figures.transfer_figure(phantoms), folder.plots / "transfer.png")
    save_figure(physics_figures.phantom_noise_figure(phantoms), folder.plots / "phantom_noise.png")
    save_figure(physics_figures.detectability_figure(phantoms), folder.plots / "detectability.png")
    pictures: list[tuple[str, str]] = []
    most_regions = sorted(noise, key=lambda study: sum(map(len, study.regions)), reverse=True)
    for place, study in enumerate(most_regions[:MOST_SPECTRA]):
        figure = physics_figures.noise_figure(study, f"pixels of {study.pixel_mm:g} mm")
        save_figure(figure, folder.plots / f"noise_{place}.png")
        caption = "where the reference is homogeneous; HR's own noise is among it"
        pictures.append((f"noise_{place}", f"Noise of slices with pixels of {study.pixel_mm:g} mm, {caption}."))
    return pictures


def _transfer_tables(found: PhysicsStudy) -> list[SectionTable]:
    """MTF50 and MTF10: a row for each edge, a column for each method."""
    by_key = {(edge.contrast_hu, edge.dose, edge.method): edge.transfer for edge in found.transfer}
    fifty: list[tuple[str, ...]] = []
    ten: list[tuple[str, ...]] = []
    for contrast, dose in sorted({key[:2] for key in by_key}):
        own = [by_key[contrast, dose, method] for method in found.methods]
        edge = _condition(contrast, dose)
        fifty.append((edge, *(_with_error(mtf.mtf50_per_mm, mtf.mtf50_error_per_mm) for mtf in own)))
        ten.append((edge, *(_with_error(mtf.mtf10_per_mm, mtf.mtf10_error_per_mm) for mtf in own)))
    columns = ("Edge", *found.methods)
    return [
        SectionTable("Resolution: MTF50 of a disc's edge, 1/mm ↑", columns, fifty),
        SectionTable("Resolution: MTF10 of a disc's edge, 1/mm ↑", columns, ten),
    ]


def _condition(contrast_hu: float, dose: float) -> str:
    return f"{contrast_hu:+g} HU, dose {dose:g}".replace("-", "−")


def _with_error(value: float | None, error: float | None) -> str:
    return format_number(value, 3) + ("" if value is None or error is None else f" ± {error:.3f}")


def _noise_table(found: PhysicsStudy, noise: Sequence[NoiseStudy]) -> SectionTable:
    methods = (REFERENCE, *found.methods)
    spectra: list[tuple[str, Mapping[str, NoiseSpectrum]]] = []
    for params in found.conditions:
        at_dose = {measured.method: measured.spectrum for measured in found.noise if measured.dose == params.dose}
        spectra.append((f"uniform phantom, dose {params.dose:g}", at_dose))
    spectra += [(f"slices, pixels of {study.pixel_mm:g} mm", study.spectra) for study in noise]
    rows: list[tuple[str, ...]] = []
    for where, by_method in spectra:
        cells = [_spectrum(by_method.get(method)) for method in methods]
        rows.append((where, *cells))
    return SectionTable("Noise: standard deviation, HU (mean frequency, 1/mm) → HR", ("Where", *methods), rows)


def _spectrum(spectrum: NoiseSpectrum | None) -> str:
    return NONE if spectrum is None else f"{spectrum.std_hu:.2f} ({format_number(spectrum.mean_per_mm, 2)})"


def _detectability_table(found: PhysicsStudy) -> SectionTable:
    by_key = {(d.contrast_hu, d.dose, d.diameter_mm, d.method): d.d_prime for d in found.detectability}
    rows: list[tuple[str, ...]] = []
    for contrast, dose, diameter in sorted({key[:3] for key in by_key}):
        d_primes = [by_key.get((contrast, dose, diameter, method)) for method in found.methods]
        cells = [format_number(d_prime, 1) for d_prime in d_primes]
        rows.append((f"{diameter:g} mm, {_condition(contrast, dose)}", *cells))
    return SectionTable("Detectability d′ ↑", ("Disc", *found.methods), rows)


# Hallucination


def study_hallucination(
    plan: EvaluationPlan, folder: OutputFolder, progress: Progress
) -> tuple[list[dict[str, Any]], Section]:
    """Invented and lost detail, as `study_physics` returns it."""
    slices = [planned for own in study_slices(plan, progress).values() for planned in own]
    found = hallucination_study(
        (_named_pair(plan, planned) for planned in slices),
        _resolvers(plan),
        degradation=plan.sampler.degradation,
        hu_range=plan.model.hu_range,
        seed=plan.options.deg_seed,
        progress=progress,
    )
    write_json(folder.path / "hallucination.json", asdict(found))
    section = Section(
        "hallucination",
        "Invented and lost detail",
        paragraphs=(f"{len(slices)} slices. Read every number beside interpolation's, which invents nothing.",),
        tables=(_consistency_table(found.summaries), *_lesion_tables(found)),
        pictures=() if plan.options.no_plots else _hallucination_plots(plan, folder, found, slices),
        notes=(
            "LR-consistency: SR degraded again, without noise, less LR. sFRC (FDA): patches of 64² whose Fourier ring "
            "correlation with HR falls to 0.5 at 0.33/mm or below; “within LR” counts those that part where LR still "
            "held the truth. Lesions: discs put into HR before it is degraded, or left out. How it is measured and "
            "read: docs/explanation/physics.md. All values: hallucination.json.",
        ),
    )
    return [asdict(summary) for summary in found.summaries], section


def _slice_name(planned: PlannedSlice) -> str:
    ref = planned.ref
    return f"{ref.patient_id} {ref.series_uid} {ref.slice_index}"


def _named_pair(plan: EvaluationPlan, planned: PlannedSlice) -> NamedPair:
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    stored, ref = planned.stored, planned.ref
    # Lesions are drawn by the names that the files would have, so that they are the same without names.
    number = ref.series_uid.removeprefix(plan.options.shown(stored.series_uid))
    own = f"{stored.patient_id} {stored.series_uid}{number} {ref.slice_index}"
    return NamedPair(_slice_name(planned), pair, stored.pixel_spacing[0], plan.told(planned), own)


def _most_flagged(
    plan: EvaluationPlan, found: HallucinationStudy, slices: Sequence[PlannedSlice], method: str
) -> tuple[SliceChecks, PlannedSlice, NamedPair]:
    """A method's slice with the most flagged patches."""
    own = [checks for checks in found.slices if checks.method == method]
    worst = max(own, key=lambda checks: len(checks.sfrc.flagged))
    planned = next(planned for planned in slices if _slice_name(planned) == worst.slice_name)
    return worst, planned, _named_pair(plan, planned)


def _hallucination_plots(
    plan: EvaluationPlan, folder: OutputFolder, found: HallucinationStudy, slices: Sequence[PlannedSlice]
) -> list[tuple[str, str]]:
    """Lesion recovery; flagged patches of each model; all methods' residuals on the first model's worst slice."""
    save_figure(recovery_figure(found), folder.plots / "lesions.png")
    pictures = [("lesions", "How much of a lesion's contrast comes back; the band is what appears without one.")]
    hu_range, window, resolvers = plan.model.hu_range, shown_window(plan), _resolvers(plan)
    models = [study_names(plan)[method] for method in plan.model_methods]
    for place, model in enumerate(models):
        worst, _, named = _most_flagged(plan, found, slices, model)
        if not worst.sfrc.flagged:
            continue
        sr = telling(resolvers[model], named.made_with)(hu_range.to_hu(named.pair.lr[0, 0].cpu().numpy()))
        hr = np.clip(named.pair.hr_hu, hu_range.low, hu_range.high)
        title = f"{model}, {worst.slice_name}"
        figure = flagged_figure(sr, hr, worst.sfrc, window, title=title)
        save_figure(figure, folder.plots / f"flagged_{place}.png")
        caption = f"Flagged patches of {model}, those that part first; all are in the file."
        pictures.append((f"flagged_{place}", caption))
    return [*pictures, *_worst_slice_plots(plan, folder, found, slices, models[0])]


def _worst_slice_plots(
    plan: EvaluationPlan,
    folder: OutputFolder,
    found: HallucinationStudy,
    slices: Sequence[PlannedSlice],
    model: str,
) -> list[tuple[str, str]]:
    worst, planned, named = _most_flagged(plan, found, slices, model)
    hu_range, degradation, params = plan.model.hu_range, plan.sampler.degradation, named.pair.draw.params
    lr = hu_range.to_hu(named.pair.lr[0, 0].cpu().numpy())
    images = {name: telling(method, named.made_with)(lr) for name, method in _resolvers(plan).items()}
    scale, antialias = degradation.scale, degradation.antialias
    residuals = {
        name: residual_hu(image, lr, params, scale=scale, hu_range=hu_range, antialias=antialias)
        for name, image in images.items()
    }
    title = f"{planned.ref.patient_id}, slice {planned.ref.slice_index}"
    hr = np.clip(named.pair.hr_hu, hu_range.low, hu_range.high)
    figure = sfrc_figure(
        images[model], hr, worst.sfrc, named.pixel_mm, shown_window(plan), scale=scale, title=f"{title}, {model}"
    )
    save_figure(figure, folder.plots / "sfrc.png")
    noise = params.noise_std * hu_range.hu_per_unit
    save_figure(residual_figure(residuals, noise, title=title), folder.plots / "residual.png")
    return [
        ("sfrc", f"The slice of {model} with the most flagged patches."),
        ("residual", "What LR contradicts on it: edges where a method blurs, structure where it invents."),
    ]


def _consistency_table(summaries: Sequence[MethodSummary]) -> SectionTable:
    columns = (
        *("Method", "residual, HU ↓", "95 %, HU ↓", "worst slice, HU ↓", "noise alone, HU", "worst patch, HU ↓"),
        *("patches judged", "flagged by sFRC ↓", "flagged within LR ↓"),
    )
    rows = [
        (
            summary.method,
            f"{summary.mean_abs_hu:.2f}",
            f"{summary.p95_hu:.2f}",
            f"{summary.worst_mean_abs_hu:.2f}",
            f"{summary.noise_mean_abs_hu:.2f}",
            format_number(summary.worst_patch_hu, 1),
            f"{summary.judged}",
            f"{summary.flagged}" + ("" if summary.flagged_share is None else f" ({100 * summary.flagged_share:.1f} %)"),
            f"{summary.flagged_within_lr}",
        )
        for summary in summaries
    ]
    return SectionTable("LR-consistency and sFRC", columns, rows)


def _lesion_tables(found: HallucinationStudy) -> list[SectionTable]:
    """A row for each kind of lesion, a column for each method."""
    by_key = {(row.diameter_mm, row.contrast_hu, row.method): row for row in found.lesions}
    recovered: list[tuple[str, ...]] = []
    nothing: dict[float, tuple[str, ...]] = {}
    for mm, hu in sorted({key[:2] for key in by_key}):
        own = [by_key[mm, hu, method] for method in found.methods]
        recovered.append((f"{mm:g} mm, {hu:+g} HU".replace("-", "−"), *(_recovered(row) for row in own)))
        nothing[mm] = (f"{mm:g} mm", *(format_number(row.false_contrast_sd_hu, 1) for row in own))
    return [
        SectionTable(
            "Lesions: share of the contrast that comes back, ± SD → 100 %", ("Lesion", *found.methods), recovered
        ),
        SectionTable(
            "Where none was put: contrast that appears, SD in HU ↓", ("Size", *found.methods), list(nothing.values())
        ),
    ]


def _recovered(row: LesionRow) -> str:
    spread = "" if row.recovered_sd is None else f" ± {100 * row.recovered_sd:.0f}"
    return f"{100 * row.recovered_mean:.0f}{spread} %".replace("-", "−")


STUDIES: Mapping[str, Callable[[EvaluationPlan, OutputFolder, Progress], tuple[Any, Section]]] = {
    "physics": study_physics,
    "hallucination": study_hallucination,
}
"""By the option that asks for each, in their order on the page: what belongs into `summary.json` under its name, and
the section of the report."""
