"""How often 95 % intervals of a mean hold it: normal and skewed values of few patients, several methods.

    python -m benchmarks.intervals            # some minutes
    python -m benchmarks.intervals --trials 500
    python -m benchmarks.intervals --summary eval_results/…/summary.json
    python -m benchmarks.intervals --summary eval_results/…/summary.json --lognormal

`ctsr.evaluate.statistics` uses t below 10 values and bootstrap-t from there on; decision 12 has the figures. With a
summary of `ctsr evaluate` over many patients, its patients are what the few are drawn from, by metric: values that are
as skewed as real ones are, and the intervals that are published, or those of a lognormal mean.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ctsr.evaluate.statistics import interval

Array = npt.NDArray[np.float64]
Bounds = tuple[Array, Array]
Method = Callable[[Array, np.random.Generator], Bounds]

COUNTS = (5, 7, 10, 20)
SIGMAS = {"normal": 0.0, "lognormal, skewness 0.8": 0.25, "skewness 1.75": 0.5, "skewness 6.2": 1.0}
"""Name → σ of the logarithm; 0 is a normal distribution."""
RESAMPLES = 999
FEWEST_PATIENTS = 40
"""Patients of a summary that make a population to draw from."""
CHUNK = 100
"""Trials whose resamples are held at once."""


def student(values: Array, rng: np.random.Generator) -> Bounds:
    """Student's t of the mean."""
    del rng
    half = stats.t.ppf(0.975, values.shape[1] - 1) * _error(values)
    return values.mean(axis=1) - half, values.mean(axis=1) + half


def johnson(values: Array, rng: np.random.Generator) -> Bounds:
    """Student's t shifted for skewness (Johnson, 1978): mean + skewness · sd / (6 n) ± t · error."""
    del rng
    count = values.shape[1]
    middle = values.mean(axis=1) + stats.skew(values, axis=1, bias=False) * values.std(axis=1, ddof=1) / (6 * count)
    half = stats.t.ppf(0.975, count - 1) * _error(values)
    return middle - half, middle + half


def scipy_bootstrap(values: Array, rng: np.random.Generator, method: str) -> Bounds:
    """`scipy.stats.bootstrap` of the mean: percentile or BCa (Efron, 1987)."""
    found = stats.bootstrap(
        (values,), np.mean, axis=1, n_resamples=RESAMPLES, method=method, vectorized=True, batch=100, rng=rng
    )
    return found.confidence_interval.low, found.confidence_interval.high


def bootstrap_t(values: Array, rng: np.random.Generator) -> Bounds:
    """Studentised bootstrap (Efron & Tibshirani, 1993, ch. 12.5): quantiles of t from the sample's own resamples."""
    trials, count = values.shape
    drawn = rng.integers(count, size=(trials, RESAMPLES, count))
    resampled = np.take_along_axis(values[:, None], drawn, axis=2)
    errors = resampled.std(axis=2, ddof=1) / np.sqrt(count)
    deviations = resampled.mean(axis=2) - values.mean(axis=1)[:, None]
    # A resample of one value repeated has no error: it says nothing.
    scores = np.divide(deviations, errors, out=np.full_like(deviations, np.nan), where=errors > 0)
    low, high = np.nanpercentile(scores, [2.5, 97.5], axis=1)
    return values.mean(axis=1) - high * _error(values), values.mean(axis=1) - low * _error(values)


def wilcoxon(values: Array, rng: np.random.Generator) -> Bounds:
    """Hodges and Lehmann's interval of the pseudomedian: the signed-rank test, inverted."""
    del rng
    count = values.shape[1]
    first, second = np.triu_indices(count)
    averages = np.sort((values[:, first] + values[:, second]) / 2, axis=1)
    left = _signed_rank_quantile(count)
    return averages[:, left], averages[:, -1 - left]


def _signed_rank_quantile(count: int) -> int:
    """Walsh averages that are left out at either end: the largest w with P(W ≤ w − 1) ≤ 2.5 %."""
    ways = np.ones(1)
    for rank in range(1, count + 1):
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    below = np.cumsum(ways) / 2.0**count
    return int(np.searchsorted(below, 0.025, side="right"))


METHODS: dict[str, Method] = {
    "t": student,
    "Johnson's t": johnson,
    "percentile": partial(scipy_bootstrap, method="percentile"),
    "BCa": partial(scipy_bootstrap, method="BCa"),
    "bootstrap-t": bootstrap_t,
    "Wilcoxon": wilcoxon,
}


def _error(values: Array) -> Array:
    return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def coverage(method: str, count: int, sigma: float, trials: int) -> tuple[float, float, float]:
    """Share of trials whose interval holds the mean; median and 97.5 % quantile of its width in sd."""
    rng = np.random.default_rng([count, round(100 * sigma)])
    mean = np.exp(sigma**2 / 2) if sigma else 0.0
    sd = mean * np.sqrt(np.expm1(sigma**2)) if sigma else 1.0
    held: list[npt.NDArray[np.bool_]] = []
    widths: list[Array] = []
    for _ in range(0, trials, CHUNK):
        normal = rng.normal(size=(CHUNK, count))
        low, high = METHODS[method](np.exp(sigma * normal) if sigma else normal, rng)
        held.append((low <= mean) & (mean <= high))
        widths.append((high - low) / sd)
    middle, most = np.percentile(np.concatenate(widths), [50, 97.5])
    return float(np.concatenate(held).mean()), float(middle), float(most)


def published(values: Array, rng: np.random.Generator) -> Bounds:
    """The intervals of `ctsr evaluate`, which go by the number of values."""
    del rng
    found = [interval(sample, "patients") for sample in values.tolist()]
    return np.array([one.low for one in found], np.float64), np.array([one.high for one in found], np.float64)


def lognormal(values: Array, rng: np.random.Generator) -> Bounds:
    """Of the mean of lognormal values, from those of mean and variance of the logarithm (Zou, Huo & Taleban, 2009)."""
    del rng
    degrees = values.shape[1] - 1
    logs = np.log(values)
    half_variance = logs.var(axis=1, ddof=1) / 2
    middle, error = logs.mean(axis=1) + half_variance, stats.t.ppf(0.975, degrees) * _error(logs)
    down = half_variance * (1 - degrees / stats.chi2.ppf(0.975, degrees))
    up = half_variance * (degrees / stats.chi2.ppf(0.025, degrees) - 1)
    return np.exp(middle - np.hypot(error, down)), np.exp(middle + np.hypot(error, up))


def coverage_of_patients(values: Array, count: int, trials: int, method: Method) -> tuple[float, float]:
    """Draw `count` of `values`: the share of trials whose interval holds the mean of all, and its width.

    The width is the 97.5 % quantile, in standard deviations.
    """
    rng = np.random.default_rng(count)
    low, high = method(values[rng.integers(len(values), size=(trials, count))], rng)
    held = (low <= values.mean()) & (values.mean() <= high)
    return float(held.mean()), float(np.percentile((high - low) / values.std(), 97.5))


def populations(summary: dict[str, Any], metric: str) -> tuple[list[Array], list[Array]]:
    """One array of patients' values for each method, and one of differences for each pair of a model and another."""
    of_method = {method: _column(summary["per_patient"].values(), method, metric) for method in summary["methods"]}
    means = [values[~np.isnan(values)] for values in of_method.values()]
    differences: list[Array] = []
    for model in summary["models"]:
        others = (of_method[name] - of_method[model] for name in of_method if name not in summary["models"])
        differences += [values[~np.isnan(values)] for values in others]
    return means, differences


def _column(patients: Iterable[dict[str, Any]], method: str, metric: str) -> Array:
    return np.array([patient[method][metric]["mean"] for patient in patients], dtype=np.float64)


def of_summary(path: Path, trials: int, *, is_lognormal: bool) -> None:
    """Print by metric skewness and coverage in percent, from the lowest to the highest of its populations."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    print(
        f"{summary['num_patients']} patients, {trials} trials of {COUNTS} of them: coverage in %, lowest and highest; "
        "in brackets the largest width in sd (97.5 % quantile)"
    )
    print("| values | skewness |" + "".join(f" {count} |" for count in COUNTS) + "\n|---|---|" + "---|" * len(COUNTS))
    for metric in summary["metrics"]:
        for kind, found in zip(("means", "differences"), populations(summary, metric), strict=True):
            whole = [values for values in found if len(values) >= FEWEST_PATIENTS and values.std() > 0]
            if is_lognormal:
                below_1 = [1 - values if metric == "SSIM" else values for values in whole]
                whole = [values for values in below_1 if kind == "means" and values.min() > 0]
            if not whole:
                continue
            method = lognormal if is_lognormal else published
            cells = [_range([float(stats.skew(values)) for values in whole], 1)]
            for count in COUNTS:
                held = [coverage_of_patients(values, count, trials, method) for values in whole]
                widest = max(width for _, width in held)
                cells.append(f"{_range([100 * share for share, _ in held], 0)} ({widest:.1f})")
            print(f"| {metric}, {kind} | {' | '.join(cells)} |", flush=True)


def _range(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    """Print coverage in percent and, in brackets, the widths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--summary", type=Path, help="draw patients of this evaluation instead of made-up ones")
    parser.add_argument("--lognormal", action="store_true", help="with --summary: intervals of a lognormal mean")
    flags = parser.parse_args()
    if flags.summary is not None:
        of_summary(flags.summary, flags.trials, is_lognormal=flags.lognormal)
        return
    trials = flags.trials
    for name, sigma in SIGMAS.items():
        print(f"{name}: share of {trials} trials in % (width in sd: median, 97.5 % quantile), for {COUNTS} values")
        for method in METHODS:
            cells = (coverage(method, count, sigma, trials) for count in COUNTS)
            print(
                f"  {method:12}",
                "  ".join(f"{100 * held:4.1f} ({middle:4.2f}, {most:4.1f})" for held, middle, most in cells),
                flush=True,
            )


if __name__ == "__main__":
    main()
