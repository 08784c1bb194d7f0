"""`report.html`: an evaluation as one page without external files. It lays out tables that were computed before."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ctsr.evaluate.methods import BICUBIC, short_name
from ctsr.evaluate.output_folder import OutputFolder
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.statistics import ENOUGH, FEWEST, Comparison, Table, best_methods
from ctsr.evaluate.summary import ResultTables
from ctsr.figures import DPI
from ctsr.files import write_atomically
from ctsr.hu import TISSUES
from ctsr.metrics import METRICS, plain_metric
from ctsr.reporting import counted

NONE = "–"
"""Shown where there is no value."""
HEADLINE = ("PSNR", "SSIM", "MS_SSIM", "HAARPSI", "VIF", "LPIPS", "PI", "MAE_HU", "RMSE_HU", "BIAS_HU")
"""Columns of the tables, where they were computed; the files hold all metrics."""
TESTED = ("PSNR", "SSIM", "LPIPS", "MAE_HU")
"""Metrics whose paired tests are shown."""
FIGURES = ("PSNR", "SSIM", "LPIPS", "MAE_HU")
"""Metrics that are large figures at the top of the page; the first three that were computed."""
PARTS_IN_WORDS = {"train": "training", "val": "validation", "test": "test"}
EARLY = ("hallucination",)
"""Sections that stand before the tables: lesions that a method invents or loses matter more than a mean."""
FURTHER_WINDOWS = ("PSNR", "SSIM", "LPIPS")
"""Columns of every window but the first, so that one table holds them all; `summary.json` has the others."""
FEWEST_IN_GROUP = 2
"""Patients: a group of one says something of that patient, and nothing of the property."""
STRIPS = ("median", "comparison")
"""Examples that can stand at the top of the page, the first that there is."""
ARROWS = {"higher": "↑", "lower": "↓", "nearer 0": "→ 0"}
"""Behind a metric's name: which way is better."""
CSS_DPI = 96


@dataclass(frozen=True)
class SectionTable:
    """A table of formatted cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page that only some evaluations have."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[SectionTable] = ()
    pictures: Sequence[tuple[str, str]] = ()
    """Name of a plot, and its caption."""
    notes: Sequence[str] = ()


def write_report(
    plan: EvaluationPlan,
    tables: ResultTables,
    summary: Mapping[str, Any],
    folder: OutputFolder,
    sections: Sequence[Section] = (),
) -> None:
    """Write the page, with the plots that are in the folder.

    Args:
        plan: what was evaluated.
        tables: its results.
        summary: the content of `summary.json`.
        folder: receives `report.html`.
        sections: of the studies.
    """
    context = _context(plan, tables, summary, folder, sections) | HELPERS
    write_atomically(folder.report_html, render_page("report.html", context))


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """A page of one of the templates."""
    environment = Environment(
        loader=PackageLoader("ctsr.evaluate"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def _context(
    plan: EvaluationPlan,
    tables: ResultTables,
    summary: Mapping[str, Any],
    folder: OutputFolder,
    sections: Sequence[Section],
) -> dict[str, Any]:
    first = tables.domains[0]
    tissues = _tissue_rows(first.patient_level)
    pictures, comparisons = page_pictures(folder.plots), _shown_comparisons(first.comparisons)
    overview = _overview(plan, tables, pictures)
    return {
        "title": f"{', '.join(map(short_name, plan.model_methods))} on the {plan.options.split} set",
        "subtitle": _subtitle(plan),
        "cautions": [*plan.caveats.sentences(plan.patients), *tables.cautions],
        "marks": {patient: plan.caveats.marks(patient) for patient in plan.patients},
        "overview": overview,
        "contents": _contents(tissues, first.strata, pictures, sections),
        "early": [section for section in sections if section.anchor in EARLY],
        "summary": summary,
        "heading": partial(metric_heading, plan.perceptual.pi_kind),
        "results": _result_tables(tables),
        "columns": first_columns(tables),
        "first_window": tables.domains[0].domain.title,
        "interval_note": _interval_note(plan),
        "learned_note": _perceptual_note(plan),
        "comparisons": comparisons,
        "untested": _shared_note(comparisons),
        "windows_note": ""
        if len(plan.domains) == 1
        else f"In {plan.domains[0].title}; the others are in summary.json.",
        "tissues": tissues,
        "patients": tables.first.by_patient,
        "strata": _strata_rows(first.strata),
        "single": _single_groups(first.strata),
        "pictures": pictures,
        "sections": [section for section in sections if section.anchor not in EARLY],
        "command": plan.options.shown_command(folder.config_json),
        "degradation": plan.sampler.degradation.sentence,
        "told": plan.options.conditions_source.sentence if plan.conditional_methods else "",
        "config": yaml.safe_dump(
            plain_values(plan.config()), sort_keys=False, allow_unicode=True, default_flow_style=None
        ),
    }


@dataclass(frozen=True)
class _Picture:
    data: str
    """PNG as base64."""
    width: int
    """CSS pixels: the size in print, so that letters are of one size on the whole page."""


@dataclass(frozen=True)
class _Figure:
    """One metric of the first model, large, beside the interpolation it is compared with."""

    name: str
    """Name of the metric, with its arrow."""
    value: str
    against: str
    """The same of the interpolation, and on how many patients the model is better."""


@dataclass(frozen=True)
class _Overview:
    """What a reader sees first."""

    sentence: str
    figures: Sequence[_Figure]
    strip: str
    """Name of the picture; empty where none was drawn."""
    window: str
    """Window of the figures."""


def _overview(plan: EvaluationPlan, tables: ResultTables, pictures: Mapping[str, _Picture]) -> _Overview:
    """The first model in the first domain, against bicubic interpolation or else the last baseline."""
    first, model = tables.domains[0], plan.model_methods[0]
    table = first.patient_level
    baseline = BICUBIC if BICUBIC in plan.baselines else plan.baselines[-1]
    paired = {found.metric: found for found in first.comparisons if (found.model, found.baseline) == (model, baseline)}
    shown = [name for name in FIGURES if name in paired and paired[name].n][:3]
    figures = [
        _Figure(
            metric_heading(plan.perceptual.pi_kind, name),
            metric_text(name, table[model][name].mean),
            f"{short_name(baseline)} {metric_text(name, table[baseline][name].mean)}; better on "
            f"{paired[name].better_on} of {_patients(paired[name].n)}",
        )
        for name in shown
    ]
    who = f"{_patients(plan.num_patients)} of the {PARTS_IN_WORDS[plan.options.split]} part ({len(plan.slices)} slices)"
    said = _compared(short_name(model), short_name(baseline), paired[shown[0]]) if shown else "no metric was computed"
    strip = next((name for name in STRIPS if name in pictures), "")
    return _Overview(f"On {who}, at ×{plan.model.scale}: {said}.", figures, strip, first.domain.title)


def _compared(model: str, baseline: str, found: Comparison) -> str:
    """`RRDB lies 2.31 dB above Bicubic in PSNR, and is better on 2 of 2 patients`."""
    if found.difference is None:
        return f"{model} and {baseline} have no {found.metric} in common"
    unit, side = METRICS[found.metric].unit, "above" if found.difference >= 0 else "below"
    apart = metric_text(found.metric, abs(found.difference)) + ("" if unit == "1" else f" {unit}")
    metric = plain_metric(found.metric)
    better = f"{found.better_on} of {_patients(found.n)}"
    return f"{model} lies {apart} {side} {baseline} in {metric}, and is better on {better}"


def _patients(count: int) -> str:
    return counted(count, "patient")


def _subtitle(plan: EvaluationPlan) -> str:
    """Which model the one name of the page stands for, where its family is that name; scale; how much was measured."""
    name = short_name(plan.model_methods[0])
    which = f"{name} is {plan.model.experiment_name}; " if len(plan.models) == 1 else ""
    return f"{which}×{plan.model.scale} super-resolution of {len(plan.slices)} slices of {_patients(plan.num_patients)}"


@dataclass(frozen=True)
class _StrataRow:
    """A group of at least `FEWEST_IN_GROUP` patients who share a property of the headers."""

    property: str
    value: str
    patients: int
    table: Table


def _strata_rows(strata: Mapping[str, Mapping[str, Table]]) -> list[_StrataRow]:
    return [
        _StrataRow(name, value, _count(table), table)
        for name, groups in strata.items()
        for value, table in groups.items()
        if _count(table) >= FEWEST_IN_GROUP
    ]


def _single_groups(strata: Mapping[str, Mapping[str, Table]]) -> str:
    """The groups of one patient each, by property: `kernel B30f, B50f; scanner …`."""
    found: list[str] = []
    for name, groups in strata.items():
        alone = [value for value, table in groups.items() if _count(table) < FEWEST_IN_GROUP]
        found += [f"{name} {', '.join(alone)}"] if alone else []
    return "; ".join(found)


@dataclass(frozen=True)
class _Group:
    """Columns under one head."""

    text: str
    """The window, or HU."""
    table: Table
    names: Sequence[str]


@dataclass(frozen=True)
class _ResultTable:
    """One mask: a row for each method, and a group of columns for each window."""

    text: str
    methods: Sequence[str]
    groups: Sequence[_Group]


def _result_tables(tables: ResultTables) -> list[_ResultTable]:
    """One table for each mask; metrics in HU do not depend on the window and have a group of their own."""
    shown: list[_ResultTable] = []
    for mask in dict.fromkeys(found.domain.mask for found in tables.domains):
        own = [found for found in tables.domains if found.domain.mask == mask]
        names = _computed(own[0].patient_level)
        in_window = [name for name in names if METRICS[name].input_scale == "window"]
        groups: list[_Group] = []
        for found in own:
            further = [name for name in in_window if found is own[0] or name in FURTHER_WINDOWS] or in_window[:1]
            groups.append(_Group(replace(found.domain, mask="none").title, found.patient_level, further))
        groups.append(
            _Group(
                "HU, clipped to the model's range",
                own[0].patient_level,
                [name for name in names if name not in in_window],
            )
        )
        text = "the whole image" if mask == "none" else f"the {mask} only"
        filled = [group for group in groups if group.names]
        shown.append(_ResultTable(text, list(own[0].patient_level), filled))
    return shown


def first_columns(tables: ResultTables) -> list[str]:
    """Columns of the tables that are about the first domain alone."""
    return _computed(tables.domains[0].patient_level)


def _computed(table: Table) -> list[str]:
    columns = next(iter(table.values()))
    return [name for name in HEADLINE if name in columns and columns[name].n] or list(columns)[: len(HEADLINE)]


def _shown_comparisons(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [comparison for comparison in comparisons if comparison.n]
    metrics = {comparison.metric for comparison in tested} & set(TESTED)
    if not metrics and tested:
        metrics = {tested[0].metric}
    return [comparison for comparison in tested if comparison.metric in metrics]


def _shared_note(comparisons: Sequence[Comparison]) -> str:
    """The reason why there is no p, where all comparisons have the same."""
    notes = {comparison.note for comparison in comparisons}
    return f"No p is given: {notes.pop()}." if len(notes) == 1 and "" not in notes else ""


def _tissue_rows(table: Table) -> list[dict[str, Any]]:
    """Tissues whose metrics were computed and that some patient has."""
    columns = next(iter(table.values()))
    rows: list[dict[str, Any]] = []
    for tissue in TISSUES.values():
        bias, mae = f"BIAS_HU_{tissue.name}", f"MAE_HU_{tissue.name}"
        if {bias, mae} <= set(columns) and any(found[bias].n for found in table.values()):
            rows.append(
                {
                    "text": tissue.text.replace("-", "−"),
                    "bias": {method: found[bias].mean for method, found in table.items()},
                    "mae": {method: found[mae].mean for method, found in table.items()},
                }
            )
    return rows


def _contents(
    tissues: Sequence[Any], strata: Mapping[str, Any], pictures: Mapping[str, _Picture], sections: Sequence[Section]
) -> list[dict[str, str]]:
    parts = [
        ("slices", "Slices to look at", "comparison" in pictures),
        ("tissues", "HU by tissue", bool(tissues)),
        *((section.anchor, section.title, True) for section in sections if section.anchor in EARLY),
        ("result", "Result", True),
        ("tests", "Against interpolation", True),
        ("patients", "Patient by patient", True),
        ("strata", "By what the headers tell", bool(strata)),
        *((section.anchor, section.title, True) for section in sections if section.anchor not in EARLY),
        ("more", "More plots", "heatmap" in pictures or "correlation" in pictures),
        ("repeat", "How to repeat it", True),
    ]
    return [{"anchor": anchor, "title": title} for anchor, title, shown in parts if shown]


def _interval_note(plan: EvaluationPlan) -> str:
    if plan.num_patients < FEWEST:
        few = "1 patient is" if plan.num_patients == 1 else f"{plan.num_patients} patients are"
        return f"No interval is given: {few} too few, at least {FEWEST} are needed."
    note = "Small figures: 95 % confidence interval of the mean over patients."
    if plan.num_patients < ENOUGH:
        # python -m benchmarks.intervals --summary, docs/decisions/0012-evaluation.md
        note += (
            f" Over fewer than {ENOUGH} patients it holds for PSNR and for differences between methods; drawn from "
            "81 real patients, those of MSE, MAE and SSIM held the mean in 65 to 89 % of trials instead of 95 %, as "
            "few patients seldom have the tail of such values."
        )
    return note


def _perceptual_note(plan: EvaluationPlan) -> str:
    notes = [f"{name}: {', '.join(found.values())}." for name, found in plan.perceptual.provenance.items()]
    if plan.perceptual.pi_kind == "niqe":
        notes.append("PI is NIQE alone, as MA was not computed.")
    around = [plain_metric(name) for name in plan.metrics if name in HEADLINE and not METRICS[name].pixelwise]
    if around and any(domain.mask == "body" for domain in plan.domains):
        notes.append(f"Of the body, {', '.join(around)} are of the smallest rectangle that holds it.")
    return " ".join(notes)


def page_pictures(folder: Path) -> dict[str, _Picture]:
    """Name without suffix → picture."""
    return {file.stem: _picture(file.read_bytes()) for file in sorted(folder.glob("*.png"))}


def _picture(png: bytes) -> _Picture:
    pixels = int.from_bytes(png[16:20])  # the width in the header, which every PNG begins with
    return _Picture(base64.b64encode(png).decode("ascii"), round(pixels * CSS_DPI / DPI))


def plain_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the types of JSON and YAML: paths as text, tuples as lists."""
    return {name: _yaml_value(value) for name, value in config.items()}


def _yaml_value(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case tuple() | list():
            return [_yaml_value(item) for item in value]
        case _:
            return value


def metric_heading(pi_kind: str | None, name: str) -> str:
    """Name of a metric with its unit and the way that is better."""
    unit = METRICS[name].unit
    label = "PI (NIQE)" if name == "PI" and pi_kind == "niqe" else plain_metric(name)
    return label + ("" if unit == "1" else f", {unit}") + f" {ARROWS[METRICS[name].better]}"


def format_number(value: float | None, digits: int) -> str:
    """A number for a cell, with a true minus sign."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def metric_text(name: str, value: float | None) -> str:
    """A metric's value with as many digits as are meaningful."""
    if value is None:
        return NONE
    match name:
        case "MSE":
            return f"{value:.2e}"
        case _ if METRICS[name].unit in {"dB", "HU"}:
            return format_number(value, 2)
        case _:
            return format_number(value, 4)


def _probability(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(table: Table) -> int:
    """Number of patients; not every one need have a value of every metric."""
    return max(found.n + sum(found.not_computed.values()) for found in next(iter(table.values())).values())


HELPERS = {
    "number": metric_text,
    "probability": _probability,
    "best": best_methods,
    "patients_text": _patients,
    "short": short_name,
}
"""Functions that the template calls."""
