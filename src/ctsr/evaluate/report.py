"""`report.html`: an evaluation as one page without external files. It lays out tables that were computed before."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ctsr.evaluate.methods import short_name
from ctsr.evaluate.output_folder import OutputFolder
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.statistics import FEWEST, Comparison, Table, best_methods
from ctsr.evaluate.summary import ResultTables
from ctsr.figures import DPI
from ctsr.files import write_atomically
from ctsr.metrics import METRICS
from ctsr.tissue import TISSUES

NONE = "–"
"""Shown where there is no value."""
HEADLINE = ("PSNR", "SSIM", "MS_SSIM", "HAARPSI", "VIF", "LPIPS", "PI", "MAE_HU", "RMSE_HU", "BIAS_HU")
"""Columns of the tables, where they were computed; the files hold all metrics."""
TESTED = ("PSNR", "SSIM", "LPIPS", "MAE_HU")
"""Metrics whose paired tests are shown."""
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
    environment = Environment(
        loader=PackageLoader("ctsr.evaluate"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context = _context(plan, tables, summary, folder, sections) | HELPERS
    write_atomically(folder.report_html, environment.get_template("report.html").render(context))


def _context(
    plan: EvaluationPlan,
    tables: ResultTables,
    summary: Mapping[str, Any],
    folder: OutputFolder,
    sections: Sequence[Section],
) -> dict[str, Any]:
    first = tables.domains[0]
    tissues = _tissue_rows(first.patient_level)
    pictures, comparisons = _pictures(folder.plots), _shown_comparisons(first.comparisons)
    return {
        "title": f"{', '.join(model.experiment_name for model in plan.models)} on the {plan.options.split} set",
        "subtitle": f"×{plan.model.scale} super-resolution: {len(plan.slices)} slices, {len(plan.patients)} patients",
        "contents": _contents(tissues, first.strata, pictures, sections),
        "summary": summary,
        "heading": partial(_heading, plan.perceptual.pi_kind),
        "domains": _domain_tables(tables),
        "interval_note": _interval_note(plan),
        "learned_note": _perceptual_note(plan),
        "comparisons": comparisons,
        "untested": _shared_note(comparisons),
        "windows_note": "" if len(plan.domains) == 1 else f"In {plan.domains[0].text}; the others are in summary.json.",
        "tissues": tissues,
        "patients": tables.first.by_patient,
        "strata": first.strata,
        "pictures": pictures,
        "sections": sections,
        "command": f"ctsr evaluate --config {shlex.quote(str(folder.config_json))}",
        "degradation": ", ".join(f"{flag} {value}" for flag, value in plan.sampler.degradation.as_flags().items()),
        "told": plan.options.conditions_source.sentence if plan.conditional_methods else "",
        "config": yaml.safe_dump(_yaml(plan.config()), sort_keys=False, allow_unicode=True, default_flow_style=None),
    }


@dataclass(frozen=True)
class _Picture:
    data: str
    """PNG as base64."""
    width: int
    """CSS pixels: the size in print, so that letters are of one size on the whole page."""


@dataclass(frozen=True)
class _DomainTable:
    text: str
    table: Table
    names: Sequence[str]


def _domain_tables(tables: ResultTables) -> list[_DomainTable]:
    """A table for each domain; metrics in HU do not depend on the window, and stand in the first of each mask."""
    shown: list[_DomainTable] = []
    masks: set[str] = set()
    for found in tables.domains:
        domain, table = found.domain, found.patient_level
        columns = next(iter(table.values()))
        fitting = [name for name in columns if METRICS[name].input_scale == "window" or domain.mask not in masks]
        computed = [name for name in HEADLINE if name in fitting and columns[name].n]
        names = computed or fitting[: len(HEADLINE)]
        windowed = any(METRICS[name].input_scale == "window" for name in names)
        text = domain.text if windowed else "HU" + ("" if domain.mask == "none" else f", {domain.mask} only")
        if names:
            shown.append(_DomainTable(text, table, names))
        masks.add(domain.mask)
    return shown


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
        ("result", "Result", True),
        ("tests", "Against interpolation", True),
        ("tissues", "HU by tissue", bool(tissues)),
        ("patients", "Patient by patient", True),
        ("strata", "By what the headers tell", bool(strata)),
        ("slices", "Slices to look at", "comparison" in pictures),
        *((section.anchor, section.title, True) for section in sections),
        ("repeat", "How to repeat it", True),
    ]
    return [{"anchor": anchor, "title": title} for anchor, title, shown in parts if shown]


def _interval_note(plan: EvaluationPlan) -> str:
    if len(plan.patients) < FEWEST:
        return f"No interval is given: {len(plan.patients)} patients are too few, at least {FEWEST} are needed."
    return "Small figures: 95 % confidence interval of the mean over patients."


def _perceptual_note(plan: EvaluationPlan) -> str:
    notes = [f"{name}: {', '.join(found.values())}." for name, found in plan.perceptual.provenance.items()]
    if plan.perceptual.pi_kind == "niqe":
        notes.append("PI is NIQE alone, as MA was not computed.")
    return " ".join(notes)


def _pictures(folder: Path) -> dict[str, _Picture]:
    """Name without suffix → picture."""
    return {file.stem: _picture(file.read_bytes()) for file in sorted(folder.glob("*.png"))}


def _picture(png: bytes) -> _Picture:
    pixels = int.from_bytes(png[16:20])  # the width in the header, which every PNG begins with
    return _Picture(base64.b64encode(png).decode("ascii"), round(pixels * CSS_DPI / DPI))


def _yaml(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in YAML's types: paths as text, tuples as lists."""
    return {name: _yaml_value(value) for name, value in config.items()}


def _yaml_value(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case tuple() | list():
            return [_yaml_value(item) for item in value]
        case _:
            return value


def _heading(pi_kind: str | None, name: str) -> str:
    unit = METRICS[name].unit
    label = "PI (NIQE)" if name == "PI" and pi_kind == "niqe" else name.replace("_HU", "").replace("_", " ")
    return label + ("" if unit == "1" else f", {unit}")


def format_number(value: float | None, digits: int) -> str:
    """A number for a cell, with a true minus sign."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def _metric_value(name: str, value: float | None) -> str:
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


def _count(table: Table) -> str:
    """Number of patients; not every one need have a value of every metric."""
    n = max(found.n + sum(found.not_computed.values()) for found in next(iter(table.values())).values())
    return f"{n} patient{'' if n == 1 else 's'}"


HELPERS = {
    "number": _metric_value,
    "probability": _probability,
    "best": best_methods,
    "count": _count,
    "short": short_name,
}
"""Functions that the template calls."""
