"""The learned metric of an evaluation: LPIPS where its weights are at hand, a reason where they are not."""

from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor

from ctsr.errors import MissingInputError
from ctsr.features import Trunk
from ctsr.metrics import MetricFunction, MetricValue, PerImage
from ctsr.metrics.lpips import LPIPS
from ctsr.progress import SILENT, Progress
from ctsr.weights import load_weights

__all__ = ["LpipsNet", "choose_lpips", "lpips_part", "without"]

LpipsNet: TypeAlias = Literal["alex", "vgg", "none"]

TRUNK = {"alex": "alexnet", "vgg": "vgg16"}


def choose_lpips(net: LpipsNet, cache: Path | None = None, *, progress: Progress = SILENT) -> MetricFunction:
    """LPIPS on this trunk.

    Args:
        net: AlexNet, VGG16, or none.
        cache: where fetched weights are kept; the user's cache folder when left out.
        progress: hears how to get weights that are not there: an evaluation without LPIPS is one all the same.
    """
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


def lpips_part(lpips: MetricFunction) -> dict[str, str] | None:
    """What `summary.json` says of how LPIPS was computed; None where it was not."""
    if not isinstance(lpips, LPIPS):
        return None
    return {"backend": "builtin", "version": "0.1", "trunk": lpips.trunk.name}


def without(reason: str) -> MetricFunction:
    """A metric that has a reason for every image, and no number."""

    def reasons(image: Tensor, reference: Tensor) -> PerImage:
        del reference
        return (MetricValue(None, reason),) * len(image)

    return reasons
