"""Evaluation of networks between slices, and what it writes: tables as CSV, `summary.json`, strips, and one page."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ctsr.checkpoint.files import current_versions
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import ModelUnderTest, short_name
from ctsr.evaluate.output_folder import DIRECTIONS, OutputFolder, PlaneRow, SliceCase, on_domain, output_folder
from ctsr.evaluate.planes import (
    BASELINES,
    CaseRecord,
    MadeCase,
    ThroughPlaneResult,
    key_of,
    measure_through_plane,
    plan_through_plane,
)
from ctsr.evaluate.report import (
    NONE,
    Section,
    SectionTable,
    format_number,
    metric_heading,
    metric_text,
    page_pictures,
    plain_values,
    render_page,
)
from ctsr.evaluate.slices import plane_of_volume
from ctsr.evaluate.statistics import compare, patient_level
from ctsr.evaluate.summary import metric_definitions, table_document
from ctsr.evaluate.thin_series import series_name
from ctsr.figures import Panel, save_figure, slices_figure
from ctsr.files import write_atomically, write_json
from ctsr.hallucination.lesion_insertion import Lesion, LesionTrial
from ctsr.hashing import digest
from ctsr.hu import PRESETS, TISSUES
from ctsr.infer import Int8Support
from ctsr.reporting import SILENT, Progress, counted, safe_name

ACROSS = ("coronal", "sagittal")
"""Planes that show what lies between slices."""
HEADLINE = ("PSNR", "SSIM", "LPIPS", "MAE_HU", "BIAS_HU")
"""Columns of the tables, where they were computed; the files hold all metrics."""
SIMPLE = (BASELINES["linear"], BASELINES["cubic"])
"""The better of these is what a network has to beat."""
MOST_STRIPS = 12
"""Pictures on the page; all are in the folder of plots."""
WINDOW = PRESETS["soft_tissue"]


@dataclass(frozen=True)
class MethodFigures:
    """One method on one series and case, in the first domain: means over planes."""

    patient_id: str
    series_uid: str
    thickness_mm: float
    distance_mm: float
    step_mm: float
    """Between the slices of the truth."""
    method: str
    psnr_db: float | None
    """Coronal and sagittal planes."""
    over_best_db: float | None
    """Above the better of linear and cubic interpolation."""
    ssim_coronal: float | None
    lpips_coronal: float | None
    bias_hu: float | None
    """Of whole planes."""
    largest_tissue_bias_hu: float | None
    largest_tissue_bias_in: str
    """The tissue whose mean HU is off most."""
    back_hu: float
    """Mean |difference| of what thickening makes of the result and the thick slices."""
    seconds: float

    @property
    def case(self) -> SliceCase:
        """How the thick slices were made."""
        return SliceCase(self.thickness_mm, self.distance_mm)


def evaluate_through_plane(
    models: Sequence[ModelUnderTest],
    options: EvaluateOptions,
    progress: Progress = SILENT,
    *,
    int8: Int8Support | None = None,
) -> ThroughPlaneResult:
    """Measure networks between slices on thin series, beside interpolation along the slices' normal.

    Args:
        models: between slices, of one HU range.
        options: `thickness`, `distance` and `planes`; roots, windows, masks, metrics, engine.
        progress: told what is done, and which series are left out.
        int8: opens the network where the precision is int8.

    Raises:
        MissingInputError: no series can be truth.
        UsageError: a metric, window or engine that does not exist.
        CtsrError: nothing could be measured.
    """
    plan = plan_through_plane(models, options, progress, int8=int8)
    with output_folder(options.output_dir, plan.stem, plan.fingerprint) as folder:
        write_json(folder.config_json, plan.config())
        draw = None if options.no_plots else partial(draw_strips, folder=folder.plots)
        result = measure_through_plane(plan, folder, progress, draw)
        write_results(result, folder)
    return result


def method_figures(result: ThroughPlaneResult) -> list[MethodFigures]:
    """The table of series, cases and methods."""
    first = on_domain(result.rows, result.plan.domains[0])
    found: list[MethodFigures] = []
    for record in result.records:
        own = [row for row in first if key_of(row) == record.key]
        if record.problem or not own:
            continue
        psnr = {method: mean_of_planes(own, method, "PSNR", ACROSS) for method in result.plan.methods}
        best = max((value for method in SIMPLE if (value := psnr[method]) is not None), default=None)
        found += [_figures(own, record, method, psnr[method], best) for method in result.plan.methods]
    return found


def mean_of_planes(
    rows: Sequence[PlaneRow], method: str, metric: str, planes: Sequence[str] = DIRECTIONS
) -> float | None:
    """Mean of a metric over planes of some directions; None where none has it."""
    own = [row for row in rows if row.method == method and row.slice.plane in planes and metric in row.metrics]
    values = [value for row in own if (value := row.metrics[metric].value) is not None]
    return math.fsum(values) / len(values) if values else None


def _figures(
    rows: Sequence[PlaneRow], record: CaseRecord, method: str, psnr: float | None, best: float | None
) -> MethodFigures:
    biases = {name: mean_of_planes(rows, method, f"BIAS_HU_{name}") for name in TISSUES}
    known = {name: value for name, value in biases.items() if value is not None}
    worst = max(known, key=lambda name: abs(known[name]), default="")
    return MethodFigures(
        record.patient_id,
        record.series_uid,
        record.thickness_mm,
        record.distance_mm,
        record.step_mm,
        method,
        psnr_db=psnr,
        over_best_db=None if psnr is None or best is None else psnr - best,
        ssim_coronal=mean_of_planes(rows, method, "SSIM", ("coronal",)),
        lpips_coronal=mean_of_planes(rows, method, "LPIPS", ("coronal",)),
        bias_hu=mean_of_planes(rows, method, "BIAS_HU"),
        largest_tissue_bias_hu=known.get(worst),
        largest_tissue_bias_in=worst,
        back_hu=record.back_hu[method],
        seconds=record.seconds[method],
    )


def write_results(result: ThroughPlaneResult, folder: OutputFolder) -> None:
    """Write `series.csv`, `tables.csv`, `summary.json` and `report.html`."""
    figures = method_figures(result)
    names = [column.name for column in fields(MethodFigures)]
    write_atomically(folder.path / "series.csv", _csv(names, [asdict(row) for row in figures]))
    tables = list(_tables(result))
    write_atomically(folder.path / "tables.csv", _csv(list(tables[0]), tables))
    summary = _summary(result, folder, figures)
    write_json(folder.summary_json, summary)
    sections = [series_section(figures), *_case_sections(result), *study_sections(result), _strips_section(folder)]
    people = result.plan.people
    context = {
        "title": "Slices between slices",
        "subtitle": f"{counted(len({people.get(row.patient_id, row.patient_id) for row in figures}), 'patient')}, "
        f"{len({(row.patient_id, row.series_uid) for row in figures})} thin series made thick and brought back",
        "sentence": _sentence(figures, result),
        "sections": sections,
        "pictures": page_pictures(folder.plots),
        "summary": summary,
        "command": result.plan.options.shown_command(folder.config_json),
        "config": yaml.safe_dump(plain_values(result.plan.config()), sort_keys=False, allow_unicode=True),
    }
    write_atomically(folder.report_html, render_page("through_plane.html", context))


def _csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tables(result: ThroughPlaneResult) -> Iterator[dict[str, Any]]:
    """Means over patients: a line for each case, direction, domain, method and metric."""
    for case in result.plan.cases:
        for direction in DIRECTIONS:
            for domain in result.plan.domains:
                rows = [row for row in on_domain(result.rows, domain) if _is_of(row, case, direction)]
                for method, by_metric in patient_level(rows, result.plan.people).items():
                    for metric, found in by_metric.items():
                        yield {
                            **asdict(case),
                            "plane": direction,
                            "window": domain.window.tag,
                            "mask": domain.mask,
                            "method": method,
                            "metric": metric,
                            "mean": found.mean,
                            "sd": found.sd,
                            "patients": found.n,
                        }


def _is_of(row: PlaneRow, case: SliceCase, direction: str) -> bool:
    return row.slice.case == case and row.slice.plane == direction


def _summary(result: ThroughPlaneResult, folder: OutputFolder, figures: Sequence[MethodFigures]) -> dict[str, Any]:
    plan, cases = result.plan, list[dict[str, Any]]()
    for case in plan.cases:
        by_domain: dict[str, Any] = {}
        for domain in plan.domains:
            by_plane: dict[str, Any] = {}
            for direction in DIRECTIONS:
                rows = [row for row in on_domain(result.rows, domain) if _is_of(row, case, direction)]
                models, baselines = plan.methods[len(BASELINES) :], list(BASELINES.values())
                comparisons = compare(rows, models, baselines, plan.people)
                by_plane[direction] = {
                    "patient_level_aggregate": table_document(patient_level(rows, plan.people)),
                    "comparisons": [asdict(comparison) for comparison in comparisons],
                }
            by_domain[domain.tag] = by_plane
        cases.append({**asdict(case), "by_domain": by_domain})
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "methods": list(plan.methods),
        "models": {
            name: {"path": str(model.model.path), "sha256": model.model.sha256, "engine": model.engine_name}
            for name, model in zip(plan.methods[len(BASELINES) :], plan.models, strict=True)
        },
        "metrics": metric_definitions(plan.metrics, plan.domains[0], plan.hu_range),
        "perceptual": {name: dict(found) for name, found in plan.perceptual.provenance.items()},
        "series": [asdict(row) for row in figures],
        "cases": cases,
        "records": [asdict(record) for record in result.records],
        "config": plain_values(plan.config()),
        "paths": {
            "metrics_csv": plan.options.shown_path(folder.metrics_csv),
            "report_html": plan.options.shown_path(folder.report_html),
        },
        "failures": list(plan.options.shown_failures(result.failures)),
        "versions": current_versions(),
    }


# The page


def _sentence(figures: Sequence[MethodFigures], result: ThroughPlaneResult) -> str:
    model = result.plan.methods[len(BASELINES)]
    gains = [row.over_best_db for row in figures if row.method == model and row.over_best_db is not None]
    if not gains:
        return "No PSNR was computed."
    return (
        f"{model} lies {min(gains):.2f} to {max(gains):.2f} dB above the better of linear and cubic interpolation, "
        f"over {len(gains)} pairs of series and case."
    ).replace("-", "−")


SERIES_COLUMNS = (
    *("series", "t / d, mm", "step, mm", "method", "PSNR, dB ↑", "over best ↑", "SSIM coronal ↑", "LPIPS coronal ↓"),
    *("bias, HU → 0", "largest bias by tissue, HU → 0", "back, HU ↓", "s"),
)


def series_section(figures: Sequence[MethodFigures]) -> Section:
    """Each series and case, by every method."""
    rows = [
        (
            row.patient_id,
            f"{row.thickness_mm:g} / {row.distance_mm:g}",
            f"{row.step_mm:.3g}",
            row.method,
            format_number(row.psnr_db, 2),
            NONE if row.over_best_db is None else f"{row.over_best_db:+.2f}".replace("-", "−"),
            format_number(row.ssim_coronal, 4),
            format_number(row.lpips_coronal, 4),
            format_number(row.bias_hu, 2),
            f"{format_number(row.largest_tissue_bias_hu, 1)} {row.largest_tissue_bias_in}",
            format_number(row.back_hu, 2),
            format_number(row.seconds, 0),
        )
        for row in figures
    ]
    return Section(
        "series",
        "Each series",
        tables=(SectionTable("Means over planes", SERIES_COLUMNS, rows),),
        notes=(
            "PSNR: coronal and sagittal planes; over best: above the better of linear and cubic interpolation. Back: "
            "mean |difference| of the thick slices and the result made thick again. Seconds depend on the machine.",
        ),
    )


def _case_sections(result: ThroughPlaneResult) -> Iterator[Section]:
    plan = result.plan
    for number, case in enumerate(plan.cases):
        rows = [row for row in result.rows if row.slice.case == case]
        if rows:
            domains = [_domain_table(result, on_domain(rows, domain), domain.title) for domain in plan.domains]
            tissues = _tissue_table(result, on_domain(rows, plan.domains[0]))
            yield Section(
                f"case{number}",
                case.text[0].upper() + case.text[1:],
                tables=(*domains, *tissues),
                notes=("Means over patients, each of whom counts once with the mean over its planes.",),
            )


def _domain_table(result: ThroughPlaneResult, rows: Sequence[PlaneRow], title: str) -> SectionTable:
    shown = [name for name in HEADLINE if name in result.plan.metrics]
    cells: list[tuple[str, ...]] = []
    for direction in DIRECTIONS:
        table = patient_level([row for row in rows if row.slice.plane == direction], result.plan.people)
        for method, found in table.items():
            cells.append((direction, method, *(metric_text(name, found[name].mean) for name in shown)))
    pi_kind = result.plan.perceptual.pi_kind
    return SectionTable(title, ("planes", "method", *(metric_heading(pi_kind, name) for name in shown)), cells)


def _tissue_table(result: ThroughPlaneResult, rows: Sequence[PlaneRow]) -> list[SectionTable]:
    names = [name for name in TISSUES if f"BIAS_HU_{name}" in result.plan.metrics]
    if not names:
        return []
    cells: list[tuple[str, ...]] = []
    for method, found in patient_level(rows, result.plan.people).items():
        biases = [found[f"BIAS_HU_{name}"].mean for name in names]
        cells.append((method, *(metric_text("BIAS_HU", bias) for bias in biases)))
    columns = ("method", *(TISSUES[name].text.replace("-", "−") for name in names))
    return [SectionTable("Bias by tissue, HU, all planes → 0", columns, cells)]


def study_sections(result: ThroughPlaneResult) -> list[Section]:
    """Lesions put in and widths of a thin disc, where they were asked for."""
    found: list[Section] = []
    widths = [record for record in result.records if record.disc_width_mm]
    if widths:
        rows: list[tuple[str, ...]] = []
        for record in widths:
            cells = [format_number(record.disc_width_mm[method], 2) for method in result.plan.methods]
            cubic = record.disc_width_mm[BASELINES["cubic"]]
            model = record.disc_width_mm[result.plan.methods[-1]]
            share = None if cubic is None or model is None else model / cubic
            rows.append((record.patient_id, record.case.text, *cells, format_number(share, 2)))
        columns = ("step of", "case", *map(short_name, result.plan.methods), "last / cubic")
        title = "Width along z of a thin disc (FWHM of the slice sensitivity profile), mm ↓"
        found.append(Section("edges", "Edges along z", tables=(SectionTable(title, columns, rows),)))
    trials = [(record.case, trial) for record in result.records for trial in record.lesions]
    if trials:
        cases = dict.fromkeys(case for case, _ in trials)
        tables: list[SectionTable] = []
        for case in cases:
            of_case = [trial for own, trial in trials if own == case]
            tables.append(_lesions(of_case, case, result))
        note = (
            "Balls of 4 to 10 mm put into the thin slices, their centres between two thick slices. Recovered: share of "
            "the contrast that comes back; appeared: share of places at which half of it appears without a lesion."
        )
        found.append(Section("lesions", "Lesions put in", tables=tables, notes=(note,)))
    return found


def _lesions(trials: Sequence[LesionTrial], case: SliceCase, result: ThroughPlaneResult) -> SectionTable:
    cubic = {_of(trial): trial.recovered for trial in trials if trial.method == BASELINES["cubic"]}
    rows: list[tuple[str, ...]] = []
    for diameter in dict.fromkeys(trial.lesion.diameter_mm for trial in trials):
        for method in result.plan.methods:
            own = [trial for trial in trials if trial.method == method and trial.lesion.diameter_mm == diameter]
            recovered = [trial.recovered for trial in own]
            better = sum(trial.recovered > cubic[_of(trial)] for trial in own)
            appeared = sum(trial.appeared for trial in own)
            cells = (format_number(math.fsum(recovered) / len(own), 2), format_number(min(recovered), 2))
            rows.append((f"{diameter:g}", method, *cells, f"{better} of {len(own)}", f"{appeared} of {len(own)}"))
    columns = ("diameter, mm", "method", "recovered, mean", "least", "more than cubic", "appeared")
    return SectionTable(case.text[0].upper() + case.text[1:], columns, rows)


def _of(trial: LesionTrial) -> tuple[str, Lesion]:
    return trial.slice_name, trial.lesion


def _strips_section(folder: OutputFolder) -> Section:
    drawn = sorted(folder.plots.glob("*.png")) if folder.plots.is_dir() else []
    pictures = [(path.stem, path.stem.replace("_", " ")) for path in drawn[:MOST_STRIPS]]
    more = len(drawn) - len(pictures)
    return Section(
        "strips",
        "Planes to look at",
        pictures=pictures,
        notes=(f"{more} more are in {folder.plots.name}/.",) if more else (),
    )


def draw_strips(made: MadeCase, folder: Path) -> None:
    """Draw the middle coronal and sagittal plane: thick slices, every method, and the truth."""
    thick, case, series = made.thick, made.case, made.series
    nearest = [thick.grid.nearest(index) for index in range(thick.grid.num_wanted)]
    places = list(next(iter(made.images.values())))
    for direction in ACROSS:
        own = [place for place in places if place[0] == direction]
        if not own:
            continue
        place = own[len(own) // 2]
        strips = {f"{case.thickness_mm:g} mm slices": plane_of_volume(thick.thick, *place)[nearest]}
        strips |= {short_name(method): planes[place] for method, planes in made.images.items()}
        strips["truth"] = plane_of_volume(thick.truth, *place)
        down = -1 if series.rises else 1  # the head is up
        panels = [Panel(name, strip[::down]) for name, strip in strips.items()]
        figure = slices_figure(
            panels,
            WINDOW,
            title=f"{series.patient_id}, {direction}, {case.text}",
            pixel_aspect=thick.grid.spacing / series.pixel_spacing[1 if direction == "coronal" else 0],
        )
        name = f"{direction}_{safe_name(series.patient_id)}_{digest(series_name(series), size=4).hex()}"
        folder.mkdir(exist_ok=True)
        save_figure(figure, folder / f"{name}_t{case.thickness_mm:g}_d{case.distance_mm:g}.png")
