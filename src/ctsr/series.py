"""Result of a scan: patients, their series, and the slices of each in order along the normal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from ctsr.volume import Orientation, Plane, Vector

SMALLEST_SIDE = 8
"""Pixels along a side; below that there is nothing to see, and no metric or network works."""

GeometryKey: TypeAlias = tuple[tuple[str, ...], int, int, tuple[float, ...], tuple[float, ...]]


class DefectKind(StrEnum):
    """Kinds of defects of a series. `ctsr.defect_policy` defines how each command treats it."""

    GAP = "gap"
    DUPLICATE_POSITION = "duplicate position"
    IRREGULAR_SPACING = "irregular spacing"
    GANTRY_TILT = "gantry tilt"
    MIXED_GEOMETRY = "mixed geometry under one UID"
    MISSING_RESCALE = "missing rescale"
    DIFFERING_RESCALE = "differing rescale"
    MISSING_GEOMETRY = "missing geometry"
    UNREADABLE_SLICE = "unreadable slice"
    IMPLAUSIBLE_HU = "implausible HU"
    SHIFTED_HU = "shifted HU"
    REPEATED_UID = "repeated SOP Instance UID"
    UNSTATED_UNITS = "unstated units"
    LOSSY_COMPRESSION = "lossy compression"
    SINGLE_SLICE = "single slice"


@dataclass(frozen=True)
class Defect:
    """One thing wrong with one series, and where."""

    kind: DefectKind
    detail: str
    """One clause for people: what and at which z or which slices."""
    slice_indices: tuple[int, ...] = ()
    """The slices concerned, as indices into `Series.slices`; empty when they are not among them."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One axial slice: where its pixels are, where it lies, and how stored values become HU."""

    path: Path
    frame: int | None
    """Index within a multi-frame object or a NIfTI volume, from 0; None for a classic single-slice file."""
    sop_instance_uid: str
    """Of the file; frames of one multi-frame file share it; empty in NIfTI. See `identity`."""
    position: Vector
    """ImagePositionPatient: centre of the first pixel, mm LPS."""
    instance_number: int | None
    rescale_slope: float | None
    rescale_intercept: float | None
    """None where the header gives no rescale: reading it needs `assume_hu`."""
    slice_thickness: float | None
    """mm."""

    @property
    def identity(self) -> str:
        """A name for this slice that no folder or order changes: seeds of degradation draws are made from it."""
        if self.frame is None:
            return self.sop_instance_uid
        return f"{self.sop_instance_uid}#{self.frame}" if self.sop_instance_uid else str(self.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """What the headers of all images of a series say alike."""

    series_uid: str
    study_uid: str
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    """mm between row centres, mm between column centres: DICOM's order."""
    orientation: Orientation
    image_type: tuple[str, ...] = ()
    manufacturer: str = ""
    model_name: str = ""
    kernel: str = ""
    description: str = ""
    body_part: str = ""
    variant: tuple[str, ...] = ()
    """What tells it from other readings of the same series UID: a corrected rescale."""
    identities: tuple[str, ...] = ()
    """Hashes of study and patient; see `ctsr.identity`."""

    @property
    def geometry_key(self) -> GeometryKey:
        """What slices must share to be one series; rounded, because writers disagree in the last digit."""
        spacing = tuple(round(mm, 4) for mm in self.pixel_spacing)
        orientation = tuple(round(cosine, 3) + 0.0 for cosine in self.orientation)
        return (*self.image_type, *self.variant), self.rows, self.columns, spacing, orientation

    @property
    def scanner(self) -> str:
        """Maker and model as one name, empty where the header has been stripped of both."""
        return " ".join(part for part in (self.manufacturer, self.model_name) if part)


@dataclass(frozen=True, kw_only=True)
class Series(SeriesHeader):
    """Slices of one series that share orientation, matrix, pixel spacing and image type, ordered along the normal."""

    patient_id: str
    """The source's folder name: the patient's name in every command."""
    path: Path
    """The deepest folder that holds all slices (or the file, for multi-frame and NIfTI)."""
    slices: tuple[SliceHeader, ...]
    slice_thickness: float | None = None
    """mm; None when the headers do not tell or disagree."""
    slice_step: float | None = None
    """Median mm between neighbouring slices along the normal; None for a single slice."""
    defects: tuple[Defect, ...] = ()

    def plane(self, index: int) -> Plane:
        """Where the pixels of one slice lie."""
        directions = self.orientation[3:], self.orientation[:3]
        return Plane((self.rows, self.columns), self.pixel_spacing, self.slices[index].position, directions)


@dataclass(frozen=True)
class Excluded:
    """A series or file that was looked at and left out, and why."""

    path: Path
    reason: str
    num_slices: int = 1
    series_uid: str = ""
    failed: bool = False
    """It is CT that should have been used but cannot be read, rather than CT that is no training data."""


@dataclass(frozen=True)
class PatientExams:
    """One patient folder: the series that can be used, and what was left out."""

    patient_id: str
    path: Path
    series: tuple[Series, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    """CT that is no training data (localizers, reformats) or cannot be read, each with its reason."""
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Files that are not CT at all, counted by modality ("SEG": 1, "not DICOM": 3)."""

    @property
    def identities(self) -> frozenset[str]:
        """Hashes of the studies and patients that the usable series name; see `ctsr.identity`."""
        return frozenset(identity for series in self.series for identity in series.identities)

    @property
    def num_slices(self) -> int:
        """Usable slices over all series."""
        return sum(len(series.slices) for series in self.series)


@dataclass(frozen=True)
class Inventory:
    """Everything below one root."""

    root: Path
    patients: tuple[PatientExams, ...]
    """Sorted by patient id in plain string order, those without usable CT among them."""
    excluded: tuple[Excluded, ...] = ()
    """CT that lies beside the patient folders and so belongs to no patient."""

    @property
    def usable(self) -> tuple[PatientExams, ...]:
        """The patients that hold at least one usable series, in the same order."""
        return tuple(patient for patient in self.patients if patient.series)

    def all_series(self) -> Iterator[Series]:
        """Every usable series, by patient."""
        for patient in self.patients:
            yield from patient.series


def is_nifti(path: Path) -> bool:
    """Whether a file calls itself NIfTI; its contents are looked at by `ctsr.nifti.scan_file`."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def too_small(rows: int, columns: int) -> str:
    """Why an image of this size is no slice; empty where it may be one."""
    return f"too small to be a slice: {rows}×{columns} pixels" if min(rows, columns) < SMALLEST_SIDE else ""
