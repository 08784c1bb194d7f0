import pytest

from ctsr.evaluate.statistics import Statistics, mean_of, statistics
from ctsr.metrics import MetricValue


def values(*numbers: float | None) -> list[MetricValue]:
    return [MetricValue(None, "identical") if n is None else MetricValue(n) for n in numbers]


def test_a_missing_value_is_outside_n_and_counted_by_its_reason() -> None:
    found = statistics([*values(30.0, None, 34.0, None), MetricValue(None, "not finite")])
    assert (found.mean, found.min, found.max, found.n) == (32.0, 30.0, 34.0, 2)
    assert found.not_computed == {"identical": 2, "not finite": 1}


def test_nothing_to_average_has_no_mean() -> None:
    assert statistics(values(None, None)) == Statistics(None, None, None, None, 0, {"identical": 2})


def test_sd_is_that_of_a_sample_and_needs_two_values() -> None:
    assert statistics(values(1.0, 3.0)).sd == pytest.approx(2**0.5)
    assert statistics(values(1.0)).sd is None


def test_the_order_of_the_values_changes_no_digit() -> None:
    numbers = [0.1 * i**1.5 for i in range(200)]
    assert statistics(values(*numbers)) == statistics(values(*reversed(numbers)))


def test_a_patient_without_any_value_keeps_the_reasons() -> None:
    assert mean_of(values(2.0, None, 4.0)) == MetricValue(3.0)
    assert mean_of([*values(None), MetricValue(None, "not finite")]) == MetricValue(None, "identical; not finite")
