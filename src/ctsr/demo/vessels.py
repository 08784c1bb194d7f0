"""Branching trees that fill an organ: pulmonary arteries, veins and airways, the vessels of the liver."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.demo.shapes import Segments
from ctsr.volume import Vector

__all__ = ["Growth", "grow_tree"]

Points: TypeAlias = npt.NDArray[np.float64]
"""Positions in mm; shape (n, 3)."""

_STEP = 5.0
_MURRAY = 2.7


@dataclass(frozen=True)
class Growth:
    """How thick a tree is: the radius of its twigs and the most its trunk may have, mm."""

    twig: float
    trunk: float


def grow_tree(root: Vector, targets: Points, growth: Growth) -> Segments:
    """A tree from `root` that reaches every target, nearer ones first, each from the closest branch so far.

    A branch leaves its parent along the parent's direction and bends towards the target. Radii follow Murray's law
    with the exponent 2.7 found in lungs: the trunk's radius to that power is the sum over its twigs.
    """
    targets = targets[np.argsort(np.linalg.norm(targets - np.array(root), axis=1))]
    room = 1 + sum(2 + int(d / _STEP) for d in np.linalg.norm(targets - np.array(root), axis=1))
    nodes, headings = np.zeros((room, 3)), np.zeros((room, 3))
    parents = np.full(room, -1)
    nodes[0] = root
    count = 1
    for target in targets:
        start = int(np.argmin(((nodes[:count] - target) ** 2).sum(axis=1)))
        path = _bend(nodes[start], headings[start], target)
        ends = count + len(path)
        nodes[count:ends] = path
        parents[count:ends] = [start, *range(count, ends - 1)]
        headings[count:ends] = np.diff(np.vstack([nodes[start], path]), axis=0)
        count = ends
    radii = _murray(parents[:count], growth)
    child, parent = np.arange(1, count), parents[1:count]
    return np.column_stack([nodes[parent], radii[parent].clip(None, 1.25 * radii[child]), nodes[child], radii[child]])


def _bend(start: Points, heading: Points, target: Points) -> Points:
    """Points every few mm on the quadratic Bézier curve from `start`, first along `heading`, to `target`."""
    span = float(np.linalg.norm(target - start))
    length = float(np.linalg.norm(heading))
    control = start + heading * (0.4 * span / length) if length > 0 else (start + target) / 2
    t = np.linspace(0, 1, 2 + int(span / _STEP))[1:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * target


def _murray(parents: npt.NDArray[np.int_], growth: Growth) -> npt.NDArray[np.float64]:
    """The radius at every node from the number of twigs beyond it; children always come after their parents."""
    twigs = np.zeros(len(parents))
    twigs[np.setdiff1d(np.arange(len(parents)), parents)] = 1
    for node in range(len(parents) - 1, 0, -1):
        twigs[parents[node]] += twigs[node]
    return (growth.twig * twigs ** (1 / _MURRAY)).clip(None, growth.trunk)
