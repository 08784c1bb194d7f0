"""Which implementation computes LPIPS, NIQE and MA: this package's, or that of `pyiqa` or `lpips` where installed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ctsr import __version__
from ctsr.errors import MissingInputError
from ctsr.features import Trunk
from ctsr.metrics import MetricFunction, MetricValue, PerImage
from ctsr.metrics.lpips import LPIPS
from ctsr.metrics.niqe import NIQE
from ctsr.metrics.packages import Net, Package, lpips_lpips, pyiqa_lpips, pyiqa_ma, pyiqa_niqe, version_of
from ctsr.weights import Source, load_weights
from ctsr.weights.table import Layout
from ctsr.weights.unpack import unpack

__all__ = ["Backend", "Chosen", "Net", "Perceptual", "Used", "choose_metric", "without"]

Perceptual: TypeAlias = Literal["LPIPS", "NIQE", "MA"]
Used: TypeAlias = Literal["builtin", "pyiqa", "lpips"]
Backend: TypeAlias = Literal["auto", "builtin", "pyiqa", "lpips"]

TRUNKS = MappingProxyType({"alex": "alexnet", "vgg": "vgg16"})

IN_TORCH_HUB: Mapping[str, tuple[str, Layout]] = MappingProxyType(
    {
        "alexnet": ("checkpoints/alexnet-owt-7be5be79.pth", "torch"),
        "vgg16": ("checkpoints/vgg16-397923af.pth", "torch"),
        "lpips-alex": ("pyiqa/LPIPS_v0.1_alex-df73285e.pth", "torch"),
        "lpips-vgg": ("pyiqa/LPIPS_v0.1_vgg-a78928a0.pth", "torch"),
        "niqe": ("pyiqa/niqe_modelparameters.mat", "niqe-mat"),
    }
)
"""Where torchvision and pyiqa keep what they downloaded, below PyTorch's own cache folder."""
MA_FILE = "pyiqa/NRQM_model.mat"
MA_ADVICE = (
    "`python -c \"import pyiqa; pyiqa.create_metric('nrqm')\"` downloads it, once, from "
    "https://huggingface.co/chaofengc/IQA-PyTorch-Weights"
)


@dataclass(frozen=True)
class Chosen:
    """A perceptual metric, and who computes it."""

    function: MetricFunction
    """Without a backend it has the reason for every image, and no number."""
    backend: Used | Literal["none"]
    version: str
    """Of the package that computes it; empty where none does."""
    reason: str
    """Why none does, and what to do about it; empty where one does."""


def choose_metric(name: Perceptual, backend: Backend = "auto", net: Net = "alex", cache: Path | None = None) -> Chosen:
    """The metric by the backend that was asked for, or the first that can.

    `auto` is this package where its weights were fetched, else `pyiqa`, else (for LPIPS) `lpips`; MA is pyiqa's alone.
    No connection is opened: what is not on this machine is a reason.

    Args:
        name: which metric.
        backend: who may compute it.
        net: LPIPS's trunk, AlexNet or VGG16.
        cache: where fetched weights are kept; the user's cache folder when left out.
    """
    makers = MAKERS[name]
    if backend != "auto" and backend not in makers:
        return _none(f"{backend} has no {name}, {' and '.join(makers)} would")
    reasons: list[str] = []
    for used, make in makers.items():
        if backend not in {"auto", used}:
            continue
        try:
            return Chosen(make(net, cache), used, __version__ if used == "builtin" else version_of(used) or "", "")
        except MissingInputError as error:
            reasons.append(str(error))
    return _none(reasons[0])  # that of the backend that `auto` prefers


def without(reason: str) -> MetricFunction:
    """A metric that has a reason for every image, and no number."""
    return _Without(reason)


@dataclass(frozen=True)
class _Without:
    reason: str

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:
        del reference
        return (MetricValue(None, self.reason),) * len(image)


def _none(reason: str) -> Chosen:
    return Chosen(without(reason), "none", "", reason)


def _builtin_lpips(net: Net, cache: Path | None) -> MetricFunction:
    trunk, heads = _fetched(cache, TRUNKS[net], f"lpips-{net}")
    return LPIPS(Trunk(TRUNKS[net], trunk), heads)


def _lpips_of_pyiqa(net: Net, cache: Path | None) -> MetricFunction:
    _demand("pyiqa")
    trunk, heads = _at_hand(cache, TRUNKS[net], f"lpips-{net}")
    return pyiqa_lpips(net, trunk, heads)


def _lpips_of_lpips(net: Net, cache: Path | None) -> MetricFunction:
    _demand("lpips")
    (trunk,) = _at_hand(cache, TRUNKS[net])
    return lpips_lpips(net, trunk)


def _builtin_niqe(net: Net, cache: Path | None) -> MetricFunction:
    del net
    (model,) = _fetched(cache, "niqe")
    return NIQE(model)


def _niqe_of_pyiqa(net: Net, cache: Path | None) -> MetricFunction:
    del net
    _demand("pyiqa")
    (model,) = _at_hand(cache, "niqe")
    return pyiqa_niqe(model)


def _ma_of_pyiqa(net: Net, cache: Path | None) -> MetricFunction:
    del net, cache
    _demand("pyiqa")
    file = _hub() / MA_FILE
    if not file.is_file():
        raise MissingInputError(f"{file.name} is not in {file.parent}; {MA_ADVICE}")
    return pyiqa_ma(file)


def _demand(package: Package) -> None:
    if version_of(package) is None:
        raise MissingInputError(f"{package} is not installed (pip install '.[pyiqa]' in the source folder of ctsr)")


def _fetched(cache: Path | None, *names: str) -> list[dict[str, Tensor]]:
    """Weights from our own cache, or the one command that brings them all."""
    try:
        return [load_weights(name, cache) for name in names]
    except MissingInputError as error:
        raise MissingInputError(f"weights not fetched (ctsr weights fetch {' '.join(names)})") from error


def _at_hand(cache: Path | None, *names: str) -> list[dict[str, Tensor]]:
    """The same from our own cache, else from where the packages keep what they downloaded."""
    try:
        return _fetched(cache, *names)
    except MissingInputError:
        files = [_hub() / IN_TORCH_HUB[name][0] for name in names]
        if not all(file.is_file() for file in files):
            raise
    sources = [Source("torchvision", IN_TORCH_HUB[name][0], "", IN_TORCH_HUB[name][1]) for name in names]
    return [unpack(file, source) for file, source in zip(files, sources, strict=True)]


def _hub() -> Path:
    return Path(torch.hub.get_dir())


MAKERS: Mapping[Perceptual, Mapping[Used, Callable[[Net, Path | None], MetricFunction]]] = MappingProxyType(
    {
        "LPIPS": {"builtin": _builtin_lpips, "pyiqa": _lpips_of_pyiqa, "lpips": _lpips_of_lpips},
        "NIQE": {"builtin": _builtin_niqe, "pyiqa": _niqe_of_pyiqa},
        "MA": {"pyiqa": _ma_of_pyiqa},
    }
)
"""Who has which metric, in the order in which `auto` asks; each raises MissingInputError where something is missing."""
