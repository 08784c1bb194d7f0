"""The metrics that need weights or a package: LPIPS, NIQE and MA, by this package, `pyiqa` or `lpips`.

`choose_perceptual` picks an implementation for each. Nothing is downloaded here: both packages would fetch missing
weights when a metric is created, so they are given tensors or files that are on this machine.
"""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args
from unittest.mock import patch

import torch
from scipy.io import savemat
from torch import Tensor

from ctsr import __version__
from ctsr.errors import MissingInputError
from ctsr.losses import Trunk
from ctsr.metrics import MetricFunction
from ctsr.metrics.fidelity import NOT_FINITE, MetricValue, PerImage, values
from ctsr.metrics.lpips_niqe import BLOCK, LPIPS, NIQE, SMALLEST, TOO_FLAT, TOO_SMALL
from ctsr.reporting import SILENT, Progress, one_line
from ctsr.weights import Layout, Source, load_weights, unpack

PerceptualName: TypeAlias = Literal["LPIPS", "NIQE", "MA"]
LpipsTrunk: TypeAlias = Literal["alex", "vgg"]
Package: TypeAlias = Literal["pyiqa", "lpips"]
Backend: TypeAlias = Literal["builtin", "pyiqa", "lpips"]
BackendChoice: TypeAlias = Literal["auto", "builtin", "pyiqa", "lpips"]

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
IN_TORCH_HUB: Mapping[str, tuple[str, Layout]] = {
    "alexnet": ("checkpoints/alexnet-owt-7be5be79.pth", "torch"),
    "vgg16": ("checkpoints/vgg16-397923af.pth", "torch"),
    "lpips-alex": ("pyiqa/LPIPS_v0.1_alex-df73285e.pth", "torch"),
    "lpips-vgg": ("pyiqa/LPIPS_v0.1_vgg-a78928a0.pth", "torch"),
    "niqe": ("pyiqa/niqe_modelparameters.mat", "niqe-mat"),
}
"""Files that torchvision and pyiqa have downloaded, below PyTorch's cache folder."""
MA_FILE = "pyiqa/NRQM_model.mat"
MA_ADVICE = (
    "`python -c \"import pyiqa; pyiqa.create_metric('nrqm')\"` downloads it, once, from "
    "https://huggingface.co/chaofengc/IQA-PyTorch-Weights"
)
MA_CPU_SECONDS = 25.0
"""CPU time of MA for a slice of 512² pixels, about; it grows with the number of pixels."""
MA_SMALLEST = 64
"""Pixels on a side below which the pyramid of MA's features has empty scales."""
UNIFORM = "uniform"
NOT_REQUESTED = "not asked for"

REFUSALS = (RuntimeError, AssertionError, IndexError, ValueError)
"""What the packages raise for images that they do not expect."""


@dataclass(frozen=True)
class PerceptualMetric:
    """A perceptual metric and the implementation that computes it."""

    function: MetricFunction
    """Without an implementation, it returns the reason for every image."""
    backend: Backend | Literal["none"]
    version: str
    """Version of the package that computes it; empty where none does."""
    reason: str
    """Why no implementation is available and what to do; empty where one is."""


@dataclass(frozen=True)
class PerceptualMetrics:
    """The perceptual metrics of an evaluation, and their provenance."""

    functions: Mapping[str, MetricFunction]
    """Requested metric → function."""
    provenance: Mapping[str, Mapping[str, str]]
    """Computed metric → backend, version and LPIPS's trunk."""
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    """Requested metric that cannot be computed → reason."""

    @property
    def pi_kind(self) -> str | None:
        """What PI is computed from: `ma+niqe`, `niqe`, or None where it is not computed."""
        if "NIQE" not in self.provenance:
            return None
        return "ma+niqe" if "MA" in self.provenance else "niqe"


def choose_perceptual(
    names: Sequence[str],
    trunk: Literal["alex", "vgg", "none"],
    cache: Path | None = None,
    *,
    backend: BackendChoice = "auto",
    progress: Progress = SILENT,
) -> PerceptualMetrics:
    """Choose implementations of those of LPIPS, NIQE and MA that are among `names`.

    Args:
        names: metrics that are to be computed.
        trunk: of LPIPS: AlexNet, VGG16, or none to leave LPIPS out.
        cache: folder of fetched weights; the user's cache folder by default.
        backend: for LPIPS and NIQE; one without NIQE counts as `auto` there, and MA is always pyiqa's.
        progress: receives a note for each metric that is left out.
    """
    functions: dict[str, MetricFunction] = {}
    provenance: dict[str, Mapping[str, str]] = {}
    missing: dict[str, str] = {}
    for name in get_args(PerceptualName):
        if name not in names:
            continue
        if name == "LPIPS" and trunk == "none":
            functions[name], missing[name] = Unavailable(NOT_REQUESTED), NOT_REQUESTED
            continue
        used = backend if name == "LPIPS" or (name == "NIQE" and backend in IMPLEMENTATIONS["NIQE"]) else "auto"
        chosen = choose_metric(name, used, "alex" if trunk == "none" else trunk, cache)
        functions[name] = chosen.function
        if chosen.reason:
            missing[name] = chosen.reason
            # MA is an extra: a user without pyiqa is not told of it each time.
            if name != "MA" or "not installed" not in chosen.reason or backend == "pyiqa":
                progress.note(f"{name} is left out: {chosen.reason}")
            continue
        provenance[name] = {"backend": chosen.backend, "version": chosen.version}
        if name == "LPIPS":
            provenance[name] = {**provenance[name], "trunk": TRUNKS[trunk]}
    return PerceptualMetrics(functions, provenance, missing)


def choose_metric(
    name: PerceptualName, backend: BackendChoice = "auto", trunk: LpipsTrunk = "alex", cache: Path | None = None
) -> PerceptualMetric:
    """Choose an implementation of one metric: the backend asked for, or the first that is available.

    `auto` prefers this package where its weights were fetched, then `pyiqa`, then (for LPIPS) `lpips`; MA is pyiqa's
    alone. No connection is opened: what is not on this machine is a reason.

    Args:
        name: of the metric.
        backend: the implementation to use.
        trunk: of LPIPS.
        cache: folder of fetched weights; the user's cache folder by default.
    """
    implementations = IMPLEMENTATIONS[name]
    if backend != "auto" and backend not in implementations:
        return _unavailable_metric(f"{backend} has no {name}, {' and '.join(implementations)} would")
    reasons: list[str] = []
    for candidate, create in implementations.items():
        if backend not in {"auto", candidate}:
            continue
        try:
            function = create(trunk, cache)
        except MissingInputError as error:
            reasons.append(str(error))
            continue
        version = __version__ if candidate == "builtin" else version_of(candidate) or ""
        return PerceptualMetric(function, candidate, version, "")
    return _unavailable_metric(reasons[0])  # that of the backend that `auto` prefers


@dataclass(frozen=True)
class Unavailable:
    """A metric that returns one reason for every image."""

    reason: str

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:  # noqa: ARG002
        """See `ctsr.metrics.MetricFunction`."""
        return (MetricValue(None, self.reason),) * len(image)


def _unavailable_metric(reason: str) -> PerceptualMetric:
    return PerceptualMetric(Unavailable(reason), "none", "", reason)


# This package's implementations


def _builtin_lpips(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:
    features, heads = _fetched(cache, TRUNKS[trunk], f"lpips-{trunk}")
    return LPIPS(Trunk(TRUNKS[trunk], features), heads)


def _builtin_niqe(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:  # noqa: ARG001
    (model,) = _fetched(cache, "niqe")
    return NIQE(model)


def _fetched(cache: Path | None, *names: str) -> list[dict[str, Tensor]]:
    """Weights from our cache.

    Raises:
        MissingInputError: one is missing; the message is the command that fetches them all.
    """
    try:
        return [load_weights(name, cache) for name in names]
    except MissingInputError as error:
        raise MissingInputError(f"weights not fetched (ctsr weights fetch {' '.join(names)})") from error


# Implementations by packages


@dataclass(frozen=True)
class _PackageMetric:
    """A metric of a package, called for one image at a time; a reason replaces an exception."""

    package: Package
    compute: Callable[[Tensor, Tensor], Any]
    channels: int
    """Number of equal channels that the package expects of a grey image."""
    unsuitable: Callable[[Tensor], str]
    """The reason not to pass this image to the package, or an empty text."""
    refused: str = ""
    """The meaning of an exception or of a result that is not finite; the package's message when empty."""

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:
        """See `ctsr.metrics.MetricFunction`."""
        references = self._prepared(reference.expand(len(image), -1, -1, -1))
        pairs = zip(image, self._prepared(image), references, strict=True)
        return tuple(self._value(grey, ours[None], theirs[None]) for grey, ours, theirs in pairs)

    def _prepared(self, image: Tensor) -> Tensor:
        return image.detach().cpu().float().expand(-1, self.channels, -1, -1)

    def _value(self, grey: Tensor, image: Tensor, reference: Tensor) -> MetricValue:
        if not bool(grey.isfinite().all()):
            return MetricValue(None, NOT_FINITE)
        if reason := self.unsuitable(grey):
            return MetricValue(None, reason)
        try:
            with torch.inference_mode():
                (value,) = values([float(self.compute(image, reference))])
        except REFUSALS as error:
            return MetricValue(None, self.refused or f"{self.package}: {one_line(error)}")
        return MetricValue(None, self.refused) if value.value is None and self.refused else value


def _pyiqa_lpips(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:
    pyiqa = _pyiqa()
    convolutions, heads = _fetched_or_downloaded(cache, TRUNKS[trunk], f"lpips-{trunk}")
    with _untrained_trunks():
        metric = pyiqa.create_metric("lpips", device=torch.device("cpu"), net=trunk, pretrained=False)
    _load_lpips(metric.net, convolutions, heads)
    return _PackageMetric("pyiqa", metric, 3, partial(_too_small, SMALLEST))


def _lpips_lpips(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:
    lpips = _installed("lpips")
    (convolutions,) = _fetched_or_downloaded(cache, TRUNKS[trunk])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, about how lpips asks for an untrained trunk
        metric = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False).eval()
    _load_lpips(metric, convolutions, {})  # the package brings its own heads
    return _PackageMetric("lpips", partial(metric, normalize=True), 3, partial(_too_small, SMALLEST))


def _pyiqa_niqe(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:  # noqa: ARG001
    pyiqa = _pyiqa()
    (model,) = _fetched_or_downloaded(cache, "niqe")
    with tempfile.TemporaryDirectory(prefix="ctsr-niqe-") as folder:
        file = Path(folder) / "model.mat"
        savemat(file, {"mu_prisparam": model["mean"].numpy(), "cov_prisparam": model["covariance"].numpy()})
        metric = pyiqa.create_metric("niqe", device=torch.device("cpu"), pretrained_model_path=str(file))

    def unsuitable(image: Tensor) -> str:
        return TOO_SMALL if min(image.shape[-2:]) < BLOCK else TOO_FLAT if _is_uniform(image) else ""

    return _PackageMetric("pyiqa", lambda image, _: metric(image), 1, unsuitable, refused=TOO_FLAT)


def _pyiqa_ma(trunk: LpipsTrunk, cache: Path | None) -> MetricFunction:  # noqa: ARG001
    """MA, that is NRQM (Ma, Yang, Yang and Yang, CVIU 158:1, 2017); see `MA_CPU_SECONDS`."""
    pyiqa = _pyiqa()
    file = _hub() / MA_FILE
    if not file.is_file():
        raise MissingInputError(f"{file.name} is not in {file.parent}; {MA_ADVICE}")
    metric = pyiqa.create_metric("nrqm", device=torch.device("cpu"), pretrained_model_path=str(file))

    def unsuitable(image: Tensor) -> str:
        return UNIFORM if _is_uniform(image) else _too_small(MA_SMALLEST, image)

    # Three channels: pyiqa's NRQM does not scale an image of one channel to 0 … 255, and its score means nothing.
    return _PackageMetric("pyiqa", lambda image, _: metric(image), 3, unsuitable)


def _load_lpips(network: Any, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
    """Load weights into an LPIPS network; both packages keep the trunk in `net`, with torchvision's numbers."""
    convolutions = {key.removeprefix("features."): value for key, value in trunk.items()}
    state = {key: convolutions[key.partition(".")[2]] for key in network.net.state_dict()}
    network.net.load_state_dict(state)
    for name, head in heads.items():
        network.get_parameter(f"{name}.model.1.weight").data.copy_(head.view(1, -1, 1, 1))


@contextmanager
def _untrained_trunks() -> Generator[None]:
    """Make torchvision create untrained trunks: pyiqa always asks for trained ones, which would be downloaded."""
    models = importlib.import_module("torchvision.models")
    with ExitStack() as stack:
        for name in ("alexnet", "vgg16"):
            stack.enter_context(patch.object(models, name, partial(_untrained, getattr(models, name))))
        yield


def _untrained(create: Callable[..., Any], **_trained: Any) -> Any:
    return create(weights=None)


def _fetched_or_downloaded(cache: Path | None, *names: str) -> list[dict[str, Tensor]]:
    """Weights from our cache, or else from the files that the packages have downloaded.

    Raises:
        MissingInputError: they are in neither place.
    """
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


def _is_uniform(image: Tensor) -> bool:
    return bool(image.amin() == image.amax())


def _too_small(side: int, image: Tensor) -> str:
    return f"smaller than {side}×{side}" if min(image.shape[-2:]) < side else ""


def _pyiqa() -> Any:
    module = _installed("pyiqa")
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    return module


def _installed(package: Package) -> ModuleType:
    """Import a package when it is needed: pyiqa takes seconds.

    Raises:
        MissingInputError: it is not installed, or cannot be imported.
    """
    if version_of(package) is None:
        raise MissingInputError(f"{package} is not installed (pip install '.[pyiqa]' in the source folder of ctsr)")
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError, OSError) as error:  # torch and torchvision that do not fit raise RuntimeError
        raise MissingInputError(f"{package} is installed, but its import fails: {one_line(error)}") from error


def version_of(package: Package) -> str | None:
    """The version that is installed, None where there is none; the package is not imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


IMPLEMENTATIONS: Mapping[PerceptualName, Mapping[Backend, Callable[[LpipsTrunk, Path | None], MetricFunction]]] = {
    "LPIPS": {"builtin": _builtin_lpips, "pyiqa": _pyiqa_lpips, "lpips": _lpips_lpips},
    "NIQE": {"builtin": _builtin_niqe, "pyiqa": _pyiqa_niqe},
    "MA": {"pyiqa": _pyiqa_ma},
}
"""Metric → backend → constructor, in order of preference; it raises MissingInputError where something is missing."""
