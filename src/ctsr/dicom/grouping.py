"""From the files of one patient to series: grouped, ordered along the normal, and their defects named."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ctsr.dicom.defect_detection import find_defects, slice_step
from ctsr.dicom.header import AxialImage, FileContents, NotCT, RejectedImage
from ctsr.errors import CtsrError, boundary
from ctsr.series import DefectKind, Excluded, GeometryKey, Series, SeriesHeader
from ctsr.volume import spread

FAILURES = {DefectKind.UNREADABLE_SLICE, DefectKind.MISSING_GEOMETRY}
"""Reasons for which an image is missing from a series it belongs to."""
SPACING_WITHIN = 5e-4
"""Relative difference in pixel spacing within one series: a tenth of a pixel over 200 pixels."""
COSINES_WITHIN = 1e-4
"""Difference in direction cosines within one series."""
GroupKey: TypeAlias = tuple[str, GeometryKey]
"""Series UID, and what slices must share besides."""


@dataclass(frozen=True)
class GroupedFiles:
    """What the DICOM files of one patient are."""

    series: tuple[Series, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    ignored: Counter[str] = field(default_factory=Counter[str])


def group(files: Iterable[FileContents], patient_id: str) -> GroupedFiles:
    """What the files of a patient hold, in the order of their paths, as series."""
    images: list[AxialImage] = []
    refused: list[RejectedImage] = []
    ignored: Counter[str] = Counter()
    for found in files:
        if isinstance(found, NotCT):
            ignored[found.what] += 1
            continue
        for image in found:
            if isinstance(image, AxialImage):
                images.append(image)
            else:
                refused.append(image)
    kept, copies = _without_copies(images)
    series, failures = _series(kept, refused, patient_id)
    return GroupedFiles(series, (*_excluded([*refused, *copies]), *failures), ignored)


def _without_copies(images: Iterable[AxialImage]) -> tuple[list[AxialImage], list[RejectedImage]]:
    """One file of those that hold the same image: same SOP Instance UID, position and geometry."""
    kept: dict[object, AxialImage] = {}
    copies: list[RejectedImage] = []
    for image in images:
        # Without a UID, only what is equal in everything could be a copy, and two files never are.
        name = (image.slice.identity, image.slice.position, _key(image)) if image.slice.sop_instance_uid else image
        earlier = kept.setdefault(name, image)
        if earlier is not image:
            copies.append(
                RejectedImage(image.slice.path, "a copy: its SOP Instance UID was met before", image.series_uid)
            )
    return list(kept.values()), copies


def _key(image: AxialImage) -> GroupKey:
    return image.series_uid, image.geometry_key


def _series(
    images: Iterable[AxialImage], refused: Sequence[RejectedImage], patient_id: str
) -> tuple[tuple[Series, ...], tuple[Excluded, ...]]:
    """The series, and those whose headers cannot be made sense of."""
    groups: dict[GroupKey, list[AxialImage]] = defaultdict(list)
    for image in images:
        groups[_key(image)].append(image)
    groups = _merged(groups)
    series: list[Series] = []
    failures: list[Excluded] = []
    for key in sorted(groups):
        others = [group[0] for other, group in groups.items() if other[0] == key[0] and other != key]
        absent = [image for image in refused if image.series_uid == key[0]]
        first = groups[key][0]
        try:
            with boundary("its headers cannot be used"):
                series.append(_one_series(_ordered(groups[key]), others, absent, patient_id))
        except CtsrError as error:
            failures.append(Excluded(first.slice.path, str(error), len(groups[key]), first.series_uid, failed=True))
    return tuple(series), tuple(failures)


def _merged(groups: dict[GroupKey, list[AxialImage]]) -> dict[GroupKey, list[AxialImage]]:
    """Groups whose geometry differs by less than writers round: rounding parts values that lie on either side."""
    merged: dict[GroupKey, list[AxialImage]] = {}
    for key in sorted(groups):
        image = groups[key][0]
        near = next((other for other in merged if _is_near(image, merged[other][0])), key)
        merged.setdefault(near, []).extend(groups[key])
    return merged


def _is_near(image: AxialImage, other: AxialImage) -> bool:
    form = image.series_uid, image.image_type, image.rows, image.columns
    return (
        form == (other.series_uid, other.image_type, other.rows, other.columns)
        and np.allclose(image.pixel_spacing, other.pixel_spacing, rtol=SPACING_WITHIN, atol=0)
        and np.allclose(image.orientation, other.orientation, rtol=0, atol=COSINES_WITHIN)
    )


def _ordered(images: list[AxialImage]) -> list[AxialImage]:
    """By place along the normal; images at one place by their number, then by their path."""
    along = spread([image.slice.position for image in images], images[0].orientation).along
    # Rounded to a thousandth of a millimetre: images at one place differ by less.
    ranked = sorted(
        zip(along.round(3).tolist(), images, strict=True),
        key=lambda pair: (pair[0], pair[1].slice.instance_number or 0, str(pair[1].slice.path)),
    )
    return [image for _, image in ranked]


def _one_series(
    images: list[AxialImage], others: list[AxialImage], absent: list[RejectedImage], patient_id: str
) -> Series:
    header = {field.name: getattr(images[0], field.name) for field in fields(SeriesHeader)}
    thicknesses = {image.slice.slice_thickness for image in images}
    return Series(
        **header,
        patient_id=patient_id,
        path=_common_path(images),
        slices=tuple(image.slice for image in images),
        slice_thickness=thicknesses.pop() if len(thicknesses) == 1 else None,
        slice_step=slice_step(images),
        defects=find_defects(images, others, absent),
    )


def _common_path(images: Sequence[AxialImage]) -> Path:
    if len({image.slice.path for image in images}) == 1 and images[0].slice.frame is not None:
        return images[0].slice.path
    return Path(os.path.commonpath([image.slice.path.parent for image in images]))


def _excluded(refused: Sequence[RejectedImage]) -> tuple[Excluded, ...]:
    """One entry for the images of a series that share a reason."""
    groups: dict[tuple[str, str], list[RejectedImage]] = defaultdict(list)
    for image in refused:
        # Two broken files without a readable UID have nothing in common.
        groups[image.series_uid or str(image.path), image.reason].append(image)
    return tuple(_excluded_group(groups[key], key[1]) for key in sorted(groups))


def _excluded_group(images: Sequence[RejectedImage], reason: str) -> Excluded:
    paths = [image.path for image in images]
    return Excluded(
        path=paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths)),
        reason=reason,
        num_slices=len(images),
        series_uid=images[0].series_uid,
        failed=any(image.kind in FAILURES for image in images),
    )
