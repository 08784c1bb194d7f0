"""The learned metrics of an evaluation: computed where their weights are at hand, a reason where they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from ctsr.errors import MissingInputError
from ctsr.features import Trunk
from ctsr.metrics import MetricFunction, MetricValue, PerImage
from ctsr.metrics.lpips import LPIPS
from ctsr.progress import SILENT, Progress
from ctsr.weights import load_weights

__all__ = ["Learned", "LpipsNet", "choose_learned"]

LpipsNet: TypeAlias = Literal["alex", "vgg", "none"]

TRUNK = {"alex": "alexnet", "vgg": "vgg16"}


@dataclass(frozen=True)
class Learned:
    """What computes the metrics that need weights, and what the summary says of it."""

    functions: Mapping[str, MetricFunction]
    """Metric → function; of those that were asked for."""
    said: Mapping[str, Mapping[str, Any]]
    """Metric → backend, version and what else tells how its numbers came about; only of those that are computed."""

    @property
    def pi_kind(self) -> str | None:
        """What PI is made of, None where there is none."""
        if "NIQE" not in self.said:
            return None
        return "ma+niqe" if "MA" in self.said else "niqe"


def choose_learned(
    names: Sequence[str], net: LpipsNet, cache: Path | None = None, *, progress: Progress = SILENT
) -> Learned:
    """Those of LPIPS, MA and NIQE that are among `names`.

    Args:
        names: of the metrics that are to be computed.
        net: trunk of LPIPS: AlexNet, VGG16, or none.
        cache: where fetched weights are kept; the user's cache folder when left out.
        progress: hears how to get weights that are not there: an evaluation without LPIPS is one all the same.
    """
    functions: dict[str, MetricFunction] = {}
    said: dict[str, Mapping[str, Any]] = {}
    if "LPIPS" in names:
        functions["LPIPS"] = _lpips(net, cache, progress)
    for name in ("MA", "NIQE"):
        if name in names:
            functions[name] = without("not computed by this version")
    if isinstance(lpips := functions.get("LPIPS"), LPIPS):
        said["LPIPS"] = {"backend": "builtin", "version": "0.1", "trunk": lpips.trunk.name}
    return Learned(functions, said)


def _lpips(net: LpipsNet, cache: Path | None, progress: Progress) -> MetricFunction:
    if net == "none":
        return without("not asked for")
    names = (TRUNK[net], f"lpips-{net}")
    try:
        trunk, heads = (load_weights(name, cache) for name in names)
    except MissingInputError:
        advice = f"ctsr weights fetch {' '.join(names)}"
        progress.note(f"LPIPS is left out: its weights are not here; `{advice}` brings them")
        return without(f"weights not fetched ({advice})")
    return LPIPS(Trunk(TRUNK[net], trunk), heads)


def without(reason: str) -> MetricFunction:
    """A metric that has a reason for every image, and no number."""

    def reasons(image: Tensor, reference: Tensor) -> PerImage:
        del reference
        return (MetricValue(None, reason),) * len(image)

    return reasons
