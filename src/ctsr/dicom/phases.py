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
from ctsr.hashing import PERSON, person_traits
from ctsr.volume import SMALLEST_STEP_MM, spread

STACKS = PHASES[: PHASES.index("TriggerTime")]
"""Attributes that name a whole stack of images, whatever the time at which each was taken."""
TIMES = PHASES[PHASES.index("TriggerTime") :]
"""Attributes that may differ from image to image within a stack, the likeliest first."""
INSTANCE_NUMBER = "InstanceNumber"
SMALLEST_STACK = 3
"""Images of a stack that lies within another one: fewer have no grid of their own."""
MOST_STACKS = 3
"""Stacks beside one another that are told apart: more are steps of one acquisition."""
EVEN_WITHIN = 0.1
"""Fraction of a step that slices of a stack within another one may lie off an even grid, and by which the steps of two
stacks differ."""
WRITTEN_ANEW = {"ContentTime"}
"""Attributes that programs may set when they copy an image."""


@dataclass(frozen=True)
class Phase:
    """The images of one exam, phase, pass or reconstruction."""

    name: str
    """What tells it from the others, as `AcquisitionNumber 2`; empty where there is one only."""
    images: list[AxialImage]


def split_exams(images: Sequence[AxialImage]) -> list[Phase]:
    """Divide the images of one series UID by study, by frame of reference, then by patient.

    A UID or a PatientID that is missing is not another one: where the others have one value, it is taken for that. Some
    anonymisers give each image a frame of reference of its own, which tells nothing; some give all patients the same
    UIDs.

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

    exams = _by_uid(images, study, "study")
    for divide in (_frames_of_reference, _people):
        exams = [_named(exam, part) for exam in exams for part in divide(exam.images)]
    return exams


def _named(whole: Phase, part: Phase) -> Phase:
    return Phase(", ".join(filter(None, (whole.name, part.name))), part.images)


def _frames_of_reference(images: Sequence[AxialImage]) -> list[Phase]:
    frames = _by_uid(images, lambda image: image.frame_of_reference_uid, "frame of reference")
    return frames if 2 * len(frames) <= len(images) else [Phase("", list(images))]


def _people(images: Sequence[AxialImage]) -> list[Phase]:
    """Images by the first of PatientID, birth date and sex that has several values."""
    for trait in range(len(PERSON)):
        people = _by_uid(images, lambda image, trait=trait: person_traits(image.identities)[trait], "patient")
        if 1 < len(people) <= max(2, len(images) / 2):
            return people
    return [Phase("", list(images))]


def without_copies(images: Iterable[AxialImage]) -> tuple[list[AxialImage], list[RejectedImage]]:
    """One file of those that hold the same image: same SOP Instance UID, position and geometry.

    Where UIDs are not unique, as some anonymisers leave them, files may still be of other phases.
    """
    kept: dict[object, list[AxialImage]] = defaultdict(list)
    copies: list[RejectedImage] = []
    for image in images:
        # Without a UID, only what is equal in everything could be a copy, and two files never are.
        place = (image.slice.identity, image.slice.position, image.series_uid, image.geometry_key)
        earlier = kept[place if image.slice.sop_instance_uid else image]
        if all(_is_other_phase(image, other) for other in earlier):
            earlier.append(image)
        else:
            copies.append(
                RejectedImage(image.slice.path, "a copy: its SOP Instance UID was met before", image.series_uid)
            )
    return [image for same in kept.values() for image in same], copies


def _is_other_phase(image: AxialImage, other: AxialImage) -> bool:
    """Whether two images of one UID and place differ in what tells phases apart, where both have it."""
    names = (*(name for name in PHASES if name not in WRITTEN_ANEW), INSTANCE_NUMBER)
    values = ((_sort_key(_value(image, name)), _sort_key(_value(other, name))) for name in names)
    # Programs write numbers anew, with more digits or fewer.
    return any(a[0] != b[0] or (a[0] == math.inf and a[1] != b[1]) for a, b in values if a[1] and b[1])


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

    In this order: by the value of one attribute, by those of two, by the multi-frame object, by the rank of a time or
    number among the images at one position, which must then be equally many everywhere.

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
    return _by_object(images, most) or _by_rank(images, places, most) or [Phase("", images)]


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
    """Stacks whose positions differ, one in the gaps of the other or beside it; none where the images are one stack.

    Of images that lie unevenly, stacks with a grid of their own are told apart that reach into one another or have
    slices at other distances: a pass in slices of 2.5 mm and one in slices of 5 mm.
    """
    divisions = {name: _by_value(images, (name,)) for name in STACKS}
    divisions = {name: parts for name, parts in divisions.items() if len(parts) > 1}
    for name, parts in divisions.items():
        pairs = combinations(parts.values(), 2)
        if all(map(_is_even, parts.values())) and any(_shared(*pair) > _shorter(*pair) / 2 for pair in pairs):
            return _phases(parts, (name,))
    if _is_even(images):
        return []
    # Each step of an acquisition may have a number of its own: the attribute that divides least is what is meant.
    for name, parts in sorted(divisions.items(), key=lambda division: len(division[1])):
        pairs = combinations(parts.values(), 2)
        if (
            len(parts) <= MOST_STACKS
            and all(map(_is_grid, parts.values()))
            and any(_are_apart(*pair) for pair in pairs)
        ):
            return _phases(parts, (name,))
    return []


def _along(images: Sequence[AxialImage]) -> list[float]:
    return spread([image.slice.position for image in images], images[0].orientation).along.tolist()


def _step(images: Sequence[AxialImage]) -> float:
    return float(np.median(np.diff(_along(images))))


def _is_even(images: Sequence[AxialImage]) -> bool:
    if len(images) < SMALLEST_STACK:
        return False
    steps, usual = np.diff(_along(images)), _step(images)
    return bool(np.abs(steps - usual).max() <= EVEN_WITHIN * usual)


def _is_grid(images: Sequence[AxialImage]) -> bool:
    """As `_is_even`, but slices may be missing."""
    if len(images) < SMALLEST_STACK:
        return False
    ratio = np.diff(_along(images)) / _step(images)
    return bool((np.abs(ratio - ratio.round()) <= EVEN_WITHIN).all() and ratio.round().min() > 0)


def _are_apart(first: Sequence[AxialImage], second: Sequence[AxialImage]) -> bool:
    a, b = _step(first), _step(second)
    return abs(a - b) > EVEN_WITHIN * max(a, b) or _shared(first, second) > min(a, b) * (1 + EVEN_WITHIN)


def _shared(first: Sequence[AxialImage], second: Sequence[AxialImage]) -> float:
    """Length of what two stacks both reach over, mm; passes that follow each other only touch."""
    a, b = _along(first), _along(second)
    return min(a[-1], b[-1]) - max(a[0], b[0])


def _shorter(first: Sequence[AxialImage], second: Sequence[AxialImage]) -> float:
    a, b = _along(first), _along(second)
    return min(a[-1] - a[0], b[-1] - b[0])


def _by_object(images: Sequence[AxialImage], most: int) -> list[Phase]:
    """Stacks that multi-frame objects are; none where these do not hold each position once."""
    parts: dict[str, list[AxialImage]] = defaultdict(list)
    for image in images:
        parts["" if image.slice.frame is None else str(image.slice.path)].append(image)
    if not (1 < len(parts) <= most and all(map(_is_stack, parts.values()))):
        return []
    order = sorted(parts.values(), key=lambda part: (part[0].slice.sop_instance_uid, part[0].slice.path))
    return [Phase(f"object {rank} of {len(order)}", part) for rank, part in enumerate(order, start=1)]


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
