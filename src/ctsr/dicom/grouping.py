"""From the files of one patient to series: grouped, ordered along the normal, and their defects named."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeAlias

from ctsr.dicom.defect_detection import find_defects, slice_step
from ctsr.dicom.header import AxialImage, FileContents, NotCT, RejectedImage
from ctsr.geometry import spread
from ctsr.series import DefectKind, Excluded, GeometryKey, Series, SeriesHeader

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
        for one in found:
            if isinstance(one, AxialImage):
                images.append(one)
            else:
                refused.append(one)
    kept, copies = _without_copies(images)
    return GroupedFiles(_series(kept, refused, patient_id), _excluded([*refused, *copies]), ignored)


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


def _series(images: Iterable[AxialImage], refused: Sequence[RejectedImage], patient_id: str) -> tuple[Series, ...]:
    groups: dict[GroupKey, list[AxialImage]] = defaultdict(list)
    for image in images:
        groups[_key(image)].append(image)
    series: list[Series] = []
    for key in sorted(groups):
        others = [group[0] for other, group in groups.items() if other[0] == key[0] and other != key]
        absent = [one for one in refused if one.series_uid == key[0]]
        series.append(_one_series(_ordered(groups[key]), others, absent, patient_id))
    return tuple(series)


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
    for one in refused:
        # Two broken files without a readable UID have nothing in common.
        groups[one.series_uid or str(one.path), one.reason].append(one)
    return tuple(
        Excluded(
            path=ones[0].path if len(ones) == 1 else Path(os.path.commonpath([one.path for one in ones])),
            reason=reason,
            num_slices=len(ones),
            series_uid=ones[0].series_uid,
            failed=any(one.kind in {DefectKind.UNREADABLE_SLICE, DefectKind.MISSING_GEOMETRY} for one in ones),
        )
        for (_, reason), ones in sorted(groups.items())
    )
