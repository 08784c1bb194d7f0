"""The learned metrics of an evaluation: computed where their weights are at hand, a reason where they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ctsr.evaluate.backends import Backend, Chosen, Perceptual, choose_metric, without
from ctsr.metrics import MetricFunction
from ctsr.progress import SILENT, Progress

__all__ = ["Learned", "LpipsNet", "choose_learned"]

LpipsNet: TypeAlias = Literal["alex", "vgg", "none"]

OF_NIQE: frozenset[Backend] = frozenset({"auto", "builtin", "pyiqa"})
"""Backends that `--perceptual_backend` may name and that have NIQE; with another one, NIQE is chosen as with auto."""


@dataclass(frozen=True)
class Learned:
    """What computes the metrics that need weights, and what the summary says of it."""

    functions: Mapping[str, MetricFunction]
    """Metric → function; of those that were asked for."""
    said: Mapping[str, Mapping[str, Any]]
    """Metric → backend, version and what else tells how its numbers came about; only of those that are computed."""

    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    """Metric → why it has no value; of those that were asked for and cannot be computed."""

    @property
    def pi_kind(self) -> str | None:
        """What PI is made of, None where there is none."""
        if "NIQE" not in self.said:
            return None
        return "ma+niqe" if "MA" in self.said else "niqe"


def choose_learned(
    names: Sequence[str],
    net: LpipsNet,
    cache: Path | None = None,
    *,
    backend: Backend = "auto",
    progress: Progress = SILENT,
) -> Learned:
    """Those of LPIPS, MA and NIQE that are among `names`.

    Args:
        names: of the metrics that are to be computed.
        net: trunk of LPIPS: AlexNet, VGG16, or none.
        cache: where fetched weights are kept; the user's cache folder when left out.
        backend: who computes LPIPS and NIQE; MA is always pyiqa's.
        progress: hears how to get weights that are not there: an evaluation without LPIPS is one all the same.
    """
    functions: dict[str, MetricFunction] = {}
    said: dict[str, Mapping[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in (one for one in get_args(Perceptual) if one in names):
        if name == "LPIPS" and net == "none":
            functions[name], missing[name] = without("not asked for"), "not asked for"
            continue
        chosen = choose_metric(name, _backend(name, backend), "alex" if net == "none" else net, cache)
        functions[name] = chosen.function
        if chosen.reason:
            missing[name] = chosen.reason
            _tell(name, chosen, backend, progress)
        else:
            trunk = {"trunk": "alexnet" if net == "alex" else "vgg16"} if name == "LPIPS" else {}
            said[name] = {"backend": chosen.backend, "version": chosen.version} | trunk
    return Learned(functions, said, missing)


def _backend(name: Perceptual, backend: Backend) -> Backend:
    """What the user's word means for one metric."""
    match name:
        case "MA":
            return "auto"
        case "NIQE":
            return backend if backend in OF_NIQE else "auto"
        case "LPIPS":
            return backend


def _tell(name: Perceptual, chosen: Chosen, backend: Backend, progress: Progress) -> None:
    """MA is an extra: whoever has not installed it need not hear of it each time."""
    if name != "MA" or "not installed" not in chosen.reason or backend == "pyiqa":
        progress.note(f"{name} is left out: {chosen.reason}")
