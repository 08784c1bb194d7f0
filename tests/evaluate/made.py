"""Rows as an evaluation makes them, with values that are easy to reckon with."""

from collections.abc import Callable

from ctsr.evaluate.methods import METHODS
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.evaluate.window import choose_window
from ctsr.hu import HURange
from ctsr.metrics import METRICS, PERCEPTUAL, MetricValue, not_computed

GLOBAL = choose_window(HURange())


def ref(patient: str = "anna", index: int = 0, series: str = "1.2.3") -> SliceRef:
    return SliceRef(patient, series, 7, index, f"{series}.{index}", -2.5 * index)


def row(slice_ref: SliceRef, method: str, value: float | None = 1.0, reason: str = "identical") -> Row:
    """Every fidelity metric has this value, or this reason."""
    found = MetricValue(value) if value is not None else MetricValue(None, reason)
    return Row(slice_ref, method, {name: not_computed() if name in PERCEPTUAL else found for name in METRICS})


def rows(values: Callable[[str, int, str], float | None], patients: dict[str, int]) -> list[Row]:
    """``values(patient, slice index, method)`` for each patient's number of slices."""
    return [
        row(ref(patient, index), method, values(patient, index, method))
        for patient, count in patients.items()
        for index in range(count)
        for method in METHODS
    ]
