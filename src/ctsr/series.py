"""What a scan finds: patients, their series, and the slices of each in order along the normal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ctsr.volume import Vector

__all__ = ["Defect", "DefectKind", "Excluded", "Inventory", "PatientExams", "Series", "SliceHeader"]


class DefectKind(Enum):
    """What can be wrong with a series. `ctsr.dicom.defects` says what each verb does about it."""

    GAP = "gap"
    DUPLICATE_POSITION = "duplicate position"
    IRREGULAR_SPACING = "irregular spacing"
    GANTRY_TILT = "gantry tilt"
    MIXED_GEOMETRY = "mixed geometry under one UID"
    MISSING_RESCALE = "missing rescale"
    MISSING_GEOMETRY = "missing geometry"
    UNREADABLE_SLICE = "unreadable slice"
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


@dataclass(frozen=True)
class Series:
    """Slices of one series that share orientation, matrix, pixel spacing and image type, ordered along the normal."""

    patient_id: str
    """The source's folder name: what every verb knows the patient by."""
    path: Path
    """The deepest folder that holds all slices (or the file, for multi-frame and NIfTI)."""
    series_uid: str
    study_uid: str
    slices: tuple[SliceHeader, ...]
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    """mm between row centres, mm between column centres: DICOM's order."""
    orientation: tuple[float, float, float, float, float, float]
    """ImageOrientationPatient: direction of growing column index, then of growing row index."""
    image_type: tuple[str, ...] = ()
    modality: str = "CT"
    manufacturer: str = ""
    model_name: str = ""
    kernel: str = ""
    description: str = ""
    body_part: str = ""
    slice_thickness: float | None = None
    """mm; None when the headers do not tell or disagree."""
    slice_step: float | None = None
    """Median mm between neighbouring slices along the normal; None for a single slice."""
    defects: tuple[Defect, ...] = ()

    @property
    def scanner(self) -> str:
        """Maker and model as one name, empty where the header has been stripped of both."""
        return " ".join(part for part in (self.manufacturer, self.model_name) if part)

    def defects_of(self, *kinds: DefectKind) -> tuple[Defect, ...]:
        """Those of its defects that are of one of `kinds`."""
        return tuple(defect for defect in self.defects if defect.kind in kinds)


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
