"""The result of a metric for one image: a finite number, or the reason why there is none."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from ctsr.errors import DomainError

NOT_FINITE = "not finite"
"""The reason where an image, and so its metric, holds NaN or infinity."""


@dataclass(frozen=True)
class MetricValue:
    """A finite number, or None with the reason why it could not be computed: never NaN, never a 0 that means "none".

    Raises:
        DomainError: a number that is not finite; both or neither of value and reason.
    """

    value: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise DomainError(f"a metric is a finite number or None with a reason, got {self.value}")
        if (self.value is None) != bool(self.reason):
            raise DomainError(f"a metric has a value or a reason, got {self.value} and {self.reason!r}")


PerImage: TypeAlias = tuple[MetricValue, ...]
"""One value for each image of a batch."""


def values(numbers: Iterable[float]) -> PerImage:
    """Numbers as metric values; those that are not finite become None with the reason `NOT_FINITE`."""
    return tuple(MetricValue(n) if math.isfinite(n) else MetricValue(None, NOT_FINITE) for n in map(float, numbers))


def as_pair(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 on the CPU, where sums have a fixed order; a reference of one image serves the whole batch.

    Args:
        image: ``(N, 1, H, W)``.
        reference: ``(N, 1, H, W)`` or ``(1, 1, H, W)``.

    Raises:
        DomainError: the shapes do not fit.
    """
    fits = image.ndim == 4 and image.shape[1:] == reference.shape[1:] and reference.shape[0] in (1, image.shape[0])
    if not fits or image.shape[1] != 1:
        raise DomainError(f"images are (N, 1, H, W), got {tuple(image.shape)} against {tuple(reference.shape)}")
    return image.detach().cpu().double(), reference.detach().cpu().double()
