"""Rows as an evaluation makes them, with values that are easy to reckon with."""

from collections.abc import Callable

from ctsr.evaluate.methods import BICUBIC, BILINEAR, MODEL
from ctsr.evaluate.output_folder import Columns, Row, SliceRef
from ctsr.evaluate.slice_metrics import Domain
from ctsr.hu import DEFAULT_RANGE, HURange, choose_window
from ctsr.metrics import METRICS, MetricValue, choose_metrics, of_group

METHODS = (BILINEAR, BICUBIC, MODEL)
GLOBAL = Domain(choose_window(HURange()))
NAMES = choose_metrics(["default"])
COLUMNS = Columns(NAMES, (GLOBAL,), DEFAULT_RANGE)
NOT_COMPUTED = "not computed"


def ref(patient: str = "anna", index: int = 0, series: str = "1.2.3") -> SliceRef:
    return SliceRef(patient, series, 7, index, f"{series}.{index}", -2.5 * index)


def row(slice_ref: SliceRef, method: str, value: float | None = 1.0, reason: str = "identical") -> Row:
    """Every metric but the learned ones has this value, or this reason."""
    found = MetricValue(value) if value is not None else MetricValue(None, reason)
    missing = MetricValue(None, NOT_COMPUTED)
    learned = of_group("perceptual")
    return Row(slice_ref, method, {name: missing if name in learned else found for name in METRICS if name in NAMES})


def rows(
    values: Callable[[str, int, str], float | None], patients: dict[str, int], methods: tuple[str, ...] = METHODS
) -> list[Row]:
    """``values(patient, slice index, method)`` for each patient's number of slices."""
    return [
        row(ref(patient, index), method, values(patient, index, method))
        for patient, count in patients.items()
        for index in range(count)
        for method in methods
    ]
