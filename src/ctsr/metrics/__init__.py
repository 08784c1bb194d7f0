"""Image metrics: tensors in, a value or a reason for each image out."""

from ctsr.callable_package import make_callable
from ctsr.metrics.fidelity import MetricValue, PerImage, bias, mae, mse, psnr, rmse, ssim
from ctsr.metrics.table import METRICS, Better, Group, Metric, MetricFunction, choose_metrics, of_group, plain_metric

__all__ = [
    "METRICS",
    "Better",
    "Group",
    "Metric",
    "MetricFunction",
    "MetricValue",
    "PerImage",
    "bias",
    "choose_metrics",
    "mae",
    "mse",
    "of_group",
    "plain_metric",
    "psnr",
    "rmse",
    "ssim",
]

make_callable(__name__, "ctsr.api.evaluation:metrics")
