"""`summary.json`: the statistics of the rows, and what is needed to read and repeat them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ctsr.data.hu_cache import StoredSeries
from ctsr.degrade import Degradation, DegradationParams, DegradationSampler, Draw
from ctsr.evaluate.comparison import compare
from ctsr.evaluate.judge import Domain
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.statistics import Over
from ctsr.evaluate.tables import Table, by_method, by_patient, by_series, patient_level, strata
from ctsr.hu import HURange
from ctsr.metrics import METRICS

__all__ = ["ComparedBy", "SeriesDraws", "degradation_part", "domain_part", "domains", "plain", "statistics_part"]


@dataclass(frozen=True)
class ComparedBy:
    """Which methods are tested against which."""

    models: Sequence[str]
    baselines: Sequence[str]


@dataclass(frozen=True)
class SeriesDraws:
    """What the evaluated slices of one series were degraded with."""

    patient_id: str
    series_uid: str
    draws: Sequence[tuple[SliceRef, Draw]]


def statistics_part(rows: Sequence[Row]) -> dict[str, Any]:
    """`global_per_slice`, `per_patient`, `per_series` and `patient_level_aggregate` of the rows of one domain."""
    return {
        "global_per_slice": plain(by_method(rows, _over(rows))),
        "per_patient": {patient: plain(table) for patient, table in by_patient(rows).items()},
        "per_series": {
            patient: {uid: plain(table) for uid, table in tables.items()} for patient, tables in by_series(rows).items()
        },
        "patient_level_aggregate": plain(patient_level(rows)),
    }


def _over(rows: Sequence[Row]) -> Over:
    patients = {row.slice.patient_id for row in rows}
    return "slices of one patient" if len(patients) == 1 else "slices of several patients"


def domain_part(
    rows: Sequence[Row], plan_of: "ComparedBy", series: Mapping[tuple[str, str], StoredSeries]
) -> dict[str, Any]:
    """What is told of each domain beside the statistics: tests of the models, and strata by what the headers tell."""
    return {
        "comparisons": [asdict(one) for one in compare(rows, plan_of.models, plan_of.baselines)],
        "strata": {
            name: {value: plain(table) for value, table in tables.items()}
            for name, tables in strata(rows, series).items()
        },
    }


def plain(table: Table) -> dict[str, dict[str, Any]]:
    """For JSON."""
    return {method: {name: asdict(found) for name, found in metrics.items()} for method, metrics in table.items()}


def degradation_part(sampler: DegradationSampler, series: Sequence[SeriesDraws]) -> dict[str, Any]:
    """How LR was made: the ranges, the seeds, and for each patient what was drawn from them.

    The five values of a patient stand directly under his name where all his slices share them, and are null
    where they differ; `by_series` tells them apart, and in `slice` and `det-slice` so does `by_slice` below it.
    """
    patients = dict.fromkeys(one.patient_id for one in series)
    drawn = {patient: [one for one in series if one.patient_id == patient] for patient in patients}
    return {
        "degradation": _ranges(sampler.degradation),
        "degradation_sampling": sampler.sampling,
        "deg_seed": sampler.deg_seed,
        "deg_seed_mode": sampler.seed_mode,
        "deg_seeds_per_patient": {patient: sampler.patient_seed(patient) for patient in patients},
        "patient_to_degradation_sampled": {
            patient: _common(draw.params for one in own for _, draw in one.draws)
            | {"by_series": {one.series_uid: _series(one, sampler.sampling != "volume") for one in own}}
            for patient, own in drawn.items()
        },
    }


def _series(one: SeriesDraws, each: bool) -> dict[str, Any]:
    common = _common(draw.params for _, draw in one.draws)
    if not each:
        return common
    by_slice = [
        {"slice_index": ref.slice_index, "sop_instance_uid": ref.sop_instance_uid} | _drawn(draw.params)
        for ref, draw in one.draws
    ]
    return common | {"by_slice": by_slice}


def _common(params: Iterable[DegradationParams]) -> dict[str, Any]:
    """Each value that all share; None where they differ."""
    found = [_drawn(one) for one in params]
    return {key: found[0][key] if len({one[key] for one in found}) == 1 else None for key in found[0]}


def _drawn(params: DegradationParams) -> dict[str, float]:
    return {
        "sigma": params.blur_sigma,
        "kernel": params.blur_kernel,
        "noise_sigma": params.noise_sigma,
        "dose": params.dose,
        "noise_eff": params.noise_std,
    }


def _ranges(degradation: Degradation) -> dict[str, Any]:
    return asdict(degradation) | {"blur_sigma_range": list(degradation.sigma_range)}


def domains(names: Sequence[str], domain: Domain, hu_range: HURange) -> dict[str, dict[str, Any]]:
    """For each metric, what its numbers mean: unit, direction, domain, window, mask and data range."""
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
    return {
        metric.name: {"meaning": metric.meaning, "unit": metric.unit, "better": metric.better}
        | (on_window if metric.domain == "window" else in_hu)
        | ({"mask": f"{metric.tissue} of the reference, without its rim"} if metric.tissue else {})
        for metric in (METRICS[name] for name in names)
    }
