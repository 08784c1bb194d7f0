"""How often 95 % intervals of a mean hold it: normal and skewed values of few patients, several methods.

    python -m benchmarks.intervals            # some minutes
    python -m benchmarks.intervals --trials 500

`ctsr.evaluate.statistics` uses t below 10 values and bootstrap-t from there on; decision 12 has the figures.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Bounds = tuple[Array, Array]

COUNTS = (5, 7, 10, 20)
SIGMAS = {"normal": 0.0, "lognormal, skewness 0.8": 0.25, "skewness 1.75": 0.5, "skewness 6.2": 1.0}
"""Name → σ of the logarithm; 0 is a normal distribution."""
RESAMPLES = 999
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


METHODS: dict[str, Callable[[Array, np.random.Generator], Bounds]] = {
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


def main() -> None:
    """Print coverage in percent and, in brackets, the widths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
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
