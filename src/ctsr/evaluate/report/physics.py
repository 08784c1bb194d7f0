"""Resolution, noise and detectability of the methods under evaluation: study, file, plots and part of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.pipeline import made
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.report.sections import NONE, Section, SectionTable, number
from ctsr.evaluate.report.subjects import chosen_slices, labels, resolvers
from ctsr.figures import save_figure
from ctsr.files import write_json
from ctsr.physics import REFERENCE, NoiseSlice, NoiseSpectrum, NoiseStudy, PhysicsStudy, noise_study, study
from ctsr.physics.figures import detectability_figure, noise_figure, phantom_noise_figure, transfer_figure
from ctsr.progress import Progress

__all__ = ["study_physics"]

MOST_SPECTRA = 3
"""Pixel sizes whose noise is drawn: those with the most homogeneous regions; all are in the table."""


def study_physics(plan: EvaluationPlan, folder: ResultFolder, progress: Progress) -> tuple[dict[str, Any], Section]:
    """Measure, and write `physics.json` and the plots.

    Returns:
        The figures that are compared, for `summary.json`; and the part of the report.
    """
    found, noise = _studied(plan, progress)
    write_json(folder.path / "physics.json", {"phantoms": asdict(found), "slices": [asdict(one) for one in noise]})
    return _document(found), _section(plan, folder, found, noise)


def _studied(plan: EvaluationPlan, progress: Progress) -> tuple[PhysicsStudy, list[NoiseStudy]]:
    chosen = chosen_slices(plan, progress)
    most_common = max(chosen, key=lambda pixel_mm: len(chosen[pixel_mm]))
    found = study(
        resolvers(plan),
        plan.sampler.degradation,
        plan.model.hu_range,
        most_common,
        seed=plan.options.deg_seed,
        progress=progress,
    )
    return found, [noise_study(_shown(plan, own), mm, progress=progress) for mm, own in chosen.items()]


def _shown(plan: EvaluationPlan, slices: Sequence[PlannedSlice]) -> Iterator[NoiseSlice]:
    hu_range, named = plan.model.hu_range, labels(plan)
    for planned in slices:
        images, hr_hu = made(plan, planned)
        in_hu = hu_range.to_hu(images[:, 0].cpu().numpy())
        yield NoiseSlice(hr_hu, {named[name]: image for name, image in zip(plan.methods, in_hu, strict=True)})


def _document(found: PhysicsStudy) -> dict[str, Any]:
    return {
        "pixel_mm": found.pixel_mm,
        "lr_nyquist_per_mm": found.lr_nyquist_per_mm,
        "transfer": [
            {
                "method": one.method,
                "contrast_hu": one.contrast_hu,
                "dose": one.dose,
                "mtf50_per_mm": one.transfer.mtf50_per_mm,
                "mtf10_per_mm": one.transfer.mtf10_per_mm,
            }
            for one in found.transfer
        ],
        "noise": [
            {
                "method": one.method,
                "dose": one.dose,
                "std_hu": one.spectrum.std_hu,
                "peak_per_mm": one.spectrum.peak_per_mm,
                "mean_per_mm": one.spectrum.mean_per_mm,
            }
            for one in found.noise
        ],
        "detectability": [asdict(one) for one in found.detectability],
    }


def _section(plan: EvaluationPlan, folder: ResultFolder, found: PhysicsStudy, noise: Sequence[NoiseStudy]) -> Section:
    pictures = [
        ("transfer", "Task transfer functions; beyond the dotted line LR itself holds nothing."),
        ("phantom_noise", "What each method makes of LR's noise on a uniform phantom."),
        ("detectability", "How well a faint disc is told from the noise (non-prewhitening observer)."),
    ]
    if not plan.options.no_plots:
        save_figure(transfer_figure(found), folder.plots / "transfer.png")
        save_figure(phantom_noise_figure(found), folder.plots / "phantom_noise.png")
        save_figure(detectability_figure(found), folder.plots / "detectability.png")
        for place, one in enumerate(sorted(noise, key=_regions, reverse=True)[:MOST_SPECTRA]):
            name = f"noise_{place}"
            save_figure(noise_figure(one, f"pixels of {one.pixel_mm:g} mm"), folder.plots / f"{name}.png")
            caption = "where the reference is homogeneous; HR's own noise is among it"
            pictures.append((name, f"Noise of slices with pixels of {one.pixel_mm:g} mm, {caption}."))
    return Section(
        "physics",
        "Physics",
        paragraphs=(
            "Phantoms sent through degradation and method, at both ends of the range of doses. A network is not "
            "linear: read each number at its contrast and dose.",
        ),
        tables=(*_transfer_tables(found), _noise_table(found, noise), _detectability_table(found)),
        pictures=pictures,
        notes=(
            f"Pixels of {found.pixel_mm:g} mm; LR ends at {found.lr_nyquist_per_mm:.3f}/mm. How it is measured and "
            "read: docs/physics.md. All values are in physics.json.",
        ),
    )


def _regions(study: NoiseStudy) -> int:
    return sum(map(len, study.regions))


def _transfer_tables(found: PhysicsStudy) -> list[SectionTable]:
    """A line for each edge, a column for each method."""
    by_key = {(one.contrast_hu, one.dose, one.method): one.transfer for one in found.transfer}
    edges = sorted({key[:2] for key in by_key})
    tables: list[SectionTable] = []
    for name in ("MTF50", "MTF10"):
        rows: list[tuple[str, ...]] = []
        for contrast, dose in edges:
            own = [by_key[contrast, dose, method] for method in found.methods]
            fifty = name == "MTF50"
            values = [
                (one.mtf50_per_mm, one.mtf50_error_per_mm) if fifty else (one.mtf10_per_mm, one.mtf10_error_per_mm)
                for one in own
            ]
            rows.append((_at(contrast, dose), *(_with_error(*value) for value in values)))
        tables.append(SectionTable(f"Resolution: {name} of a disc's edge, 1/mm", ("Edge", *found.methods), rows))
    return tables


def _at(contrast_hu: float, dose: float) -> str:
    return f"{contrast_hu:+g} HU, dose {dose:g}".replace("-", "−")


def _noise_table(found: PhysicsStudy, noise: Sequence[NoiseStudy]) -> SectionTable:
    methods = (REFERENCE, *found.methods)
    phantoms = [
        (
            f"uniform phantom, dose {params.dose:g}",
            {one.method: one.spectrum for one in found.noise if one.dose == params.dose},
        )
        for params in found.conditions
    ]
    slices = [(f"slices, pixels of {one.pixel_mm:g} mm", one.spectra) for one in noise]
    rows = [(where, *(_spectrum(spectra.get(method)) for method in methods)) for where, spectra in (*phantoms, *slices)]
    return SectionTable("Noise: standard deviation, HU (mean frequency, 1/mm)", ("Where", *methods), rows)


def _spectrum(one: NoiseSpectrum | None) -> str:
    return NONE if one is None else f"{one.std_hu:.2f} ({number(one.mean_per_mm, 2)})"


def _detectability_table(found: PhysicsStudy) -> SectionTable:
    by_key = {(one.contrast_hu, one.dose, one.diameter_mm, one.method): one.d_prime for one in found.detectability}
    rows = [
        (
            f"{diameter:g} mm, {_at(contrast, dose)}",
            *(number(by_key.get((contrast, dose, diameter, method)), 1) for method in found.methods),
        )
        for contrast, dose, diameter in sorted({key[:3] for key in by_key})
    ]
    return SectionTable("Detectability d′", ("Disc", *found.methods), rows)


def _with_error(value: float | None, error: float | None) -> str:
    return number(value, 3) + ("" if value is None or error is None else f" ± {error:.3f}")
