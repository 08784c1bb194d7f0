"""What a set of metric values has in common, and what of it could not be computed."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctsr.metrics import MetricValue

__all__ = ["Statistics", "mean_of", "statistics"]


@dataclass(frozen=True)
class Statistics:
    """Over the values that exist; those that do not are counted by reason and take no part."""

    mean: float | None
    sd: float | None
    """Sample standard deviation (n − 1); None below two values."""
    min: float | None
    max: float | None
    n: int
    """Values the others are made from."""
    not_computed: dict[str, int]
    """Reason → how many values are missing for it."""


def statistics(values: Iterable[MetricValue]) -> Statistics:
    """Mean, spread and count; sums are exactly rounded, so the order of the values changes no digit."""
    values = list(values)
    missing = Counter(v.reason for v in values if v.value is None)
    numbers = [v.value for v in values if v.value is not None]
    reasons = dict(sorted(missing.items()))
    if not numbers:
        return Statistics(mean=None, sd=None, min=None, max=None, n=0, not_computed=reasons)
    mean = math.fsum(numbers) / len(numbers)
    return Statistics(mean, _sd(numbers, mean), min(numbers), max(numbers), len(numbers), reasons)


def _sd(numbers: Sequence[float], mean: float) -> float | None:
    if len(numbers) < 2:
        return None
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


def mean_of(values: Iterable[MetricValue]) -> MetricValue:
    """A patient's value: the mean of his slices, or None with their reasons where no slice has one."""
    found = statistics(values)
    return MetricValue(found.mean, "" if found.mean is not None else "; ".join(found.not_computed) or "no slices")
