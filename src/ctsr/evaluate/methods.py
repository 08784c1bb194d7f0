"""What is compared, and the numbers of one slice: the same for the evaluation and for whoever shows it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ctsr.hu import HURange, Window
from ctsr.infer import Engine, super_resolve
from ctsr.metrics import HU, METRICS, WINDOWED, MetricFunction, MetricValue, measure, not_computed
from ctsr.models.interpolation import interpolate

__all__ = ["BICUBIC", "BILINEAR", "METHODS", "MODEL", "reconstructions", "slice_metrics"]

BILINEAR = "Interpolation (Bilinear)"
BICUBIC = "Interpolation (Bicubic)"
MODEL = "Model (RRDB)"
METHODS = (BILINEAR, BICUBIC, MODEL)
"""In the order of rows, tables and plots."""


def reconstructions(net: nn.Module | Engine, lr: Tensor, scale: int) -> Tensor:
    """One LR slice enlarged by every method, in the order of `METHODS`.

    Args:
        net: the generator, or an engine that runs it; enlarges by `scale`.
        lr: ``(1, 1, h, w)`` in [-1, 1].
        scale: 2 or 4.

    Returns:
        ``(3, 1, scale·h, scale·w)`` in [-1, 1], on the device of `lr`.
    """
    images = (interpolate(lr, scale, "bilinear"), interpolate(lr, scale, "bicubic"), super_resolve(net, lr))
    return torch.cat(images)


def slice_metrics(
    images: Tensor,
    hr_hu: npt.NDArray[np.floating],
    window: Window,
    hu_range: HURange,
    lpips: MetricFunction | None = None,
) -> list[dict[str, MetricValue]]:
    """Every metric of each image, in the order of the columns.

    Args:
        images: ``(N, 1, H, W)`` in [-1, 1].
        hr_hu: the reference, (H, W) in HU, not clipped: what lies beyond the model's range but inside the window
            counts as the error it is.
        window: what becomes [0, 1] for the metrics on that domain.
        hu_range: the model's; the metrics in HU are taken on both images clipped to it.
        lpips: see `ctsr.evaluate.perceptual.choose_lpips`; not computed when left out.
    """
    sr_hu = hu_range.to_hu(images.detach().cpu().double().numpy())
    reference = hr_hu.astype(np.float64)[None, None]
    clipped = np.clip(reference, hu_range.low, hu_range.high)
    shown, wanted = _tensor(window.to_01(sr_hu)), _tensor(window.to_01(reference))
    windowed = measure(WINDOWED, shown, wanted)
    in_hu = measure(HU, _tensor(np.clip(sr_hu, hu_range.low, hu_range.high)), _tensor(clipped))
    learned = [{}] * len(images) if lpips is None else [{"LPIPS": value} for value in lpips(shown, wanted)]
    return [
        {name: (one | two | three).get(name, not_computed()) for name in METRICS}
        for one, two, three in zip(windowed, in_hu, learned, strict=True)
    ]


def _tensor(image: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float64))
