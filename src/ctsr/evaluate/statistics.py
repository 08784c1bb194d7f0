"""What a set of metric values has in common, how sure its mean is, and what of it could not be computed."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.hashing import rng_from
from ctsr.metrics import MetricValue

__all__ = ["FEWEST", "Interval", "Over", "Statistics", "interval", "mean_of", "statistics"]

Over: TypeAlias = Literal["patients", "slices of one patient", "slices of several patients"]
"""What the values are of: it decides what an interval of their mean would mean."""

RESAMPLES = 2000
FEWEST = 5
"""Values below which a bootstrap has too few different samples to tell an interval."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a mean, or why there is none."""

    low: float | None
    high: float | None
    note: str
    """Over what, and how many; or what is missing."""


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
    ci95: Interval
    """Of the mean."""
    not_computed: dict[str, int]
    """Reason → how many values are missing for it."""


def statistics(values: Iterable[MetricValue], over: Over) -> Statistics:
    """Mean, spread, count and interval; sums are exactly rounded, so the order of the values changes no digit."""
    values = list(values)
    missing = Counter(v.reason for v in values if v.value is None)
    numbers = [v.value for v in values if v.value is not None]
    reasons = dict(sorted(missing.items()))
    sure = interval(numbers, over)
    if not numbers:
        return Statistics(mean=None, sd=None, min=None, max=None, n=0, ci95=sure, not_computed=reasons)
    mean = math.fsum(numbers) / len(numbers)
    return Statistics(mean, _sd(numbers, mean), min(numbers), max(numbers), len(numbers), sure, reasons)


def _sd(numbers: Sequence[float], mean: float) -> float | None:
    if len(numbers) < 2:
        return None
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


def interval(numbers: Sequence[float], over: Over) -> Interval:
    """Percentile bootstrap of the mean (Efron & Tibshirani, 1993, ch. 13), 2000 resamples, seeded by their number.

    None where it would pretend: with fewer than `FEWEST` values, and over slices of several patients, which are no
    independent draws. Neighbouring slices of one patient are none either: that interval says how the mean varies
    along this patient, nothing of another, and its note says so.
    """
    if over == "slices of several patients":
        return Interval(None, None, "none: slices of one patient are alike; the interval over patients is the one")
    if len(numbers) < FEWEST:
        return Interval(None, None, f"none: {len(numbers)} {over}, at least {FEWEST} are needed")
    means = _weights(len(numbers)) @ np.sort(np.asarray(numbers, dtype=np.float64))
    low, high = (float(end) for end in np.percentile(means, (2.5, 97.5)))
    return Interval(low, high, f"bootstrap over {len(numbers)} {over}")


@lru_cache(maxsize=4)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """(resamples, count): how much each value weighs in each resample's mean."""
    drawn = rng_from(RESAMPLES, "bootstrap", str(count)).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn / count


def mean_of(values: Iterable[MetricValue]) -> MetricValue:
    """A patient's value: the mean of his slices, or None with their reasons where no slice has one."""
    values = list(values)
    numbers = [v.value for v in values if v.value is not None]
    if not numbers:
        reasons = sorted({v.reason for v in values})
        return MetricValue(None, ", ".join(reasons) or "no slices")
    return MetricValue(math.fsum(numbers) / len(numbers))
