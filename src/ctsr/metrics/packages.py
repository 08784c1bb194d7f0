"""LPIPS, NIQE and MA as the packages `pyiqa` and `lpips` compute them; nothing is downloaded by what is here.

Both packages would fetch what they miss when a metric is made. Here they are given tensors or files that are at hand.
"""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias
from unittest.mock import patch

import torch
from scipy.io import savemat
from torch import Tensor

from ctsr.errors import MissingInputError
from ctsr.metrics.lpips import SMALLEST
from ctsr.metrics.niqe import BLOCK, TOO_FLAT, TOO_SMALL
from ctsr.metrics.value import NOT_FINITE, MetricValue, PerImage, values
from ctsr.text import one_line

__all__ = [
    "MA_CPU_SECONDS",
    "MA_SMALLEST",
    "Net",
    "Package",
    "lpips_lpips",
    "pyiqa_lpips",
    "pyiqa_ma",
    "pyiqa_niqe",
    "version_of",
]

Net: TypeAlias = Literal["alex", "vgg"]
Package: TypeAlias = Literal["pyiqa", "lpips"]

MA_CPU_SECONDS = 25.0
"""What MA takes for a slice of 512² pixels, about, to say how long an evaluation will take; it grows with them."""
MA_SMALLEST = 64
"""Pixels on a side below which the pyramid of MA's features has scales of no pixels."""
UNIFORM = "uniform"

# What the packages raise for images that they do not foresee.
REFUSALS = (RuntimeError, AssertionError, IndexError, ValueError)


def version_of(package: Package) -> str | None:
    """The version that is installed, None where there is none; the package is not imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class _Packaged:
    """A metric of a package: one image at a time, and a reason instead of an exception."""

    package: Package
    compute: Callable[[Tensor, Tensor], Any]
    channels: int
    """How many equal ones the package wants a grey image in."""
    why_not: Callable[[Tensor], str]
    """A reason not to ask the package for this image, or nothing."""
    refused: str = ""
    """What a refusal, or a result that is no number, means; the package's own words when left out."""

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:
        """The value of each image; see `ctsr.metrics.MetricFunction`."""
        references = reference.expand(len(image), -1, -1, -1)
        pairs = zip(self._prepared(image), self._prepared(references), image, strict=True)
        return tuple(
            self._judged(one[None], its[None], _not_finite(grey) or self.why_not(grey)) for one, its, grey in pairs
        )

    def _prepared(self, image: Tensor) -> Tensor:
        return image.detach().cpu().float().expand(-1, self.channels, -1, -1)

    def _judged(self, image: Tensor, reference: Tensor, reason: str) -> MetricValue:
        if reason:
            return MetricValue(None, reason)
        try:
            with torch.inference_mode():
                (value,) = values([float(self.compute(image, reference))])
        except REFUSALS as error:
            return MetricValue(None, self.refused or f"{self.package}: {one_line(error)}")
        return MetricValue(None, self.refused) if value.value is None and self.refused else value


def pyiqa_lpips(net: Net, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> _Packaged:
    """LPIPS of `pyiqa`.

    Args:
        net: AlexNet or VGG16.
        trunk: its convolutions under torchvision's keys.
        heads: `lin0` … `lin4`.

    Raises:
        MissingInputError: the package cannot be imported.
    """
    pyiqa = _pyiqa()
    with _empty_trunks():
        metric = pyiqa.create_metric("lpips", device=torch.device("cpu"), net=net, pretrained=False)
    _fill(metric.net, trunk, heads)
    return _Packaged("pyiqa", metric, 3, _too_small_for(SMALLEST))


def lpips_lpips(net: Net, trunk: Mapping[str, Tensor]) -> _Packaged:
    """LPIPS of the package `lpips`, which brings its own heads.

    Args:
        net: AlexNet or VGG16.
        trunk: its convolutions under torchvision's keys.

    Raises:
        MissingInputError: the package cannot be imported.
    """
    lpips = _imported("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, at how lpips asks for an untrained trunk
        metric = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    _fill(metric, trunk, {})

    def compute(image: Tensor, reference: Tensor) -> Tensor:
        return metric(image, reference, normalize=True)

    return _Packaged("lpips", compute, 3, _too_small_for(SMALLEST))


def pyiqa_niqe(model: Mapping[str, Tensor]) -> _Packaged:
    """NIQE of `pyiqa`.

    Args:
        model: as of `ctsr.metrics.niqe.NIQE`.

    Raises:
        MissingInputError: the package cannot be imported.
    """
    pyiqa = _pyiqa()
    with tempfile.TemporaryDirectory(prefix="ctsr-niqe-") as folder:
        file = Path(folder) / "model.mat"
        savemat(file, {"mu_prisparam": model["mean"].numpy(), "cov_prisparam": model["covariance"].numpy()})
        metric = pyiqa.create_metric("niqe", device=torch.device("cpu"), pretrained_model_path=str(file))

    def compute(image: Tensor, reference: Tensor) -> Tensor:
        del reference
        return metric(image)

    def why_not(image: Tensor) -> str:
        return TOO_SMALL if min(image.shape[-2:]) < BLOCK else TOO_FLAT if _is_uniform(image) else ""

    return _Packaged("pyiqa", compute, 1, why_not, refused=TOO_FLAT)


def pyiqa_ma(file: Path) -> _Packaged:
    """MA, that is NRQM (Ma, Yang, Yang and Yang, CVIU 158:1, 2017), of `pyiqa`: see `MA_CPU_SECONDS`.

    Args:
        file: `NRQM_model.mat`, as pyiqa downloads it.

    Raises:
        MissingInputError: the package cannot be imported.
    """
    metric = _pyiqa().create_metric("nrqm", device=torch.device("cpu"), pretrained_model_path=str(file))

    def compute(image: Tensor, reference: Tensor) -> Tensor:
        del reference
        return metric(image)

    def why_not(image: Tensor) -> str:
        return UNIFORM if _is_uniform(image) else _too_small_for(MA_SMALLEST)(image)

    # Three channels: an image of one is not scaled to 0 … 255 by pyiqa's NRQM, and its score means nothing.
    return _Packaged("pyiqa", compute, 3, why_not)


@contextmanager
def _empty_trunks() -> Generator[None]:
    """Torchvision makes untrained trunks meanwhile: pyiqa orders trained ones, by download, whatever it is told."""
    models = importlib.import_module("torchvision.models")
    with ExitStack() as stack:
        for name in ("alexnet", "vgg16"):
            stack.enter_context(patch.object(models, name, partial(_untrained, getattr(models, name))))
        yield


def _untrained(make: Callable[..., Any], **_trained: Any) -> Any:
    return make(weights=None)


def _fill(network: Any, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
    """Put weights into an LPIPS network: both packages keep the trunk below `net`, numbered as torchvision does."""
    convolutions = {key.removeprefix("features."): value for key, value in trunk.items()}
    state = {key: convolutions[key.partition(".")[2]] for key in network.net.state_dict()}
    network.net.load_state_dict(state)
    for name, head in heads.items():
        network.get_parameter(f"{name}.model.1.weight").data.copy_(head.view(1, -1, 1, 1))


def _not_finite(image: Tensor) -> str:
    return "" if bool(image.isfinite().all()) else NOT_FINITE


def _is_uniform(image: Tensor) -> bool:
    return bool(image.amin() == image.amax())


def _too_small_for(side: int) -> Callable[[Tensor], str]:
    return lambda image: f"smaller than {side}×{side}" if min(image.shape[-2:]) < side else ""


def _pyiqa() -> Any:
    module = _imported("pyiqa")
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    return module


def _imported(package: Package) -> ModuleType:
    """Imported when it is asked for: pyiqa takes seconds."""
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError, OSError) as error:  # torch and torchvision that do not fit raise RuntimeError
        raise MissingInputError(f"{package} is installed, but its import fails: {one_line(error)}") from error
