"""From the files of one patient to series: grouped, ordered along the normal, and their defects named."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ctsr.dicom.header import PHASES, AxialImage, FileContents, NotCT, RejectedImage
from ctsr.dicom.phases import refused_of, split_exams, split_phases, without_copies
from ctsr.errors import CtsrError, boundary
from ctsr.reporting import listed
from ctsr.series import (
    LEFT_OUT,
    SINGLE,
    SUPER_RESOLVED,
    Defect,
    DefectKind,
    Excluded,
    GeometryKey,
    Series,
    SeriesHeader,
)
from ctsr.volume import LARGEST_STEP_MM, SMALLEST_STEP_MM, angle_to_axial, spread

SPACING_WITHIN = 5e-4
"""Relative difference in pixel spacing within one series: a tenth of a pixel over 200 pixels."""
COSINES_WITHIN = 1e-4
"""Difference in direction cosines within one series."""
GroupKey: TypeAlias = tuple[str, GeometryKey]
"""Series UID, and what slices must share besides."""

OFF_GRID = 0.05
"""Fraction of a step that slices may lie off an even grid …"""
ROUNDING_MM = 0.06
"""… or in mm, if that is more: many writers round positions to a tenth of a millimetre …"""
ROUNDING = 0.2
"""… but never more than this share of a step: a missing slice moves the others by half a step."""
UNEVEN = 0.1
"""Fraction of the usual step by which an uneven step differs, in a grid that was found to be uneven."""
WHOLE_WITHIN = 0.2
"""Fraction of a step within which a multiple of the usual step is a gap rather than irregular."""
ASIDE_WITHIN = 0.5
"""Fraction of a pixel that slices may lie beside one another."""
TILT_WITHIN = 1.0
"""Degrees by which the header's gantry tilt and the slices' orientation may differ."""
NAMED = 3
"""Places that a message names before it says how many more there are."""

Floats = npt.NDArray[np.float64]


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
    by_uid: dict[str, list[AxialImage]] = defaultdict(list)
    for image in images:
        by_uid[image.series_uid].append(image)
    series: list[Series] = []
    copies, failures = list[RejectedImage](), list[Excluded]()
    for uid in sorted(by_uid):
        exams = split_exams(by_uid[uid])
        names = [exam.name for exam in exams]
        for exam in exams:
            # Within an exam: where SeriesInstanceUIDs are not unique, SOP Instance UIDs need not be, either.
            kept, found_copies = without_copies(exam.images)
            found, failed = _series(kept, refused_of(exam.images, refused), patient_id)
            series += [_of_exam(part, exam.name, names) for part in found]
            copies += found_copies
            failures += failed
    return GroupedFiles(tuple(series), (*_excluded([*refused, *copies]), *failures), ignored)


def find_defects(
    images: Sequence[AxialImage], others: Sequence[AxialImage], refused: Sequence[RejectedImage]
) -> tuple[Defect, ...]:
    """All defects of one series.

    Args:
        images: its slices, in order along the normal.
        others: the first image of each other series that share its UID.
        refused: images of the same UID that are not used.
    """
    found = [
        *_duplicates(images),
        *_spacing(images),
        *_stated_step(images),
        *_alignment(images),
        *_mixed(images[0], others),
        *_absent(refused, DefectKind.MISSING_GEOMETRY, "do not say where they lie"),
        *_absent(refused, DefectKind.UNREADABLE_SLICE, "cannot be read"),
        *_flagged(images),
        *_rescales(images),
        *_settings(images),
    ]
    if len(images) == 1:
        found.append(SINGLE)
    return tuple(found)


def places(images: Sequence[AxialImage]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Distinct places along the normal in mm, ascending, and the first slice at each."""
    along = spread([image.slice.position for image in images], images[0].orientation).along
    first = np.flatnonzero(np.diff(along, prepend=-np.inf) > SMALLEST_STEP_MM)
    return along[first], first


def slice_step(images: Sequence[AxialImage]) -> float | None:
    """Median mm between neighbouring places along the normal; None where there is one place only."""
    along, _ = places(images)
    return float(np.median(np.diff(along))) if len(along) > 1 else None


def _of_exam(series: Series, name: str, names: Sequence[str]) -> Series:
    """A series called after its exam as well, where its UID is that of several."""
    if len(names) == 1:
        return series
    detail = f"one of {len(names)} exams under one series UID, which differ in study, frame of reference or patient: "
    defect = Defect(DefectKind.SEVERAL_EXAMS, detail + listed(names, NAMED))
    phase = ", ".join(filter(None, (name, series.phase)))
    return replace(series, phase=phase, defects=(*series.defects, defect))


def _key(image: AxialImage) -> GroupKey:
    return image.series_uid, image.geometry_key


def _series(
    images: Iterable[AxialImage], refused: Sequence[RejectedImage], patient_id: str
) -> tuple[tuple[Series, ...], tuple[Excluded, ...]]:
    """The series of one exam, and those whose headers cannot be made sense of."""
    groups: dict[GroupKey, list[AxialImage]] = defaultdict(list)
    for image in images:
        groups[_key(image)].append(image)
    groups = _merged(groups)
    series: list[Series] = []
    failures: list[Excluded] = []
    for key in sorted(groups):
        others = [group[0] for other, group in groups.items() if other[0] == key[0] and other != key]
        first = groups[key][0]
        try:
            with boundary("its headers cannot be used"):
                series += _series_of_group(_ordered(groups[key]), others, refused, patient_id)
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


def _series_of_group(
    images: list[AxialImage], others: list[AxialImage], absent: Sequence[RejectedImage], patient_id: str
) -> list[Series]:
    """One series for each phase."""
    phases = split_phases(images)
    series: list[Series] = []
    for phase in phases:
        found = _one_series(phase.images, others, absent, patient_id)
        if len(phases) > 1:
            names = listed([phase.name for phase in phases], NAMED)
            detail = f"one of {len(phases)} phases or reconstructions under one series UID: {names}"
            defect = Defect(DefectKind.SEVERAL_PHASES, detail)
            found = replace(found, phase=phase.name, defects=(*found.defects, defect))
        series.append(found)
    return series


def _one_series(
    images: list[AxialImage], others: list[AxialImage], absent: Sequence[RejectedImage], patient_id: str
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
        failed=any(image.kind in LEFT_OUT for image in images),
    )


def _duplicates(images: Sequence[AxialImage]) -> Iterator[Defect]:
    _, first = places(images)
    if len(first) == len(images):
        return
    groups = [range(start, end) for start, end in zip(first, [*first[1:], len(images)], strict=True)]
    several = [group for group in groups if len(group) > 1]
    counts = {len(group) for group in groups}
    if len(counts) == 1 and len(groups) > 1:
        what = f"{counts.pop()} images at each of {len(groups)} positions"
    else:
        what = "several images at " + listed([_z(images[group[0]]) for group in several], NAMED)
    indices = tuple(index for group in several for index in group)
    yield Defect(DefectKind.DUPLICATE_POSITION, f"{what}, which nothing in their headers tells apart", indices)


def _spacing(images: Sequence[AxialImage]) -> Iterator[Defect]:
    along, first = places(images)
    if len(along) > 1 and (widest := float(np.diff(along).max())) > LARGEST_STEP_MM and _is_even(along):
        detail = f"its slices lie up to {widest:g} mm apart, as in no scan"
        yield Defect(DefectKind.IRREGULAR_SPACING, detail, tuple(first.tolist()))
    if len(along) < 3 or _is_even(along):
        return
    steps = np.diff(along)
    usual = float(np.median(steps))
    ratio = steps / usual
    gaps = (ratio > 1.5) & (np.abs(ratio - ratio.round()) <= WHOLE_WITHIN)
    uneven = (np.abs(ratio - 1) > UNEVEN) & ~gaps
    if gaps.any():
        holes = [
            f"{round(ratio[i]) - 1} between {_between(images, first, i)}"
            for i in np.flatnonzero(gaps).tolist()
        ]  # fmt: skip
        detail = f"slices are missing: {listed(holes, NAMED)} (step {usual:g} mm)"
        yield Defect(DefectKind.GAP, detail, _neighbours(first, gaps))
    if uneven.any():
        places_of = [f"{steps[i]:.3g} mm between {_between(images, first, i)}" for i in np.flatnonzero(uneven).tolist()]
        detail = f"the step is {usual:.3g} mm, but {listed(places_of, NAMED)}"
        yield Defect(DefectKind.IRREGULAR_SPACING, detail, _neighbours(first, uneven))
    if not gaps.any() and not uneven.any():
        detail = f"the step drifts between {steps.min():.3g} and {steps.max():.3g} mm"
        yield Defect(DefectKind.IRREGULAR_SPACING, detail, tuple(first.tolist()))


def _stated_step(images: Sequence[AxialImage]) -> Iterator[Defect]:
    """Where every other slice is missing, the others lie evenly: only the header still tells."""
    stated, step = {image.stated_step for image in images} - {None}, slice_step(images)
    if len(stated) != 1 or step is None:
        return
    (said,) = stated
    _, first = places(images)
    positions = np.array([images[index].slice.position for index in first])
    # Of a tilted gantry, some give what the table moves.
    moved = float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
    if said is not None and min(abs(said - step), abs(said - moved)) > max(OFF_GRID * step, ROUNDING_MM):
        detail = (
            f"SpacingBetweenSlices says {said:g} mm, positions say {step:.4g} mm and are believed: where the header is "
            "right, slices are missing or were moved"
        )
        yield Defect(DefectKind.DOUBTFUL_GEOMETRY, detail, tuple(range(len(images))))


def _alignment(images: Sequence[AxialImage]) -> Iterator[Defect]:
    """A tilted gantry shears the volume; anything else that moves slices sideways breaks it."""
    lie = spread([image.slice.position for image in images], images[0].orientation)
    if len(images) < 2 or np.ptp(lie.along) <= SMALLEST_STEP_MM:
        return
    allowed = ASIDE_WITHIN * min(images[0].pixel_spacing)
    aside = np.linalg.norm(lie.sideways, axis=1)
    tilt = abs(images[0].tilt)
    everyone = tuple(range(len(images)))
    if aside.max() > allowed:
        height = lie.along - lie.along[0]
        slope = height @ lie.sideways / (height @ height)
        if np.linalg.norm(lie.sideways - np.outer(height, slope), axis=1).max() <= allowed:
            angle = math.degrees(math.atan(float(np.linalg.norm(slope))))
            yield Defect(DefectKind.GANTRY_TILT, f"its slices are sheared by a gantry tilt of {angle:.1f}°", everyone)
        else:
            detail = f"its slices lie up to {aside.max():.3g} mm beside one another"
            yield Defect(DefectKind.IRREGULAR_SPACING, detail, everyone)
    elif tilt > TILT_WITHIN and abs(tilt - angle_to_axial(images[0].orientation)) > TILT_WITHIN:
        detail = f"the header tells a gantry tilt of {tilt:g}° that the orientation of the slices does not show"
        yield Defect(DefectKind.GANTRY_TILT, detail, everyone)


def _mixed(image: AxialImage, others: Sequence[AxialImage]) -> Iterator[Defect]:
    differences = {_difference(image, other): None for other in others}
    if differences:
        detail = f"the same series UID also holds slices {listed(list(differences), NAMED)}"
        yield Defect(DefectKind.MIXED_GEOMETRY, detail)


def _difference(image: AxialImage, other: AxialImage) -> str:
    if (image.rows, image.columns) != (other.rows, other.columns):
        return f"of {other.rows}×{other.columns} pixels"
    if image.pixel_spacing != other.pixel_spacing:
        return f"with pixels of {other.pixel_spacing[0]:g}×{other.pixel_spacing[1]:g} mm"
    if image.image_type != other.image_type:
        return f"of image type {'/'.join(other.image_type) or '(none)'}"
    return "of another orientation"


def _absent(refused: Sequence[RejectedImage], kind: DefectKind, what: str) -> Iterator[Defect]:
    names = [image.path.name for image in refused if image.kind is kind]
    if names:
        yield Defect(kind, f"{len(names)} of its images {what}: {listed(names, NAMED)}")


def _flagged(images: Sequence[AxialImage]) -> Iterator[Defect]:
    repeated = Counter(image.slice.identity for image in images)
    flags = (
        (
            DefectKind.MISSING_RESCALE,
            "no usable RescaleSlope and RescaleIntercept (missing, empty, or a slope of 0), so stored values are not "
            "known to be HU",
            [image.slice.rescale_slope is None for image in images],
        ),
        (
            DefectKind.REPEATED_UID,
            "the same SOP Instance UID at different positions",
            [repeated[image.slice.identity] > 1 for image in images],
        ),
        (
            DefectKind.UNSTATED_UNITS,
            "the header calls the units unspecified (RescaleType US); they are taken for HU",
            [image.unstated_units for image in images],
        ),
        (DefectKind.LOSSY_COMPRESSION, "compressed with loss at some time", [image.lossy for image in images]),
        (DefectKind.SUPER_RESOLVED, SUPER_RESOLVED, [image.super_resolved for image in images]),
    )
    for kind, detail, marks in flags:
        indices = tuple(index for index, mark in enumerate(marks) if mark)
        if indices:
            share = "" if len(indices) == len(images) else f"{len(indices)} of {len(images)} slices: "
            yield Defect(kind, share + detail, indices)


def _rescales(images: Sequence[AxialImage]) -> Iterator[Defect]:
    """One reconstruction has one rescale: another one in a few slices is most often a mistake in their headers."""
    rescales = Counter((image.slice.rescale_slope, image.slice.rescale_intercept) for image in images)
    rescales.pop((None, None), None)
    if len(rescales) < 2:
        return
    shown = [f"slope {slope:g}, intercept {intercept:g} in {count}" for (slope, intercept), count in rescales.items()]
    usual = rescales.most_common(1)[0][0]
    others = [(image.slice.rescale_slope, image.slice.rescale_intercept) != usual for image in images]
    indices = tuple(index for index, other in enumerate(others) if other)
    yield Defect(DefectKind.DIFFERING_RESCALE, f"the rescale differs between slices: {listed(shown, NAMED)}", indices)


def _settings(images: Sequence[AxialImage]) -> Iterator[Defect]:
    """Parts of one stack that were made in other ways: noise and sharpness of one are not those of the other."""
    voltages = [image.phase_values[PHASES.index("KVP")].removesuffix(".0") for image in images]
    for what, values in (("kernels", [image.kernel for image in images]), ("tube voltages (kV)", voltages)):
        counts = Counter(filter(None, values))
        if len(counts) > 1:
            usual, shown = max(counts, key=counts.__getitem__), [f"{value} in {counts[value]}" for value in counts]
            indices = tuple(index for index, value in enumerate(values) if value not in {"", usual})
            detail = f"its slices have different {what}: {listed(shown, NAMED)}; one noise is taken for all"
            yield Defect(DefectKind.MIXED_SETTINGS, detail, indices)


def _is_even(along: Floats) -> bool:
    off = np.ptp(along - np.linspace(along[0], along[-1], len(along))) / 2
    step = float(along[-1] - along[0]) / (len(along) - 1)
    return bool(off <= max(OFF_GRID * step, min(ROUNDING_MM, ROUNDING * step)))


def _neighbours(first: npt.NDArray[np.intp], marked: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Slices on both sides of the marked steps."""
    steps = np.flatnonzero(marked)
    return tuple(first[np.union1d(steps, steps + 1)].tolist())


def _between(images: Sequence[AxialImage], first: npt.NDArray[np.intp], step: int) -> str:
    return f"{_z(images[first[step]])} and {_z(images[first[step + 1]])}"


def _z(image: AxialImage) -> str:
    return f"z = {image.slice.position[2]:g} mm"
