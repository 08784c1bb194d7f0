"""`report.html`: an evaluation as one page that needs nothing else, to be read, printed and shown."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ctsr.evaluate.comparison import Comparison, compare
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.methods import short
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.report.sections import NONE, Section
from ctsr.evaluate.rows import Row, on_domain
from ctsr.evaluate.statistics import FEWEST
from ctsr.evaluate.tables import Table, best_methods, by_patient, patient_level, strata
from ctsr.figures import DPI
from ctsr.files import write_atomically
from ctsr.metrics import METRICS
from ctsr.tissue import TISSUES

__all__ = ["write_report"]

HEADLINE = ("PSNR", "SSIM", "MS_SSIM", "HAARPSI", "VIF", "LPIPS", "PI", "MAE_HU", "RMSE_HU", "BIAS_HU")
"""Columns of the tables, where they were computed; all others are in the files."""
TESTED = ("PSNR", "SSIM", "LPIPS", "MAE_HU")
"""What the page shows tests of."""
CSS_DPI = 96


def write_report(
    plan: EvaluationPlan,
    rows: Sequence[Row],
    summary: Mapping[str, Any],
    folder: ResultFolder,
    sections: Sequence[Section] = (),
) -> None:
    """Write the page; pictures are those that lie in the folder's `plots`.

    Args:
        plan: what was evaluated.
        rows: of all domains.
        summary: the document of `summary.json`.
        folder: receives `report.html`.
        sections: what there is beside metrics.
    """
    environment = Environment(
        loader=PackageLoader("ctsr.evaluate", "report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(_context(plan, rows, summary, folder, sections) | HELPERS)
    write_atomically(folder.report_html, page)


def _context(
    plan: EvaluationPlan,
    rows: Sequence[Row],
    summary: Mapping[str, Any],
    folder: ResultFolder,
    sections: Sequence[Section],
) -> dict[str, Any]:
    first = on_domain(rows, plan.domains[0])
    series = {(one.ref.patient_id, one.ref.series_uid): one.stored for one in plan.slices}
    tissues, grouped = _tissues(patient_level(first)), strata(first, series)
    pictures, tested = _pictures(folder.plots), _tested(plan, first)
    return {
        "title": f"{', '.join(model.experiment_name for model in plan.models)} on the {plan.options.split} set",
        "subtitle": f"×{plan.model.scale} super-resolution: {len(plan.slices)} slices, {len(plan.patients)} patients",
        "contents": _contents(tissues, grouped, pictures, sections),
        "summary": summary,
        "heading": partial(_heading, plan.learned.pi_kind),
        "domains": _domains(plan, rows),
        "interval_note": _interval_note(plan),
        "learned_note": _learned_note(plan),
        "comparisons": tested,
        "untested": _shared_note(tested),
        "windows_note": "" if len(plan.domains) == 1 else f"In {plan.domains[0].text}; the others are in summary.json.",
        "tissues": tissues,
        "patients": by_patient(first),
        "strata": grouped,
        "pictures": pictures,
        "sections": sections,
        "command": f"ctsr evaluate --config {shlex.quote(str(folder.config_json))}",
        "degradation": ", ".join(f"{flag} {value}" for flag, value in plan.sampler.degradation.as_flags().items()),
        "config": yaml.safe_dump(_plain(plan.config()), sort_keys=False, allow_unicode=True, default_flow_style=None),
    }


@dataclass(frozen=True)
class _Picture:
    data: str
    """PNG as base64."""
    width: int
    """CSS pixels: as large as on paper, so that letters are of one size on the whole page."""


@dataclass(frozen=True)
class _DomainTable:
    text: str
    table: Table
    names: Sequence[str]


def _domains(plan: EvaluationPlan, rows: Sequence[Row]) -> list[_DomainTable]:
    """A table for each; metrics in HU do not depend on the window, and stand in the first of each mask."""
    found: list[_DomainTable] = []
    masks: set[str] = set()
    for domain in plan.domains:
        table = patient_level(on_domain(rows, domain))
        there = next(iter(table.values()))
        fitting = [n for n in there if METRICS[n].domain == "window" or domain.mask not in masks]
        computed = [name for name in HEADLINE if name in fitting and there[name].n]
        names = computed or fitting[: len(HEADLINE)]
        windowed = any(METRICS[name].domain == "window" for name in names)
        where = domain.text if windowed else "HU" + ("" if domain.mask == "none" else f", {domain.mask} only")
        if names:
            found.append(_DomainTable(where, table, names))
        masks.add(domain.mask)
    return found


def _tested(plan: EvaluationPlan, rows: Sequence[Row]) -> list[Comparison]:
    found = [one for one in compare(rows, plan.model_methods, plan.baselines) if one.n]
    shown = {one.metric for one in found} & set(TESTED) or {one.metric for one in found[:1]}
    return [one for one in found if one.metric in shown]


def _shared_note(tested: Sequence[Comparison]) -> str:
    """Why there is no p, where the reason is the same for all."""
    notes = {one.note for one in tested}
    return f"No p is given: {notes.pop()}." if len(notes) == 1 and "" not in notes else ""


def _tissues(table: Table) -> list[dict[str, Any]]:
    """Those that were asked for and that some patient has."""
    there = next(iter(table.values()))
    return [
        {
            "text": tissue.text.replace("-", "−"),
            "bias": {method: found[f"BIAS_HU_{tissue.name}"].mean for method, found in table.items()},
            "mae": {method: found[f"MAE_HU_{tissue.name}"].mean for method, found in table.items()},
        }
        for tissue in TISSUES.values()
        if {f"BIAS_HU_{tissue.name}", f"MAE_HU_{tissue.name}"} <= set(there)
        and any(found[f"BIAS_HU_{tissue.name}"].n for found in table.values())
    ]


def _contents(
    tissues: Sequence[Any], grouped: Mapping[str, Any], pictures: Mapping[str, _Picture], sections: Sequence[Section]
) -> list[dict[str, str]]:
    parts = [
        ("result", "Result", True),
        ("tests", "Against interpolation", True),
        ("tissues", "HU by tissue", bool(tissues)),
        ("patients", "Patient by patient", True),
        ("strata", "By what the headers tell", bool(grouped)),
        ("slices", "Slices to look at", "comparison" in pictures),
        *((section.anchor, section.title, True) for section in sections),
        ("repeat", "How to repeat it", True),
    ]
    return [{"anchor": anchor, "title": title} for anchor, title, is_there in parts if is_there]


def _interval_note(plan: EvaluationPlan) -> str:
    if len(plan.patients) < FEWEST:
        return f"No interval is given: {len(plan.patients)} patients are too few, at least {FEWEST} are needed."
    return "Small figures: 95 % bootstrap interval of the mean over patients."


def _learned_note(plan: EvaluationPlan) -> str:
    told = [f"{name}: {', '.join(map(str, said.values()))}." for name, said in plan.learned.said.items()]
    if plan.learned.pi_kind == "niqe":
        told.append("PI is NIQE alone, as MA was not computed.")
    return " ".join(told)


def _pictures(folder: Path) -> dict[str, _Picture]:
    """By the file's name without its suffix."""
    return {file.stem: _picture(file.read_bytes()) for file in sorted(folder.glob("*.png"))}


def _picture(png: bytes) -> _Picture:
    pixels = int.from_bytes(png[16:20])  # the width in the header, which every PNG begins with
    return _Picture(base64.b64encode(png).decode("ascii"), round(pixels * CSS_DPI / DPI))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as words, tuples as lists: what YAML knows."""

    def plain(value: Any) -> Any:
        match value:
            case Path():
                return str(value)
            case tuple() | list():
                return [plain(one) for one in value]
            case _:
                return value

    return {name: plain(value) for name, value in config.items()}


def _heading(pi_kind: str | None, name: str) -> str:
    unit = METRICS[name].unit
    label = "PI (NIQE)" if name == "PI" and pi_kind == "niqe" else name.replace("_HU", "").replace("_", " ")
    return label + ("" if unit == "1" else f", {unit}")


def _number(name: str, value: float | None) -> str:
    """As many digits as the metric is worth."""
    if value is None:
        return NONE
    match name:
        case "MSE":
            return f"{value:.2e}"
        case _ if METRICS[name].unit in {"dB", "HU"}:
            return f"{value:.2f}".replace("-", "−")
        case _:
            return f"{value:.4f}".replace("-", "−")


def _probability(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(table: Table) -> str:
    """How many patients there are; not all of them need have a value of every metric."""
    n = max(found.n + sum(found.not_computed.values()) for found in next(iter(table.values())).values())
    return f"{n} patient{'' if n == 1 else 's'}"


HELPERS = {
    "number": _number,
    "probability": _probability,
    "best": best_methods,
    "count": _count,
    "short": short,
}
"""What the template calls."""
