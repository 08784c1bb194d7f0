"""Networks in 8-bit integers: the ranges of a rounded network set on images, its mean corrected."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ctsr.infer.cache import weights_hash
from ctsr.infer.calibration import Calibration
from ctsr.infer.openvino_engine import kept
from ctsr.models.rounded import rounded, roundings

__all__ = ["OUTLIERS", "calibrated", "debias", "quantised", "set_ranges"]

RECIPE = 2
"""Counted up when networks are rounded in another way."""
OUTLIERS = 2e-5
"""Share of values beyond a range, on each side: to cover them would widen the steps of all others."""


def quantised(net: nn.Module, calibration: Calibration, cache: Path | None = None) -> Path:
    """A network without a twin in INT8, as OpenVINO's `model.xml`, made when it is not in the cache yet.

    Args:
        net: maps ``(N, 1, h, w)`` to ``(N, 1, s·h, s·w)``; on the CPU.
        calibration: the images whose activations set the scales.
        cache: folder of converted networks; the user's when None.

    Raises:
        DomainError: the network has no trunk that is known.
    """
    key = ("int8", RECIPE, weights_hash(net), type(net).__name__, calibration.key)
    return kept(key, lambda: calibrated(net, [torch.from_numpy(image) for image in calibration()]), cache)


def calibrated(net: nn.Module, images: Sequence[Tensor]) -> nn.Module:
    """A rounded copy of a network: its ranges cover these images, and its mean on them is that of fp32.

    Args:
        net: on the CPU.
        images: ``(N, 1, h, w)`` in [-1, 1].

    Raises:
        DomainError: the network has no trunk that is known.
    """
    copy = rounded(net)
    set_ranges(copy, images)
    debias(copy, net, images)
    return copy


@torch.no_grad()
def set_ranges(net: nn.Module, images: Sequence[Tensor], outliers: float = OUTLIERS) -> None:
    """Let every input's levels cover what it is on these images, but for the few values that lie far out.

    Args:
        net: rounded; its ranges are replaced.
        images: ``(N, 1, h, w)`` in [-1, 1].
        outliers: share of a batch's values that may lie beyond, on each side.
    """
    seen: dict[str, tuple[float, float]] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
            low, high = seen.get(name, (0.0, 0.0))
            values = inputs[0].flatten()
            beyond = 1 + round(outliers * len(values))
            least, most = (float(values.topk(beyond, largest=side).values[-1]) for side in (False, True))
            seen[name] = min(low, least), max(high, most)
            return inputs[0]  # unrounded: ranges of later parts do not depend on those of earlier ones

        return hook

    hooks = [one.register_forward_hook(look(name)) for name, one in roundings(net)]
    for image in images:
        net(image)
    for hook in hooks:
        hook.remove()
    for name, one in roundings(net):
        one.cover(*seen[name])


def debias(net: nn.Module, teacher: nn.Module, images: Sequence[Tensor]) -> None:
    """Give a rounded network the teacher's mean on these images: a constant in the last convolution, which is fp32."""
    *_, last = (one for one in net.modules() if isinstance(one, nn.Conv2d))
    assert last.bias is not None, "every convolution here has one"
    # What the mean gains by it: 1, but for networks that compute on another scale inside.
    gain = torch.autograd.grad(net(images[0][:1]).mean(), last.bias)[0].sum()
    with torch.no_grad():
        differences = [(teacher(image) - net(image)).mean(dtype=torch.float64) for image in images]
        last.bias += float(torch.stack(differences).mean() / gain)
