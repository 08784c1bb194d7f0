import math
import random
from dataclasses import replace

import pytest

from ctsr.evaluate.statistics import FEWEST, SMALL, Statistics, interval, mean_of, statistics
from ctsr.metrics import MetricValue


def values(*numbers: float | None) -> list[MetricValue]:
    return [MetricValue(None, "identical") if n is None else MetricValue(n) for n in numbers]


def test_a_missing_value_is_outside_n_and_counted_by_its_reason() -> None:
    found = statistics([*values(30.0, None, 34.0, None), MetricValue(None, "not finite")], "patients")
    assert (found.mean, found.min, found.max, found.n) == (32.0, 30.0, 34.0, 2)
    assert found.not_computed == {"identical": 2, "not finite": 1}


def test_nothing_to_average_has_no_mean() -> None:
    assert replace(statistics(values(None, None), "patients"), ci95=None) == Statistics(
        None, None, None, None, 0, None, {"identical": 2}
    )


def test_sd_is_that_of_a_sample_and_needs_two_values() -> None:
    assert statistics(values(1.0, 3.0), "patients").sd == pytest.approx(2**0.5)
    assert statistics(values(1.0), "patients").sd is None


def test_the_order_of_the_values_changes_no_digit() -> None:
    numbers = [0.1 * i**1.5 for i in range(200)]
    assert statistics(values(*numbers), "patients") == statistics(values(*reversed(numbers)), "patients")


def test_a_patient_without_any_value_keeps_the_reasons() -> None:
    assert mean_of(values(2.0, None, 4.0)) == MetricValue(3.0)
    assert mean_of([*values(None), MetricValue(None, "not finite")]) == MetricValue(None, "identical, not finite")


@pytest.mark.parametrize("count", [5, 7, 10, 20, 40])
def test_an_interval_covers_the_true_mean_as_often_as_it_says(count: int) -> None:
    """95 %, of normal values. The standard error of 1000 trials is 0.7 %."""
    draw = random.Random(count)
    ends = [interval([draw.gauss(3, 2) for _ in range(count)], "patients") for _ in range(1000)]
    hits = sum((end.low or 0) <= 3 <= (end.high or 0) for end in ends)
    assert 0.93 <= hits / 1000 <= 0.97


@pytest.mark.parametrize("count", [5, 7, 10, 20])
@pytest.mark.parametrize(
    ("sigma", "few", "more"),
    [(0.25, 0.92, 0.93), (0.5, 0.88, 0.92), (1.0, 0.78, 0.88)],
    ids=["slightly", "skewed", "very"],
)
def test_skewed_values_are_covered_less_often_as_the_documentation_says(
    count: int, sigma: float, few: float, more: float
) -> None:
    """Lognormal values, of skewness 0.8, 1.75 and 6.2; docs/reference/evaluation.md names these bounds."""
    draw, mean = random.Random(count), math.exp(sigma**2 / 2)
    ends = [interval([draw.lognormvariate(0, sigma) for _ in range(count)], "patients") for _ in range(2000)]
    hits = sum((end.low or 0) <= mean <= (end.high or 0) for end in ends)
    assert (few if count < SMALL else more) <= hits / 2000 <= 0.97


def test_an_interval_of_values_that_are_all_the_same_is_that_value() -> None:
    for count in (5, 12, 40):
        found = interval([0.1] * count, "patients")
        assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_an_interval_is_as_wide_as_the_standard_error_asks() -> None:
    numbers = [float(i % 10) for i in range(200)]
    found = statistics(values(*numbers), "patients")
    half = 1.96 * (found.sd or 0) / math.sqrt(200)
    assert found.ci95.low == pytest.approx(4.5 - half, abs=0.05)
    assert found.ci95.high == pytest.approx(4.5 + half, abs=0.05)


def test_too_few_patients_are_told_instead_of_an_interval() -> None:
    found = statistics(values(*[1.0] * (FEWEST - 1)), "patients").ci95
    assert (found.low, found.high) == (None, None)
    assert found.note == f"none: {FEWEST - 1} patients, at least {FEWEST} are needed"


def test_an_interval_says_what_it_is_over() -> None:
    numbers = [float(i) for i in range(9)]
    assert interval(numbers, "slices of one patient").note == "t over 9 slices of one patient"
    assert interval([*numbers, 9.0], "patients").note == "bootstrap over 10 patients"
    assert interval([*numbers, *numbers, *numbers, *numbers], "patients").note == "bootstrap over 36 patients"
    pooled = interval(numbers, "slices of several patients")
    assert pooled.low is None
    assert "interval over patients" in pooled.note
