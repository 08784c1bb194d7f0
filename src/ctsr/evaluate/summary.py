"""`summary.json`: the statistics of the rows, and what is needed to read and repeat them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from ctsr.degrade import Degradation, DegradationParams, DegradationSampler, Draw
from ctsr.evaluate.methods import METHODS
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.statistics import Statistics, mean_of, statistics
from ctsr.evaluate.window import MetricWindow
from ctsr.hu import HURange
from ctsr.metrics import METRICS, Better, MetricValue

__all__ = [
    "SeriesDraws",
    "Table",
    "best_methods",
    "by_method",
    "degradation_part",
    "domains",
    "patient_level",
    "statistics_part",
]

Table: TypeAlias = dict[str, dict[str, Statistics]]
"""Method → metric → statistics."""


@dataclass(frozen=True)
class SeriesDraws:
    """What the evaluated slices of one series were degraded with."""

    patient_id: str
    series_uid: str
    draws: Sequence[tuple[SliceRef, Draw]]


def by_method(rows: Iterable[Row]) -> Table:
    """Statistics over the rows of each method."""
    rows = list(rows)
    return {
        method: {name: statistics(row.metrics[name] for row in rows if row.method == method) for name in METRICS}
        for method in METHODS
    }


def patient_level(rows: Sequence[Row]) -> Table:
    """Statistics over patients, each of whom counts once, with the mean of his slices."""
    patients = _grouped(rows, lambda row: row.slice.patient_id)
    return {
        method: {name: statistics(_patient_means(patients.values(), method, name)) for name in METRICS}
        for method in METHODS
    }


def _patient_means(patients: Iterable[Sequence[Row]], method: str, name: str) -> list[MetricValue]:
    return [mean_of(row.metrics[name] for row in rows if row.method == method) for rows in patients]


def best_methods(table: Table, metric: str) -> tuple[str, ...]:
    """The methods with the best mean; several where they are equal, none where there is no mean."""
    means = {method: found[metric].mean for method, found in table.items()}
    merit = {method: _merit(METRICS[metric].better, mean) for method, mean in means.items() if mean is not None}
    return tuple(method for method, value in merit.items() if value == max(merit.values()))


def _merit(better: Better, mean: float) -> float:
    match better:
        case "higher":
            return mean
        case "lower":
            return -mean
        case "nearer 0":
            return -abs(mean)


def statistics_part(rows: Sequence[Row]) -> dict[str, Any]:
    """`global_per_slice`, `per_patient`, `per_series` and `patient_level_aggregate`."""
    patients = _grouped(rows, lambda row: row.slice.patient_id)
    return {
        "global_per_slice": _plain(by_method(rows)),
        "per_patient": {patient: _plain(by_method(own)) for patient, own in patients.items()},
        "per_series": {
            patient: {
                uid: _plain(by_method(series))
                for uid, series in _grouped(own, lambda row: row.slice.series_uid).items()
            }
            for patient, own in patients.items()
        },
        "patient_level_aggregate": _plain(patient_level(rows)),
    }


def _plain(table: Table) -> dict[str, dict[str, Any]]:
    return {method: {name: asdict(found) for name, found in metrics.items()} for method, metrics in table.items()}


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


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


def domains(window: MetricWindow, hu_range: HURange) -> dict[str, dict[str, Any]]:
    """For each metric, what its numbers mean: unit, direction, domain, window and data range."""
    low, high = window.window.low, window.window.high
    on_window = {"domain": f"[0, 1] from {low:g} … {high:g} HU", "window": window.tag, "data_range": 1.0}
    in_hu = {
        "domain": f"HU clipped to {hu_range.low:g} … {hu_range.high:g}",
        "window": None,
        "data_range": hu_range.width,
    }
    return {
        metric.name: {"meaning": metric.meaning, "unit": metric.unit, "better": metric.better}
        | (on_window if metric.domain == "window" else in_hu)
        for metric in METRICS.values()
    }
