"""Rows gathered into tables of statistics: by method and metric, by patient, by series, by what the headers tell."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from ctsr.data.hu_cache import StoredSeries
from ctsr.evaluate.rows import Row
from ctsr.evaluate.statistics import Over, Statistics, mean_of, statistics
from ctsr.metrics import METRICS, Better, MetricValue

__all__ = [
    "STRATA",
    "Table",
    "best_methods",
    "by_method",
    "by_patient",
    "by_series",
    "merit",
    "methods_of",
    "patient_level",
    "patient_means",
    "strata",
]

Table: TypeAlias = dict[str, dict[str, Statistics]]
"""Method → metric → statistics."""

UNKNOWN = "not told"


def methods_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """In the order of the rows."""
    return tuple(dict.fromkeys(row.method for row in rows))


def _metrics_of(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(rows[0].metrics) if rows else ()


def by_method(rows: Sequence[Row], over: Over = "slices of several patients") -> Table:
    """Statistics over the rows of each method."""
    return {
        method: {
            name: statistics((row.metrics[name] for row in rows if row.method == method), over)
            for name in _metrics_of(rows)
        }
        for method in methods_of(rows)
    }


def patient_level(rows: Sequence[Row]) -> Table:
    """Statistics over patients, each of whom counts once, with the mean of his slices."""
    return {
        method: {name: statistics(patient_means(rows, method, name).values(), "patients") for name in _metrics_of(rows)}
        for method in methods_of(rows)
    }


def patient_means(rows: Sequence[Row], method: str, name: str) -> dict[str, MetricValue]:
    """Patient → the mean of his slices."""
    own = (row for row in rows if row.method == method)
    return {
        patient: mean_of(row.metrics[name] for row in several)
        for patient, several in _grouped(own, lambda row: row.slice.patient_id).items()
    }


def by_patient(rows: Sequence[Row]) -> dict[str, Table]:
    """Patient → statistics over his slices."""
    return {
        patient: by_method(own, "slices of one patient")
        for patient, own in _grouped(rows, lambda row: row.slice.patient_id).items()
    }


def by_series(rows: Sequence[Row]) -> dict[str, dict[str, Table]]:
    """Patient → series → statistics over its slices."""
    return {
        patient: {
            uid: by_method(series, "slices of one patient")
            for uid, series in _grouped(own, lambda row: row.slice.series_uid).items()
        }
        for patient, own in _grouped(rows, lambda row: row.slice.patient_id).items()
    }


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _mm(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{round(value, digits):g} mm"


STRATA: Mapping[str, Callable[[StoredSeries], str]] = MappingProxyType(
    {
        "kernel": lambda series: series.kernel or UNKNOWN,
        "slice thickness": lambda series: _mm(series.slice_thickness, 2),
        "pixel spacing": lambda series: " × ".join(dict.fromkeys(_mm(mm, 1) for mm in series.pixel_spacing)),
        "body part": lambda series: series.body_part or UNKNOWN,
    }
)
"""What the headers tell of a series, and numbers may depend on."""


def strata(rows: Sequence[Row], series: Mapping[tuple[str, str], StoredSeries]) -> dict[str, dict[str, Table]]:
    """Property → its value → statistics over the patients who have it; only properties that differ at all.

    Args:
        rows: of one domain.
        series: (patient, series as rows call it) → the series.
    """
    found: dict[str, dict[str, Table]] = {}
    for name, of in STRATA.items():
        groups = _grouped(rows, lambda row, of=of: of(series[row.slice.patient_id, row.slice.series_uid]))
        if len(groups) > 1:
            found[name] = {value: patient_level(groups[value]) for value in sorted(groups)}
    return found


def best_methods(table: Table, metric: str) -> tuple[str, ...]:
    """The methods with the best mean; several where they are equal, none where there is no mean."""
    means = {method: found[metric].mean for method, found in table.items() if metric in found}
    merits = {method: merit(METRICS[metric].better, mean) for method, mean in means.items() if mean is not None}
    return tuple(method for method, value in merits.items() if value == max(merits.values()))


def merit(better: Better, value: float) -> float:
    """A number that is higher where the metric is better."""
    match better:
        case "higher":
            return value
        case "lower":
            return -value
        case "nearer 0":
            return -abs(value)
