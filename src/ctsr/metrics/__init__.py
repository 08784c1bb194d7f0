"""Image metrics: tensors in, one value with its reason for each image out."""

from ctsr.metrics.fidelity import bias, mae, mse, psnr, rmse
from ctsr.metrics.ssim import ssim
from ctsr.metrics.table import (
    HU,
    METRICS,
    NOT_COMPUTED,
    PERCEPTUAL,
    WINDOWED,
    Better,
    Metric,
    MetricFunction,
    measure,
    not_computed,
)
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
    "MetricValue",
    "PerImage",
    "bias",
    "mae",
    "measure",
    "mse",
    "not_computed",
    "psnr",
    "rmse",
    "ssim",
]
