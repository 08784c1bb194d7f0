"""Statistics of rows: means with intervals by method, patient, series and header value, and paired tests."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from scipy import stats

from ctsr.data.hu_cache import StoredSeries
from ctsr.hashing import rng_from
from ctsr.metrics import METRICS, Better, MetricValue
from ctsr.reporting import counted

Over: TypeAlias = Literal["patients", "slices of one patient", "slices of several patients"]
"""What the values are of, which decides what an interval of their mean means."""

RESAMPLES = 2000
FEWEST = 5
"""Values below which no interval is given."""
SMALL = 10
"""Values below which resamples are too few and too often nearly constant: intervals of a few get absurdly wide."""
ENOUGH = 20
"""Values from which on intervals of skewed values, too, hold the mean about as often as they say."""
LEVEL = 0.05
"""Level of significance."""
UNKNOWN = "not told"


@dataclass(frozen=True)
class ImageRef:
    """Identifies the image of a row: whose it is."""

    patient_id: str
    series_uid: str


class MeasuredImage(Protocol):
    """What statistics need of a row."""

    @property
    def slice(self) -> ImageRef:
        """The image."""
        ...

    @property
    def method(self) -> str:
        """Its name."""
        ...

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """By name, in the order of the columns."""
        ...

    @property
    def window(self) -> str:
        """Tag of the metrics' window."""
        ...

    @property
    def mask(self) -> str:
        """`none`, or `body`."""
        ...


RowT = TypeVar("RowT", bound=MeasuredImage)


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a mean, or the reason why there is none."""

    low: float | None
    high: float | None
    note: str
    """Method, number and kind of the values; or what is missing."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of the values that exist; missing ones are only counted, by reason."""

    mean: float | None
    sd: float | None
    """Sample standard deviation (n − 1); None below two values."""
    min: float | None
    max: float | None
    n: int
    """Number of values."""
    ci95: Interval
    """95 % interval of the mean."""
    not_computed: dict[str, int]
    """Reason → number of values that are missing for it."""


Table: TypeAlias = dict[str, dict[str, Statistics]]
"""Method → metric → statistics."""

People: TypeAlias = Mapping[str, str]
"""Folder of a patient → the one that stands for all of this person's; see `ctsr.hashing.People.leaders`."""
NOBODY: People = {}
"""No person has several folders."""


def statistics(values: Iterable[MetricValue], over: Over) -> Statistics:
    """Compute mean, spread, count and interval; exactly rounded sums make the order of the values irrelevant."""
    values = list(values)
    missing = Counter(v.reason for v in values if v.value is None)
    numbers = [v.value for v in values if v.value is not None]
    reasons = dict(sorted(missing.items()))
    ci95 = interval(numbers, over)
    if not numbers:
        return Statistics(mean=None, sd=None, min=None, max=None, n=0, ci95=ci95, not_computed=reasons)
    mean = math.fsum(numbers) / len(numbers)
    return Statistics(mean, _sd(numbers, mean), min(numbers), max(numbers), len(numbers), ci95, reasons)


def _sd(numbers: Sequence[float], mean: float) -> float | None:
    if len(numbers) < 2:
        return None
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


def interval(numbers: Sequence[float], over: Over) -> Interval:
    """Student's t interval of the mean below `SMALL` values, from there on the studentised bootstrap.

    The bootstrap (Efron & Tibshirani, 1993, ch. 12.5) has 2000 resamples, seeded by the number of values: quantiles of
    t are those of the resamples, so that the interval reaches further to the side where skewed values have their tail.

    None where it would mislead: with fewer than `FEWEST` values, and over slices of several patients, which are not
    independent. Neighbouring slices of one patient are not independent either: their interval describes how the mean
    varies within this patient, not between patients, and its note says so.
    """
    if over == "slices of several patients":
        return Interval(None, None, "none: slices of one patient are alike; the interval over patients is the one")
    if len(numbers) < FEWEST:
        return Interval(None, None, f"none: {len(numbers)} {over}, at least {FEWEST} are needed")
    if len(numbers) < SMALL:
        mean = math.fsum(numbers) / len(numbers)
        quantile = float(stats.t.ppf(1 - LEVEL / 2, len(numbers) - 1))
        half = quantile * (_sd(numbers, mean) or 0.0) / math.sqrt(len(numbers))
        return Interval(mean - half, mean + half, f"t over {len(numbers)} {over}")
    low, high = _bootstrap_t(np.sort(np.asarray(numbers, dtype=np.float64)))
    return Interval(low, high, f"bootstrap over {len(numbers)} {over}")


def _bootstrap_t(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of sorted values by the studentised bootstrap."""
    count, mean = len(values), math.fsum(values) / len(values)
    weights = _weights(count)
    deviations = weights @ (values - mean)
    variances = weights @ (values - mean) ** 2 - deviations**2
    # A resample of one value repeated has no spread: it says nothing.
    spread = variances > 1e-9 * float(np.var(values))
    if not spread.any():
        return mean, mean
    scores = deviations[spread] / np.sqrt(variances[spread] / (count - 1))
    low, high = np.percentile(scores, (2.5, 97.5))
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return mean - float(high) * error, mean - float(low) * error


@lru_cache(maxsize=4)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """(resamples, count): weight of each value in each resample's mean."""
    drawn = rng_from(RESAMPLES, "bootstrap", str(count)).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn / count


def mean_of(values: Iterable[MetricValue]) -> MetricValue:
    """A patient's value: the mean over slices, or None with the slices' reasons where none has a value."""
    values = list(values)
    numbers = [v.value for v in values if v.value is not None]
    if not numbers:
        reasons = sorted({v.reason for v in values})
        return MetricValue(None, ", ".join(reasons) or "no slices")
    return MetricValue(math.fsum(numbers) / len(numbers))


# Tables


def methods_of(rows: Iterable[MeasuredImage]) -> tuple[str, ...]:
    """In the order of the rows."""
    return tuple(dict.fromkeys(row.method for row in rows))


def _metrics_of(rows: Sequence[MeasuredImage]) -> tuple[str, ...]:
    return tuple(rows[0].metrics) if rows else ()


def by_method(rows: Sequence[MeasuredImage], over: Over = "slices of several patients") -> Table:
    """Statistics over the rows of each method."""
    table: Table = {}
    for method in methods_of(rows):
        own = [row for row in rows if row.method == method]
        table[method] = {}
        for name in _metrics_of(rows):
            values = [row.metrics[name] for row in own]
            table[method][name] = statistics(values, over)
    return table


def patient_level(rows: Sequence[MeasuredImage], people: People = NOBODY) -> Table:
    """Statistics over patients, each counted once with the mean over the patient's slices.

    Args:
        rows: of one domain.
        people: folder → the one that stands for all of this person's, where a person has several.
    """
    table: Table = {}
    for method in methods_of(rows):
        means = {name: patient_means(rows, method, name, people) for name in _metrics_of(rows)}
        table[method] = {name: statistics(of_patients.values(), "patients") for name, of_patients in means.items()}
    return table


def patient_means(
    rows: Iterable[MeasuredImage], method: str, name: str, people: People = NOBODY
) -> dict[str, MetricValue]:
    """Patient → mean over slices; `people` as for `patient_level`."""
    own = (row for row in rows if row.method == method)
    groups = _grouped(own, lambda row: people.get(row.slice.patient_id, row.slice.patient_id))
    means: dict[str, MetricValue] = {}
    for patient, group in groups.items():
        means[patient] = mean_of([row.metrics[name] for row in group])
    return means


def by_patient(rows: Sequence[MeasuredImage]) -> dict[str, Table]:
    """Patient → statistics over slices."""
    groups = _grouped(rows, lambda row: row.slice.patient_id)
    return {patient: by_method(group, "slices of one patient") for patient, group in groups.items()}


def by_series(rows: Sequence[MeasuredImage]) -> dict[str, dict[str, Table]]:
    """Patient → series → statistics over its slices."""
    tables: dict[str, dict[str, Table]] = {}
    for patient, own in _grouped(rows, lambda row: row.slice.patient_id).items():
        series = _grouped(own, lambda row: row.slice.series_uid)
        tables[patient] = {uid: by_method(group, "slices of one patient") for uid, group in series.items()}
    return tables


def _grouped(rows: Iterable[MeasuredImage], key: Callable[[MeasuredImage], str]) -> dict[str, list[MeasuredImage]]:
    groups: dict[str, list[MeasuredImage]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _mm(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{round(value, digits):g} mm"


STRATA: Mapping[str, Callable[[StoredSeries], str]] = {
    "kernel": lambda series: series.kernel or UNKNOWN,
    "slice thickness": lambda series: _mm(series.slice_thickness, 2),
    "pixel spacing": lambda series: " × ".join(dict.fromkeys(_mm(mm, 1) for mm in series.pixel_spacing)),
    "body part": lambda series: series.body_part or UNKNOWN,
}
"""Header values that metrics may depend on."""


def strata(
    rows: Sequence[MeasuredImage], series: Mapping[tuple[str, str], StoredSeries], people: People = NOBODY
) -> dict[str, dict[str, Table]]:
    """Property → its value → statistics over the patients who have it; without properties that do not differ.

    Args:
        rows: of one domain.
        series: (patient, series UID in rows) → series.
        people: as for `patient_level`.
    """
    tables: dict[str, dict[str, Table]] = {}
    for name, value_of in STRATA.items():
        values = {key: value_of(stored) for key, stored in series.items()}
        groups = _grouped(rows, lambda row, values=values: values[row.slice.patient_id, row.slice.series_uid])
        if len(groups) > 1:
            tables[name] = {value: patient_level(groups[value], people) for value in sorted(groups)}
    return tables


def uneven(table: Table) -> list[str]:
    """A line for each metric that methods have on different numbers of images: their means are of other ones.

    As where an interpolation equals the reference on some, and has no PSNR there.
    """
    found: list[str] = []
    for name in dict.fromkeys(name for by_metric in table.values() for name in by_metric):
        counts = {method: by_metric[name].n for method, by_metric in table.items() if name in by_metric}
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{method} {count}" for method, count in counts.items())
            found.append(f"{name} has values on different numbers of slices ({shown}): compare the paired differences.")
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


# Tests


@dataclass(frozen=True)
class Comparison:
    """One model against one interpolation in one metric, paired by patient, each with the mean over slices.

    Over the slices on which both have a value: where an image equals the reference it has no PSNR, and a mean without
    its best slices is not to be held against one with them.
    """

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
    """95 % interval of the difference."""
    p_value: float | None = None
    """Wilcoxon's signed-rank test, two-sided."""
    p_holm: float | None = None
    """Corrected for the number of interpolations that this model is compared with in this metric (Holm, 1979)."""
    note: str = ""
    """Why there is no p."""


def fewest_patients(comparisons: int) -> int:
    """Number of patients below which the test cannot reach the level: its smallest p is 2^(1 − n)."""
    return math.ceil(1 - math.log2(LEVEL / comparisons))


def compare(
    rows: Sequence[MeasuredImage], models: Sequence[str], baselines: Sequence[str], people: People = NOBODY
) -> list[Comparison]:
    """Compare every model with every baseline in every metric.

    Args:
        rows: of one domain.
        models: names of methods in the rows.
        baselines: the same.
        people: as for `patient_level`.
    """
    comparisons: list[Comparison] = []
    for model in models:
        for name in _metrics_of(rows):
            tested = [_compared(rows, (model, baseline), name, len(baselines), people) for baseline in baselines]
            comparisons += _holm(tested)
    return comparisons


def _compared(
    rows: Sequence[MeasuredImage], methods: tuple[str, str], name: str, comparisons: int, people: People
) -> Comparison:
    model, baseline = methods
    shared = _with_values(rows, model, name) & _with_values(rows, baseline, name)
    rows = [row for row in rows if row.slice in shared]
    ours, theirs = patient_means(rows, model, name, people), patient_means(rows, baseline, name, people)
    pairs = [(ours[patient].value, theirs[patient].value) for patient in ours if patient in theirs]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    better = METRICS[name].better
    if better == "nearer 0":
        both = [(abs(a), abs(b)) for a, b in both]
    differences = [a - b for a, b in both]
    comparison = Comparison(
        model=model,
        baseline=baseline,
        metric=name,
        n=len(both),
        better_on=sum(merit(better, a) > merit(better, b) for a, b in both),
        difference=math.fsum(differences) / len(differences) if differences else None,
        ci95=interval(differences, "patients"),
    )
    if differences and not any(differences):
        return replace(comparison, note="no difference on any patient")
    # Wilcoxon's test leaves out pairs without a difference.
    differing, fewest = sum(difference != 0 for difference in differences), fewest_patients(comparisons)
    if differing < fewest:
        tests = "one comparison" if comparisons == 1 else f"{comparisons} comparisons"
        who = counted(differing, "patient") + ("" if differing == len(both) else " with a difference")
        return replace(comparison, note=f"{who}: with {tests} the test needs {fewest} to reach p < {LEVEL:g}")
    _, p_value = cast("tuple[float, float]", stats.wilcoxon(np.asarray(differences)))
    return replace(comparison, p_value=float(p_value))


def _with_values(rows: Iterable[MeasuredImage], method: str, name: str) -> frozenset[ImageRef]:
    """The images on which a method has a value of a metric."""
    return frozenset(row.slice for row in rows if row.method == method and row.metrics[name].value is not None)


def _holm(tested: Sequence[Comparison]) -> list[Comparison]:
    """Each p times the number of hypotheses not yet rejected, never below the previous p, at most 1.

    An interpolation without a p counts as a hypothesis that is not rejected.
    """
    ranked = sorted((comparison.p_value, i) for i, comparison in enumerate(tested) if comparison.p_value is not None)
    corrected = list(tested)
    least = 0.0
    for rank, (p, i) in enumerate(ranked):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        corrected[i] = replace(tested[i], p_holm=least)
    return corrected
