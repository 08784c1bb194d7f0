"""Image metrics: tensors in, a value or a reason for each image out; what each measures, and which way is better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from ctsr import make_callable
from ctsr.errors import UsageError
from ctsr.hu import TISSUES
from ctsr.metrics.fidelity import MetricValue, PerImage, bias, haarpsi, mae, ms_ssim, mse, psnr, rmse, ssim, vif

Better: TypeAlias = Literal["higher", "lower", "nearer 0"]
InputScale: TypeAlias = Literal["window", "hu"]
Group: TypeAlias = Literal["fidelity", "perceptual", "hu", "tissue", "structure"]
MetricFunction: TypeAlias = Callable[[Tensor, Tensor], PerImage]
"""Takes images ``(N, 1, H, W)`` and a reference ``(N, 1, H, W)`` or ``(1, 1, H, W)``, on `Metric.input_scale`."""


@dataclass(frozen=True)
class Metric:
    """A named metric."""

    name: str
    group: Group
    unit: str
    better: Better
    meaning: str
    function: MetricFunction | None
    """None where it needs weights or a package that may not be installed: see `ctsr.metrics.perceptual`."""
    pixelwise: bool = True
    """A mean over pixels; other metrics compare neighbourhoods and need a connected image."""
    tissue: str | None = None
    """The key of `TISSUES` that the metric is confined to."""

    @property
    def input_scale(self) -> InputScale:
        """`window`: [0, 1] after windowing, data range 1. `hu`: Hounsfield units, clipped to the model's range."""
        return "hu" if self.group in {"hu", "tissue"} else "window"


def _of_tissues() -> tuple[Metric, ...]:
    """Mean absolute error and bias of each tissue."""
    kinds: tuple[tuple[str, Better, str, MetricFunction], ...] = (
        ("MAE_HU", "lower", "mean absolute error", mae),
        ("BIAS_HU", "nearer 0", "mean of image − reference", bias),
    )
    return tuple(
        Metric(
            f"{name}_{tissue.name}", "tissue", "HU", better, f"{meaning} in {tissue.text}", function, tissue=tissue.name
        )
        for name, better, meaning, function in kinds
        for tissue in TISSUES.values()
    )


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("MSE", "fidelity", "1", "lower", "mean squared error", mse),
        Metric("RMSE", "fidelity", "1", "lower", "root mean squared error", rmse),
        Metric("MAE", "fidelity", "1", "lower", "mean absolute error", mae),
        Metric("PSNR", "fidelity", "dB", "higher", "peak signal-to-noise ratio", psnr),
        Metric(
            "SSIM", "fidelity", "1", "higher", "structural similarity, Gaussian 11×11, σ 1.5", ssim, pixelwise=False
        ),
        Metric("LPIPS", "perceptual", "1", "lower", "learned perceptual distance", None, pixelwise=False),
        Metric("MA", "perceptual", "1", "higher", "no-reference quality after Ma et al. (NRQM)", None, pixelwise=False),
        Metric("NIQE", "perceptual", "1", "lower", "natural image quality evaluator", None, pixelwise=False),
        Metric("PI", "perceptual", "1", "lower", "perceptual index ½((10 − MA) + NIQE)", None, pixelwise=False),
        Metric("MAE_HU", "hu", "HU", "lower", "mean absolute error", mae),
        Metric("RMSE_HU", "hu", "HU", "lower", "root mean squared error", rmse),
        Metric("BIAS_HU", "hu", "HU", "nearer 0", "mean of image − reference", bias),
        *_of_tissues(),
        Metric("MS_SSIM", "structure", "1", "higher", "SSIM over five scales", ms_ssim, pixelwise=False),
        Metric("HAARPSI", "structure", "1", "higher", "similarity of edges by Haar wavelets", haarpsi, pixelwise=False),
        Metric("VIF", "structure", "1", "higher", "visual information fidelity, of pixels", vif, pixelwise=False),
    )
}
"""Every metric by name, in the order of the columns."""

GROUPS: tuple[Group, ...] = ("fidelity", "perceptual", "hu", "tissue", "structure")
"""Names for several metrics at once."""
DEFAULT = ("fidelity", "perceptual", "hu", "tissue")
"""The groups that are computed by default."""


def of_group(group: Group) -> tuple[str, ...]:
    """Names of the metrics of a group, in the order of the columns."""
    return tuple(metric.name for metric in METRICS.values() if metric.group == group)


def plain_metric(name: str) -> str:
    """A metric's name as readers see it: `MS-SSIM`, `MAE`, `Bias lung`; the unit stands beside it."""
    return name.replace("_HU", "").replace("MS_", "MS-").replace("BIAS", "Bias").replace("_", " ")


def choose_metrics(asked: Sequence[str]) -> tuple[str, ...]:
    """Choose metrics by name or group, in the order of the columns.

    Args:
        asked: names of metrics or groups in any case, `default`, or `all`. PI includes NIQE and MA.

    Raises:
        UsageError: a name is not among these.
    """
    chosen: set[str] = set()
    for word in asked:
        chosen.update(_named(word))
    if "PI" in chosen:
        chosen.update(("MA", "NIQE"))
    return tuple(name for name in METRICS if name in chosen)


def _named(word: str) -> tuple[str, ...]:
    by_name = {name.lower(): name for name in METRICS}
    match word.lower():
        case "all":
            return tuple(METRICS)
        case "default":
            return tuple(name for group in DEFAULT for name in _named(group))
        case "fidelity" | "perceptual" | "hu" | "tissue" | "structure" as group:
            return of_group(group)
        case name if name in by_name:
            return (by_name[name],)
        case _:
            known = ", ".join(("all", "default", *GROUPS, *METRICS))
            raise UsageError(f"no metric or group is called {word!r}; there are {known}")


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
