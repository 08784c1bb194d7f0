"""Exams, phases, passes and reconstructions that share one series UID, told apart.

Perfusion, gated hearts, arterial and venous passes and reconstructions with several kernels are often sent under one
SeriesInstanceUID. What belongs together is decided by the attributes that PS3.3 gives such images, and only where
positions repeat or two stacks lie within one another: one acquisition step by step has an AcquisitionNumber for every
position, and is one series. Exams are told apart before that, and wherever their slices lie: a series has one study and
one frame of reference (PS3.3 A.1.2), and only a poor anonymiser gives several exams one SeriesInstanceUID, or none.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ctsr.dicom.header import PHASES, AxialImage, RejectedImage
from ctsr.volume import SMALLEST_STEP_MM, spread

STACKS = PHASES[: PHASES.index("TriggerTime")]
"""Attributes that name a whole stack of images, whatever the time at which each was taken."""
TIMES = PHASES[PHASES.index("TriggerTime") :]
"""Attributes that may differ from image to image within a stack, the likeliest first."""
INSTANCE_NUMBER = "InstanceNumber"
SMALLEST_STACK = 3
"""Images of a stack that lies within another one: fewer have no grid of their own."""
EVEN_WITHIN = 0.1
"""Fraction of a step that slices of a stack within another one may lie off an even grid."""


@dataclass(frozen=True)
class Phase:
    """The images of one exam, phase, pass or reconstruction."""

    name: str
    """What tells it from the others, as `AcquisitionNumber 2`; empty where there is one only."""
    images: list[AxialImage]


def split_exams(images: Sequence[AxialImage]) -> list[Phase]:
    """Divide the images of one series UID by study, then by frame of reference.

    A UID that is missing is not another one: where the others have one value, it is taken for that. Some anonymisers
    give each image a frame of reference of its own, which tells nothing.

    Args:
        images: in any order, which is kept.

    Returns:
        The exams in the order of their UIDs, called by their places in it (`study 1 of 2`): UIDs are not to appear in
        names. All images as one exam with an empty name where nothing tells them apart.
    """
    studies: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.study_uid:
            studies[image.frame_of_reference_uid].add(image.study_uid)

    def study(image: AxialImage) -> str:
        of_frame = studies.get(image.frame_of_reference_uid, set()) if image.frame_of_reference_uid else set()
        return image.study_uid or (next(iter(of_frame)) if len(of_frame) == 1 else "")

    exams: list[Phase] = []
    for exam in _by_uid(images, study, "study"):
        frames = _by_uid(exam.images, lambda image: image.frame_of_reference_uid, "frame of reference")
        if 2 * len(frames) > len(exam.images):
            exams.append(exam)
            continue
        exams += [Phase(", ".join(filter(None, (exam.name, part.name))), part.images) for part in frames]
    return exams


def refused_of(images: Sequence[AxialImage], refused: Iterable[RejectedImage]) -> list[RejectedImage]:
    """Those of the refused images that may be of the same exam."""
    studies = {image.study_uid for image in images} - {""}
    same = (image for image in refused if image.series_uid == images[0].series_uid)
    return [image for image in same if not studies or image.study_uid in {"", *studies}]


def _by_uid(images: Sequence[AxialImage], uid_of: Callable[[AxialImage], str], what: str) -> list[Phase]:
    parts: dict[str, list[AxialImage]] = defaultdict(list)
    for image in images:
        parts[uid_of(image)].append(image)
    if len([uid for uid in parts if uid]) < 2:
        return [Phase("", list(images))]
    ranks = enumerate(sorted(parts), start=1)
    return [Phase(f"{what} {rank} of {len(parts)}", parts[uid]) for rank, uid in ranks]


def split_phases(images: list[AxialImage]) -> list[Phase]:
    """Divide the images of one UID and geometry into stacks that hold each position once.

    In this order: by the value of one attribute, by those of two, by the rank of a time or number among the images at
    one position, which must then be equally many everywhere.

    Args:
        images: in order along the normal.

    Returns:
        The phases in the order of their values; all images as one phase where there are not several stacks, or where
        nothing tells them apart.
    """
    places = _places(images)
    most = max(Counter(places).values())
    if most == 1:
        return _stacks_in_each_other(images) or [Phase("", images)]
    for count in (1, 2):
        for names in combinations((*STACKS, *TIMES), count):
            parts = _by_value(images, names)
            if 1 < len(parts) <= 2 * most and all(_is_stack(part) for part in parts.values()):
                return _phases(parts, names)
    return _by_rank(images, places, most) or [Phase("", images)]


def _places(images: Sequence[AxialImage]) -> list[int]:
    """The number of each image's position along the normal, counted from 0."""
    along = spread([image.slice.position for image in images], images[0].orientation).along
    return np.cumsum(np.diff(along, prepend=along[0]) > SMALLEST_STEP_MM).tolist()


def _value(image: AxialImage, name: str) -> str:
    if name == INSTANCE_NUMBER:
        return "" if image.slice.instance_number is None else str(image.slice.instance_number)
    return image.phase_values[PHASES.index(name)]


def _by_value(images: Sequence[AxialImage], names: Sequence[str]) -> dict[tuple[str, ...], list[AxialImage]]:
    """Images by their values of `names`; empty where one has none."""
    parts: dict[tuple[str, ...], list[AxialImage]] = defaultdict(list)
    for image in images:
        values = tuple(_value(image, name) for name in names)
        if not all(values):
            return {}
        parts[values].append(image)
    return parts


def _is_stack(images: Sequence[AxialImage]) -> bool:
    """Whether no position repeats."""
    return len(set(_places(images))) == len(images)


def _phases(parts: dict[tuple[str, ...], list[AxialImage]], names: Sequence[str]) -> list[Phase]:
    telling = [i for i, values in enumerate(zip(*parts, strict=True)) if len(set(values)) > 1]
    phases: list[Phase] = []
    for values in sorted(parts, key=lambda values: [_sort_key(value) for value in values]):
        words = [f"{names[i]} {values[i]}" for i in telling]
        phases.append(Phase(", ".join(words), parts[values]))
    return phases


def _stacks_in_each_other(images: list[AxialImage]) -> list[Phase]:
    """Stacks whose positions differ, one in the gaps of the other; none where the images are one stack."""
    for name in STACKS:
        parts = _by_value(images, (name,))
        if len(parts) < 2 or not all(_is_even(part) for part in parts.values()):
            continue
        if any(_overlap(*pair) for pair in combinations(parts.values(), 2)):
            return _phases(parts, (name,))
    return []


def _along(images: Sequence[AxialImage]) -> list[float]:
    return spread([image.slice.position for image in images], images[0].orientation).along.tolist()


def _is_even(images: Sequence[AxialImage]) -> bool:
    if len(images) < SMALLEST_STACK:
        return False
    steps = np.diff(_along(images))
    usual = float(np.median(steps))
    return bool(np.abs(steps - usual).max() <= EVEN_WITHIN * usual)


def _overlap(first: Sequence[AxialImage], second: Sequence[AxialImage]) -> bool:
    """Whether more than half of one stack lies within the other: passes that follow each other only touch."""
    a, b = _along(first), _along(second)
    shared = min(a[-1], b[-1]) - max(a[0], b[0])
    return shared > min(a[-1] - a[0], b[-1] - b[0]) / 2


def _by_rank(images: Sequence[AxialImage], places: Sequence[int], most: int) -> list[Phase]:
    """The first, second … of the images at each position; none where these are not equally many, or cannot be ranked.

    Times differ from image to image; so do instance numbers.
    """
    if set(Counter(places).values()) != {most} or places[-1] == 0:
        return []
    at_place: dict[int, list[AxialImage]] = defaultdict(list)
    for place, image in zip(places, images, strict=True):
        at_place[place].append(image)
    for name in (*TIMES, INSTANCE_NUMBER):
        ranked = [_ranked(here, name) for here in at_place.values()]
        if all(ranked):
            stacks = [list(images_of_rank) for images_of_rank in zip(*ranked, strict=True)]
            return [Phase(f"{rank} of {most} by {name}", stack) for rank, stack in enumerate(stacks, start=1)]
    return []


def _ranked(images: Sequence[AxialImage], name: str) -> list[AxialImage]:
    """Images by a number; none where one has no such number, or two have the same."""
    by_number = {_sort_key(_value(image, name))[0]: image for image in images}
    if len(by_number) < len(images) or math.inf in by_number:
        return []
    return [by_number[number] for number in sorted(by_number)]


def _sort_key(value: str) -> tuple[float, str]:
    """Numbers by size, before everything else by letters."""
    try:
        number = float(value)
    except ValueError:
        return math.inf, value
    return (number if math.isfinite(number) else math.inf), value
