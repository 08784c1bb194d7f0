"""The tables of an evaluation, computed once, and `summary.json`: these tables and what is needed to repeat them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ctsr.checkpoint.files import current_versions
from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import DegradationParams, DegradationSampler, Draw
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.evaluate.output_folder import OutputFolder, Row, SliceRef, Told, on_domain
from ctsr.evaluate.plan import EvaluationPlan, one_or_list
from ctsr.evaluate.runner import told_in_hu
from ctsr.evaluate.slice_metrics import Domain
from ctsr.evaluate.statistics import (
    NOBODY,
    Comparison,
    People,
    Table,
    by_method,
    by_patient,
    by_series,
    compare,
    patient_level,
    strata,
    uneven,
)
from ctsr.hu import HURange
from ctsr.metrics import METRICS


@dataclass(frozen=True)
class RowTables:
    """Tables of the rows of one domain."""

    by_method: Table
    """Over slices."""
    by_patient: Mapping[str, Table]
    """Patient → over slices."""
    by_series: Mapping[str, Mapping[str, Table]]
    """Patient → series → over slices."""
    patient_level: Table
    """Over patients, each counted once."""

    @classmethod
    def of(cls, rows: Sequence[Row], people: People = NOBODY) -> "RowTables":
        """Compute the tables; `people` as for `ctsr.evaluate.statistics.patient_level`."""
        patients = {people.get(row.slice.patient_id, row.slice.patient_id) for row in rows}
        over = "slices of one patient" if len(patients) == 1 else "slices of several patients"
        return cls(by_method(rows, over), by_patient(rows), by_series(rows), patient_level(rows, people))


@dataclass(frozen=True)
class DomainTables:
    """Tables of one domain."""

    domain: Domain
    patient_level: Table
    comparisons: Sequence[Comparison]
    strata: Mapping[str, Mapping[str, Table]]
    """Header property → value → over the patients who have it."""


@dataclass(frozen=True)
class ResultTables:
    """Everything that summary, report and terminal show of the rows."""

    first: RowTables
    """Tables of the first domain, in detail."""
    domains: Sequence[DomainTables]
    """In the plan's order."""
    cautions: Sequence[str] = ()
    """A line for each metric, in any domain, whose means by two methods are of different slices."""

    @classmethod
    def of(cls, plan: EvaluationPlan, rows: Sequence[Row]) -> "ResultTables":
        """Compute the tables."""
        series: dict[tuple[str, str], StoredSeries] = {}
        for planned in plan.slices:
            series[planned.ref.patient_id, planned.ref.series_uid] = planned.stored
        people = plan.caveats.people
        first = RowTables.of(on_domain(rows, plan.domains[0]), people)
        domains: list[DomainTables] = []
        cautions = uneven(first.by_method)
        for domain in plan.domains:
            own = on_domain(rows, domain)
            if domains:
                cautions += [f"In {domain.title}, {line}" for line in uneven(by_method(own))]
            table = patient_level(own, people) if domains else first.patient_level
            comparisons = compare(own, plan.model_methods, plan.baselines, people)
            domains.append(DomainTables(domain, table, comparisons, strata(own, series, people)))
        return cls(first, domains, cautions)


@dataclass(frozen=True)
class SeriesDraws:
    """The degradations of the evaluated slices of one series."""

    patient_id: str
    series_uid: str
    draws: Sequence[tuple[SliceRef, Draw]]


def summary_document(plan: EvaluationPlan, tables: ResultTables, folder: OutputFolder) -> dict[str, Any]:
    """The content of `summary.json`; its top level is about the first domain and the first model."""
    options, first = plan.options, plan.domains[0]
    models = {name: _model(plan, model) for name, model in zip(plan.model_methods, plan.models, strict=True)}
    by_domain = {found.domain.tag: _domain(found) for found in tables.domains}
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "split": options.split,
        "num_patients": plan.num_patients,
        "num_slices": len(plan.slices),
        "patients": list(plan.patients),
        "methods": list(plan.methods),
        "paths": _paths(plan, folder),
        "config": plan.config(),
        "split_source": plan.split_source,
        "model": next(iter(models.values())),
        "models": models,
        "window": by_domain[first.tag]["window"],
        "mask": first.mask,
        "metrics": metric_definitions(plan.metrics, first, plan.model.hu_range),
        "lpips": plan.perceptual.provenance.get("LPIPS"),
        "perceptual": {name: dict(found) for name, found in plan.perceptual.provenance.items()},
        "pi_kind": plan.perceptual.pi_kind,
        **degradation_part(plan.sampler, _draws(plan)),
        "conditions": _conditions(plan),
        "linear_filter": None if plan.linear is None else plan.linear.document(options.shown),
        **statistics_part(tables.first),
        "by_domain": by_domain,
        "caveats": asdict(plan.caveats),
        "failures": list(options.shown_failures(plan.failures)),
        "versions": current_versions(),
    }


def _paths(plan: EvaluationPlan, folder: OutputFolder) -> dict[str, Any]:
    """Where everything is; without names, only what lies in the folder itself."""
    options = plan.options
    files = {
        "metrics_csv": folder.metrics_csv,
        "summary_json": folder.summary_json,
        "report_html": folder.report_html,
        "plots": None if options.no_plots else folder.plots,
    }
    models = {"model_path": one_or_list([str(model.model.path) for model in plan.models])}
    shown = {name: path and options.shown_path(path) for name, path in files.items()}
    if options.no_names:
        return models | shown
    return (
        models
        | shown
        | {
            "root": one_or_list([str(root) for root in options.root]),
            "output_dir": str(options.output_dir),
        }
    )


def _conditions(plan: EvaluationPlan) -> dict[str, Any] | None:
    """What conditional models were told: by patient and series, and by slice where slices differ; None without one."""
    if not plan.conditional_methods:
        return None
    by_patient_id: dict[str, dict[str, dict[str, Told]]] = {}
    for planned in plan.slices:
        told, ref = told_in_hu(plan, planned), planned.ref
        assert told is not None, "a conditional model is told something"
        by_uid = by_patient_id.setdefault(ref.patient_id, {})
        by_uid.setdefault(ref.series_uid, {})[ref.sop_instance_uid] = told
    documents: dict[str, dict[str, Any]] = {}
    for patient, by_uid in by_patient_id.items():
        documents[patient] = {uid: _told_document(by_slice) for uid, by_slice in by_uid.items()}
    source = plan.options.conditions_source
    return {"source": str(source), "methods": sorted(plan.conditional_methods), "by_patient": documents}


def _told_document(by_slice: Mapping[str, Told]) -> dict[str, Any]:
    """One pair of values where all slices of a series share it, else one for each."""
    if len(set(by_slice.values())) == 1:
        return next(iter(by_slice.values()))._asdict()
    return {"by_slice": {identity: told._asdict() for identity, told in by_slice.items()}}


def _model(plan: EvaluationPlan, model: ModelUnderTest) -> dict[str, Any]:
    return {
        "name": model.name,
        "experiment": model.experiment(plan.sampler.degradation.mode),
        "path": str(model.model.path),
        "architecture": str(model.model.architecture),
        "scale": model.scale,
        "sha256": model.model.sha256,
        "engine": model.engine_name,
        "blend": None if model.model.blend is None else asdict(model.model.blend),
        "hu_range": [model.hu_range.low, model.hu_range.high],
    }


def _domain(tables: DomainTables) -> dict[str, Any]:
    window = tables.domain.window
    limits = window.window
    grouped: dict[str, Any] = {}
    for name, by_value in tables.strata.items():
        grouped[name] = {value: table_document(table) for value, table in by_value.items()}
    return {
        "window": {
            "tag": window.tag,
            "center": limits.center,
            "width": limits.width,
            "low": limits.low,
            "high": limits.high,
        },
        "mask": tables.domain.mask,
        "patient_level_aggregate": table_document(tables.patient_level),
        "comparisons": [asdict(comparison) for comparison in tables.comparisons],
        "strata": grouped,
    }


def statistics_part(tables: RowTables) -> dict[str, Any]:
    """`global_per_slice`, `per_patient`, `per_series` and `patient_level_aggregate`."""
    per_series: dict[str, Any] = {}
    for patient, by_uid in tables.by_series.items():
        per_series[patient] = {uid: table_document(table) for uid, table in by_uid.items()}
    return {
        "global_per_slice": table_document(tables.by_method),
        "per_patient": {patient: table_document(table) for patient, table in tables.by_patient.items()},
        "per_series": per_series,
        "patient_level_aggregate": table_document(tables.patient_level),
    }


def table_document(table: Table) -> dict[str, dict[str, Any]]:
    """A table as JSON holds it."""
    document: dict[str, dict[str, Any]] = {}
    for method, by_metric in table.items():
        document[method] = {name: asdict(found) for name, found in by_metric.items()}
    return document


def metric_definitions(names: Sequence[str], domain: Domain, hu_range: HURange) -> dict[str, dict[str, Any]]:
    """Metric → meaning, unit, direction, domain, window, mask and data range."""
    window = domain.window.window
    on_window = {
        "domain": f"[0, 1] from {window.low:g} … {window.high:g} HU",
        "window": domain.window.tag,
        "mask": domain.mask,
        "data_range": 1.0,
    }
    in_hu = {
        "domain": f"HU clipped to {hu_range.low:g} … {hu_range.high:g}",
        "window": None,
        "mask": domain.mask,
        "data_range": hu_range.width,
    }
    definitions: dict[str, dict[str, Any]] = {}
    for metric in (METRICS[name] for name in names):
        definition = {"meaning": metric.meaning, "unit": metric.unit, "better": metric.better}
        definition |= on_window if metric.input_scale == "window" else in_hu
        if metric.tissue:
            definition["mask"] = f"{metric.tissue} of the reference, without its rim"
        elif domain.mask != "none" and not metric.pixelwise:
            definition["mask"] = f"the smallest rectangle that holds the {domain.mask}"
        definitions[metric.name] = definition
    return definitions


# Degradation


def _draws(plan: EvaluationPlan) -> list[SeriesDraws]:
    """The draws of the evaluated slices; the sampler is a pure function, so they are drawn again."""
    draws: dict[tuple[str, str], list[tuple[SliceRef, Draw]]] = {}
    for planned in plan.slices:
        ref = planned.ref
        # By the series' own names, as in `slice_pair`: what rows make of them is not part of the seed.
        stored = planned.stored
        draw = plan.sampler.draw(
            stored.patient_id, stored.series_uid, stored.identities[planned.index], ref.slice_index
        )
        draws.setdefault((ref.patient_id, ref.series_uid), []).append((ref, draw))
    return [SeriesDraws(*key, drawn) for key, drawn in draws.items()]


def degradation_part(sampler: DegradationSampler, series: Sequence[SeriesDraws]) -> dict[str, Any]:
    """How LR was computed: the ranges, the seeds, and each patient's draws.

    The five values of a patient stand directly under the patient where all slices share them, and are null where they
    differ; `by_series` holds those of each series and, in `slice` and `det-slice`, `by_slice` those of each slice.
    """
    seeds = {drawn.patient_id: drawn.draws[0][0].deg_seed for drawn in series}
    by_patient_id: dict[str, dict[str, Any]] = {}
    for patient in seeds:
        own = [drawn for drawn in series if drawn.patient_id == patient]
        common = _common([draw.params for drawn in own for _, draw in drawn.draws])
        by_uid = {drawn.series_uid: _series_draws(drawn, sampler.sampling != "volume") for drawn in own}
        by_patient_id[patient] = common | {"by_series": by_uid}
    degradation = sampler.degradation
    return {
        "degradation": asdict(degradation) | {"blur_sigma_range": list(degradation.sigma_range)},
        "degradation_sampling": sampler.sampling,
        "deg_seed": sampler.deg_seed,
        "deg_seed_mode": sampler.seed_mode,
        "deg_seeds_per_patient": seeds,
        "patient_to_degradation_sampled": by_patient_id,
    }


def _series_draws(series: SeriesDraws, each_slice: bool) -> dict[str, Any]:
    common = _common([draw.params for _, draw in series.draws])
    if not each_slice:
        return common
    by_slice = [
        {"slice_index": ref.slice_index, "sop_instance_uid": ref.sop_instance_uid} | _params_document(draw.params)
        for ref, draw in series.draws
    ]
    return common | {"by_slice": by_slice}


def _common(params: Iterable[DegradationParams]) -> dict[str, Any]:
    """Each value that all share; None where they differ."""
    documents = [_params_document(drawn) for drawn in params]
    common: dict[str, Any] = {}
    for key, value in documents[0].items():
        common[key] = value if len({document[key] for document in documents}) == 1 else None
    return common


def _params_document(params: DegradationParams) -> dict[str, float | str | None]:
    """Noise of exams is measured in each slice: only its dose is drawn."""
    measured = params.noise_model == "exam"
    return {
        "sigma": params.blur_sigma,
        "kernel": params.blur_kernel,
        "noise_sigma": None if measured else params.noise_sigma,
        "dose": params.dose,
        "noise_eff": None if measured else params.noise_std,
        "downsampling": params.downsampling,
        "noise_model": params.noise_model,
        "noise_cutoff": params.noise_cutoff,
    }
