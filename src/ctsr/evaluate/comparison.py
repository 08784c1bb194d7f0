"""Is the model better than an interpolation, patient by patient, by more than chance?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy import stats

from ctsr.evaluate.rows import Row
from ctsr.evaluate.statistics import Interval, interval
from ctsr.evaluate.tables import merit, patient_means
from ctsr.metrics import METRICS

__all__ = ["LEVEL", "Comparison", "compare", "fewest_patients"]

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """One model against one interpolation in one metric; paired by patient, each with the mean of his slices."""

    model: str
    baseline: str
    metric: str
    n: int
    """Patients who have a value by both."""
    better_on: int
    """Patients on whom the model is better."""
    difference: float | None
    """Mean of model − baseline; of their absolute values where nearer to 0 is better."""
    ci95: Interval
    """Of the difference."""
    p_value: float | None = None
    """Wilcoxon's signed-rank test, two-sided."""
    p_holm: float | None = None
    """Corrected for the number of interpolations that this model is compared with in this metric (Holm, 1979)."""
    note: str = ""
    """Why there is no p."""


def fewest_patients(comparisons: int) -> int:
    """Below this many patients no outcome of the test can reach the level: its smallest p is 2^(1 − n)."""
    return math.ceil(1 - math.log2(LEVEL / comparisons))


def compare(rows: Sequence[Row], models: Sequence[str], baselines: Sequence[str]) -> list[Comparison]:
    """Every model against every baseline in every metric.

    Args:
        rows: of one domain.
        models: methods as the rows call them.
        baselines: the same.
    """
    names = tuple(rows[0].metrics) if rows else ()
    found: list[Comparison] = []
    for model in models:
        for name in names:
            tested = [_compared(rows, model, baseline, name, len(baselines)) for baseline in baselines]
            found += _holm(tested)
    return found


def _compared(rows: Sequence[Row], model: str, baseline: str, name: str, comparisons: int) -> Comparison:
    ours, theirs = (patient_means(rows, method, name) for method in (model, baseline))
    pairs = [(ours[p].value, theirs[p].value) for p in ours if p in theirs]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    better = METRICS[name].better
    if better == "nearer 0":
        both = [(abs(a), abs(b)) for a, b in both]
    differences = [a - b for a, b in both]
    found = Comparison(
        model=model,
        baseline=baseline,
        metric=name,
        n=len(both),
        better_on=sum(merit(better, a) > merit(better, b) for a, b in both),
        difference=math.fsum(differences) / len(differences) if differences else None,
        ci95=interval(differences, "patients"),
    )
    if differences and not any(differences):
        return replace(found, note="no difference on any patient")
    # The test leaves pairs without a difference out.
    told, fewest = sum(difference != 0 for difference in differences), fewest_patients(comparisons)
    if told < fewest:
        tests = "one comparison" if comparisons == 1 else f"{comparisons} comparisons"
        who = f"{told} patients" if told == len(both) else f"{told} patients with a difference"
        return replace(found, note=f"{who}: with {tests} the test needs {fewest} to reach p < {LEVEL:g}")
    _, p_value = cast("tuple[float, float]", stats.wilcoxon(np.asarray(differences)))
    return replace(found, p_value=float(p_value))


def _holm(tested: Sequence[Comparison]) -> list[Comparison]:
    """Each p times the number of hypotheses not yet rejected, never below the p before it, at most 1.

    An interpolation without a p counts as one that is not rejected.
    """
    ranked = sorted((one.p_value, i) for i, one in enumerate(tested) if one.p_value is not None)
    found = list(tested)
    least = 0.0
    for rank, (p, i) in enumerate(ranked):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        found[i] = replace(tested[i], p_holm=least)
    return found
