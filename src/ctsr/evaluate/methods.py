"""What is compared: interpolations and models, all on the same LR."""

from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ctsr.evaluate.model import ModelUnderTest
from ctsr.infer import Engine, super_resolve
from ctsr.models.interpolation import Interpolation, interpolate

__all__ = ["BICUBIC", "BILINEAR", "INTERPOLATIONS", "LANCZOS", "MODEL", "method_names", "reconstructions", "short"]

BILINEAR = "Interpolation (Bilinear)"
BICUBIC = "Interpolation (Bicubic)"
LANCZOS = "Interpolation (Lanczos)"
MODEL = "Model (RRDB)"
"""What a single model of this family is called."""
INTERPOLATIONS = MappingProxyType({"bilinear": BILINEAR, "bicubic": BICUBIC, "lanczos": LANCZOS})
"""What rows, tables and plots call each baseline."""

FAMILIES = MappingProxyType({"rrdb": "RRDB", "real_esrgan": "RRDB", "rrdb_skip": "RRDB"})
"""How a family of networks is written; others by their name in capitals."""


def method_names(models: Sequence[ModelUnderTest]) -> tuple[str, ...]:
    """What rows call each model: its family where there is one, its run or file where there are several."""
    if len(models) == 1:
        family = models[0].generator.architecture.name
        return (f"Model ({FAMILIES.get(family, family.upper())})",)
    names = [model.experiment_name for model in models]
    if len(set(names)) < len(names):
        names = [model.run_name for model in models]
    alike = Counter(names)
    numbers = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return tuple(
        f"Model ({name})" if alike[name] == 1 else f"Model ({name} {number})"
        for name, number in zip(names, numbers, strict=True)
    )


def short(method: str) -> str:
    """For axes and captions: `Bicubic`, `RRDB`, the run's name."""
    return method.partition("(")[2].rpartition(")")[0]


def reconstructions(
    networks: Sequence[nn.Module | Engine], lr: Tensor, scale: int, baselines: Sequence[Interpolation]
) -> Tensor:
    """One LR slice enlarged by every method: the baselines, then the networks.

    Args:
        networks: generators, or engines that run them; each enlarges by `scale`.
        lr: ``(1, 1, h, w)`` in [-1, 1].
        scale: 2 or 4.
        baselines: in the order of the rows.

    Returns:
        ``(methods, 1, scale·h, scale·w)`` in [-1, 1], on the device of `lr`.
    """
    images = [interpolate(lr, scale, kind) for kind in baselines]
    return torch.cat([*images, *(super_resolve(network, lr) for network in networks)])
