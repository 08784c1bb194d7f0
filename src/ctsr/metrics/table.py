"""The metrics that have a name: what each measures, on which domain, and which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from torch import Tensor

from ctsr.metrics.fidelity import bias, mae, mse, psnr, rmse
from ctsr.metrics.ssim import ssim
from ctsr.metrics.value import MetricValue, PerImage

__all__ = [
    "HU",
    "METRICS",
    "NOT_COMPUTED",
    "PERCEPTUAL",
    "WINDOWED",
    "Better",
    "Metric",
    "MetricFunction",
    "measure",
    "not_computed",
]

Better: TypeAlias = Literal["higher", "lower", "nearer 0"]
Domain: TypeAlias = Literal["window", "hu"]
MetricFunction: TypeAlias = Callable[[Tensor, Tensor], PerImage]
"""Of image and reference; see `measure` for their shapes."""

NOT_COMPUTED = "not computed"
"""The reason of a metric that has a column but was not asked for."""


@dataclass(frozen=True)
class Metric:
    """A named metric: ``function(image, reference)`` on images of its domain."""

    name: str
    unit: str
    better: Better
    domain: Domain
    """`window`: [0, 1] after windowing, data range 1. `hu`: Hounsfield units, clipped to the model's range."""
    meaning: str
    function: MetricFunction | None
    """None where it needs more than the images: weights, or a package that may not be installed."""


METRICS = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("MSE", "1", "lower", "window", "mean squared error", mse),
            Metric("RMSE", "1", "lower", "window", "root mean squared error", rmse),
            Metric("MAE", "1", "lower", "window", "mean absolute error", mae),
            Metric("PSNR", "dB", "higher", "window", "peak signal-to-noise ratio", psnr),
            Metric("SSIM", "1", "higher", "window", "structural similarity, Gaussian 11×11, σ 1.5", ssim),
            Metric("LPIPS", "1", "lower", "window", "learned perceptual distance", None),
            Metric("MA", "1", "higher", "window", "no-reference quality after Ma et al. (NRQM)", None),
            Metric("NIQE", "1", "lower", "window", "natural image quality evaluator", None),
            Metric("PI", "1", "lower", "window", "perceptual index ½((10 − MA) + NIQE)", None),
            Metric("MAE_HU", "HU", "lower", "hu", "mean absolute error", mae),
            Metric("RMSE_HU", "HU", "lower", "hu", "root mean squared error", rmse),
            Metric("BIAS_HU", "HU", "nearer 0", "hu", "mean of image − reference", bias),
        )
    }
)
"""Every metric by name, in the order of the columns."""

WINDOWED = tuple(m.name for m in METRICS.values() if m.domain == "window" and m.function)
"""Computed on [0, 1] after windowing."""
PERCEPTUAL = ("LPIPS", "MA", "NIQE", "PI")
"""Need weights or packages of their own; without them a column holds the reason."""
HU = tuple(m.name for m in METRICS.values() if m.domain == "hu")
"""Computed in Hounsfield units."""


def measure(names: tuple[str, ...], image: Tensor, reference: Tensor) -> list[dict[str, MetricValue]]:
    """The named metrics of each image of a batch.

    Args:
        names: from `WINDOWED` with images on [0, 1], or from `HU` with images in HU.
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)``, or ``(1, 1, H, W)`` for the whole batch.

    Returns:
        One mapping from name to value for each of the N images.
    """
    columns = {name: _computed(METRICS[name], image, reference) for name in names}
    return [{name: column[i] for name, column in columns.items()} for i in range(image.shape[0])]


def _computed(metric: Metric, image: Tensor, reference: Tensor) -> PerImage:
    if metric.function is None:
        return (not_computed(),) * image.shape[0]
    return metric.function(image, reference)


def not_computed() -> MetricValue:
    """The value of a metric that was not asked for."""
    return MetricValue(None, NOT_COMPUTED)
