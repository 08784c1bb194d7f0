"""Metrics and ROI statistics of what is shown, with the digits that an evaluation writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.hu import HURange, MetricWindow, Window
from ctsr.metrics import MetricValue, of_group
from ctsr.viewer.engine import UnwantedError
from ctsr.viewer.images import PANELS, PanelName, Picture

__all__ = ["METRICS", "Box", "measure", "statistics"]

METRICS = (*of_group("fidelity"), *of_group("hu"))
"""What the table shows: all that needs nothing but the two images."""


@dataclass(frozen=True)
class Box:
    """A rectangle of HR pixels."""

    top: int
    left: int
    rows: int
    columns: int

    def cut(self, image: npt.NDArray[Any], factors: tuple[int, int] = (1, 1)) -> npt.NDArray[Any]:
        """What lies inside, in an image whose pixels are so many times larger (rows, columns): those it touches."""
        spans = ((self.top, self.rows, factors[0]), (self.left, self.columns, factors[1]))
        down, across = (slice(start // f, -(-(start + length) // f)) for start, length, f in spans)
        return image[down, across]


def measure(
    pictures: dict[PanelName, Picture],
    methods: Mapping[PanelName, str],
    box: Box | None,
    window: Window,
    hu_range: HURange,
    unwanted: Callable[[], bool],
) -> dict[str, dict[str, MetricValue]]:
    """Every metric of each method whose picture is complete, by the method's name.

    One method after the other: `unwanted` is asked before each. `methods` says which panels are compared with HR, and
    what tables and CSV files call them.

    Raises:
        UnwantedError: it said so.
    """
    reference = pictures["HR"]
    # Where there is no slice, there is nothing to compare.
    rows = ~reference.gaps
    hr_hu = _part(reference.values[rows], _inside(box, rows))
    domain = Domain(MetricWindow(window, "as shown"))
    judge = MetricEvaluator(hu_range, (domain,), METRICS)
    found: dict[str, dict[str, MetricValue]] = {}
    for panel, method in methods.items():
        picture = pictures.get(panel)
        if picture is None or not picture.complete:
            continue
        if unwanted():
            raise UnwantedError
        image = torch.from_numpy(np.ascontiguousarray(_part(picture.values[rows], _inside(box, rows))))
        (found[method],) = judge(image[None, None], hr_hu)[domain]
    return found


def _inside(box: Box | None, rows: npt.NDArray[np.bool_]) -> Box | None:
    """The box in an image that has lost the rows which are not `rows`."""
    if box is None or rows.all():
        return box
    top = int(rows[: box.top].sum())
    return Box(top, box.left, int(rows[box.top : box.top + box.rows].sum()), box.columns)


def _part(image: npt.NDArray[np.float32], box: Box | None) -> npt.NDArray[np.float32]:
    return image if box is None else box.cut(image)


def statistics(
    pictures: dict[PanelName, Picture], box: Box, scale: tuple[int, int], hu_range: HURange
) -> dict[PanelName, tuple[float, float, int]]:
    """Mean and standard deviation in HU, and the number of pixels, inside a rectangle of each panel that is there.

    LR is measured in its own pixels, those that the rectangle touches.

    Args:
        pictures: by panel.
        box: in HR pixels.
        scale: LR pixels are so many times larger, along rows and along columns.
        hu_range: the model's.
    """
    found: dict[PanelName, tuple[float, float, int]] = {}
    for panel in PANELS:
        picture = pictures.get(panel)
        if picture is None:
            continue
        hu = picture.hu(hu_range).astype(np.float64)
        inside = box.cut(hu, scale if panel == "LR" else (1, 1))
        inside = inside[np.isfinite(inside)]
        if inside.size:
            found[panel] = (float(inside.mean()), float(inside.std()), int(inside.size))
    return found
