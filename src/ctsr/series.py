"""Result of a scan: patients, their series, slices in order, defects, and what each command does about a defect."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from ctsr.errors import SeriesError
from ctsr.hashing import count_people
from ctsr.volume import (
    LARGEST_FIELD_MM,
    LARGEST_POSITION_MM,
    PIXEL_MM,
    SMALLEST_STEP_MM,
    Orientation,
    Plane,
    Vector,
    normal,
    spread,
)

NRRD, META_IMAGE = (".nrrd", ".nhdr"), (".mha", ".mhd")
"""Endings of volumes that SimpleITK reads."""
SMALLEST_SIDE = 8
"""Pixels along a side; below that there is nothing to see, and no metric or network works."""

PROGRAM = "ctsr"
"""Manufacturer of the contributing equipment in images that `ctsr.dicom.write` derives; its model is the network's name
and hash, or the program again where there was no network."""
NOT_FOR_DIAGNOSIS = "Not for diagnosis"
SOME_NETWORK = "network"
"""Its name, where a result that was read has to be written again."""
SUPER_RESOLVED = "a result of `ctsr upscale`, whose detail a network made up"
"""What is wrong with them as truth. Those of `ctsr preprocess` are scans: no network had a part in them."""

GeometryKey: TypeAlias = tuple[tuple[str, ...], int, int, tuple[float, ...], tuple[float, ...]]

Command: TypeAlias = Literal["volume", "preprocess", "split", "train", "evaluate", "view", "upscale"]
COMMANDS: tuple[Command, ...] = get_args(Command)
"""The columns: `volume` is whatever needs the slices as one block (coronal and sagittal views, NIfTI output)."""


class DefectKind(StrEnum):
    """Kinds of defects of a series. `ctsr.series` defines how each command treats it."""

    GAP = "gap"
    DUPLICATE_POSITION = "duplicate position"
    IRREGULAR_SPACING = "irregular spacing"
    GANTRY_TILT = "gantry tilt"
    MIXED_GEOMETRY = "mixed geometry under one UID"
    SEVERAL_PHASES = "several phases under one UID"
    SEVERAL_EXAMS = "several exams under one UID"
    MISSING_RESCALE = "missing rescale"
    DIFFERING_RESCALE = "differing rescale"
    MIXED_SETTINGS = "mixed settings"
    MISSING_GEOMETRY = "missing geometry"
    DOUBTFUL_GEOMETRY = "doubtful geometry"
    UNREADABLE_SLICE = "unreadable slice"
    IMPLAUSIBLE_HU = "implausible HU"
    SHIFTED_HU = "shifted HU"
    CUT_OFF_HU = "cut-off HU"
    REPEATED_SLICE = "repeated slice"
    REPEATED_UID = "repeated SOP Instance UID"
    UNSTATED_UNITS = "unstated units"
    LOSSY_COMPRESSION = "lossy compression"
    SUPER_RESOLVED = "super-resolved"
    SINGLE_SLICE = "single slice"


@dataclass(frozen=True)
class Defect:
    """One thing wrong with one series, and where."""

    kind: DefectKind
    detail: str
    """One clause for people: what and at which z or which slices."""
    slice_indices: tuple[int, ...] = ()
    """The slices concerned, as indices into `Series.slices`; empty when they are not among them."""

    @property
    def nameless(self) -> str:
        """`detail` without the names of files, which may be those of patients."""
        return self.detail.partition(":")[0] if self.kind in LEFT_OUT else self.detail


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One axial slice: where its pixels are, where it lies, and how stored values become HU."""

    path: Path
    frame: int | None
    """Index within a multi-frame object or a NIfTI volume, from 0; None for a classic single-slice file."""
    sop_instance_uid: str
    """UID of the file; frames of one multi-frame file share it; empty in NIfTI. See `identity`."""
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
    """Header values that all images of a series share."""

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
    phase: str = ""
    """What tells it from other exams, phases, passes or reconstructions under the same series UID, as
    `AcquisitionNumber 2`; empty where there are none."""
    identities: tuple[str, ...] = ()
    """Hashes of study and patient; see `ctsr.hashing`."""

    @property
    def geometry_key(self) -> GeometryKey:
        """What slices must share to be one series; rounded, because writers disagree in the last digit."""
        spacing = tuple(round(mm, 4) for mm in self.pixel_spacing)
        orientation = tuple(round(cosine, 3) + 0.0 for cosine in self.orientation)
        form = (*self.image_type, *self.variant, *((self.phase,) if self.phase else ()))
        return form, self.rows, self.columns, spacing, orientation

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

    @property
    def title(self) -> str:
        """Its description and its phase; the name of its folder or file where it has no description."""
        return f"{self.description or self.path.name} {self.phase}".strip()

    @property
    def is_volume(self) -> bool:
        """Whether it is a volume without patient and study: its files say so, their folder may have any name."""
        return is_volume(self.slices[0].path)

    @property
    def rises(self) -> bool:
        """Whether its slices go towards the head."""
        return normal(self.orientation)[2] >= 0

    @property
    def instance_numbers(self) -> tuple[int, ...]:
        """1 … number of slices, for a derived series: in the source's order, so that viewers scroll the same way.

        Along the normal where the source's InstanceNumbers do not tell its slices apart.
        """
        count = len(self.slices)
        given = {header.instance_number: index for index, header in enumerate(self.slices)}
        if None in given or len(given) < count:
            return tuple(range(1, count + 1))
        order = sorted(given.items(), key=lambda item: item[0] or 0)
        ranks = {index: rank for rank, (_, index) in enumerate(order, start=1)}
        return tuple(ranks[index] for index in range(count))

    def is_called(self, name: str) -> bool:
        """Whether `name` is its UID, which phases share, or the UID, a blank and its phase."""
        return name in {self.series_uid, f"{self.series_uid} {self.phase}".strip()}

    def plane(self, index: int) -> Plane:
        """Where the pixels of one slice lie."""
        directions = self.orientation[3:], self.orientation[:3]
        return Plane((self.rows, self.columns), self.pixel_spacing, self.slices[index].position, directions)


SINGLE = Defect(DefectKind.SINGLE_SLICE, "it is a single slice", (0,))
LEFT_OUT = {DefectKind.UNREADABLE_SLICE, DefectKind.MISSING_GEOMETRY}
"""Defects that are images which were left out; their details name files."""


def part_of(series: Series, wanted: slice) -> Series:
    """The series with only some of its slices, one after the other, and the defects that lie among these."""
    kept = range(len(series.slices))[wanted]
    slices = series.slices[wanted]
    steps = np.diff(spread([header.position for header in slices], series.orientation).along) if slices else np.empty(0)
    steps = steps[steps > SMALLEST_STEP_MM]
    defects = [found for defect in series.defects if (found := _within(defect, kept))]
    if len(slices) == 1 < len(series.slices):
        defects.append(SINGLE)
    step = float(np.median(steps)) if len(steps) else None
    return replace(series, slices=slices, slice_step=step, defects=tuple(defects))


def _within(defect: Defect, kept: range) -> Defect | None:
    """What is left of a defect where only some slices are kept."""
    indices = tuple(kept.index(index) for index in defect.slice_indices if index in kept)
    # One slice beside a hole is no hole; nor are two that lie beside different ones.
    neighbours = any(b - a == 1 for a, b in pairwise(indices))
    needs_two = defect.kind in {DefectKind.GAP, DefectKind.IRREGULAR_SPACING, DefectKind.DUPLICATE_POSITION}
    if defect.slice_indices and (not indices or (needs_two and not neighbours)):
        return None
    return replace(defect, slice_indices=indices)


@dataclass(frozen=True)
class Excluded:
    """A series or file that was looked at and left out, and why."""

    path: Path
    reason: str
    num_slices: int = 1
    series_uid: str = ""
    failed: bool = False
    """It is CT that should have been used but cannot be read, rather than CT that is not training data."""

    @property
    def text(self) -> str:
        """In a line."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class PatientExams:
    """One patient folder: the series that can be used, and what was left out."""

    patient_id: str
    path: Path
    series: tuple[Series, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    """CT that is not training data (localizers, reformats) or cannot be read, each with its reason."""
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Files that are not CT at all, counted by modality or format ("SEG": 1, "PNG": 3)."""

    @property
    def identities(self) -> frozenset[str]:
        """Hashes of the studies and patients that the usable series name; see `ctsr.hashing`."""
        return frozenset(identity for series in self.series for identity in series.identities)

    @property
    def mix_up(self) -> str:
        """What is wrong where the folder holds several people by their PatientIDs, and what to do; else empty."""
        count = count_people(series.identities for series in self.series)
        if count < 2:
            return ""
        return (
            f"{self.path} holds series of {count} people, by their PatientIDs, and is taken for one patient: "
            "give each patient a folder of their own"
        )

    @property
    def num_slices(self) -> int:
        """Usable slices over all series."""
        return sum(len(series.slices) for series in self.series)

    def failures(self) -> list[Excluded]:
        """What should have been read and could not be."""
        return [excluded for excluded in self.excluded if excluded.failed]


@dataclass(frozen=True)
class Inventory:
    """Everything below one root."""

    root: Path
    patients: tuple[PatientExams, ...]
    """Sorted by patient id in plain string order, those without usable CT among them."""
    excluded: tuple[Excluded, ...] = ()
    """CT that lies beside the patient folders and so belongs to no patient."""
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Files beside the patient folders that are not CT, as in `PatientExams.ignored`."""

    @property
    def usable(self) -> tuple[PatientExams, ...]:
        """The patients that hold at least one usable series, in the same order."""
        return tuple(patient for patient in self.patients if patient.series)

    def all_series(self) -> Iterator[Series]:
        """Every usable series, by patient."""
        return (series for patient in self.patients for series in patient.series)

    def failures(self) -> list[Excluded]:
        """Those of all patients, and of what lies beside them."""
        beside = PatientExams("", self.root, excluded=self.excluded)
        return [excluded for exams in (beside, *self.patients) for excluded in exams.failures()]


def is_nifti(path: Path) -> bool:
    """Whether a file calls itself NIfTI; its contents are looked at by `ctsr.nifti.scan_file`."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_volume(path: Path) -> bool:
    """Whether a file calls itself NIfTI, NRRD or MetaImage: a volume without patient and study."""
    return is_nifti(path) or path.suffix.lower() in {*NRRD, *META_IMAGE}


def volume_stem(path: Path) -> str:
    """The name of a volume's file without its ending."""
    return path.name.split(".nii")[0] if is_nifti(path) else path.stem


def names_network(manufacturer: str, model_name: str) -> bool:
    """Whether a piece of contributing equipment is a network that `ctsr` ran."""
    return manufacturer == PROGRAM and model_name not in {"", PROGRAM}


def volume_words(label: str) -> str:
    """What a NIfTI header says of a volume that a network made; `label` says what was made finer."""
    return f"{NOT_FOR_DIAGNOSIS}. {label} {PROGRAM}"


def are_volume_words(description: str) -> bool:
    """Whether a NIfTI header says what `volume_words` makes."""
    return description.startswith(f"{NOT_FOR_DIAGNOSIS}. ") and description.endswith(f" {PROGRAM}")


def too_small(rows: int, columns: int) -> str:
    """Why an image of this size cannot be a slice; empty where it can."""
    return f"too small to be a slice: {rows}×{columns} pixels" if min(rows, columns) < SMALLEST_SIDE else ""


def plane_problem(shape: tuple[int, int], spacing: tuple[float, float], position: Vector) -> str:
    """Say why an image cannot lie in a scanner as its header tells; empty where it can.

    Args:
        shape: rows and columns.
        spacing: mm between rows and between columns.
        position: mm, of the first pixel.
    """
    field = [count * distance for count, distance in zip(shape, spacing, strict=True)]
    text = " × ".join(f"{distance:g}" for distance in spacing)
    if not all(PIXEL_MM[0] <= distance <= PIXEL_MM[1] for distance in spacing):
        return f"its pixel spacing of {text} mm is impossible"
    if max(field) > LARGEST_FIELD_MM:
        return f"its pixel spacing of {text} mm makes a field of view of {max(field):.0f} mm, which no scanner has"
    if not all(abs(coordinate) <= LARGEST_POSITION_MM for coordinate in position):
        return f"its position of {', '.join(f'{coordinate:g}' for coordinate in position)} mm is impossible"
    return ""


class Action(Enum):
    """What a command does about a defect."""

    REFUSE = "refused"
    WARN = "warned about"
    HARMLESS = "harmless"


REFUSE, WARN, FINE = Action.REFUSE, Action.WARN, Action.HARMLESS

POLICY = {
    #                              volume  preproc split   train   evaluate view   upscale
    DefectKind.GAP:                (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.DUPLICATE_POSITION: (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.IRREGULAR_SPACING:  (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.GANTRY_TILT:        (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   FINE),
    DefectKind.MIXED_GEOMETRY:     (WARN,   WARN,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.SEVERAL_PHASES:     (FINE,   WARN,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.SEVERAL_EXAMS:      (FINE,   WARN,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.MISSING_RESCALE:    (REFUSE, REFUSE, FINE,   REFUSE, REFUSE, REFUSE, REFUSE),
    DefectKind.DIFFERING_RESCALE:  (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.MIXED_SETTINGS:     (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.IMPLAUSIBLE_HU:     (WARN,   REFUSE, WARN,   REFUSE, REFUSE, WARN,   REFUSE),
    DefectKind.SHIFTED_HU:         (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.CUT_OFF_HU:         (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.REPEATED_SLICE:     (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.MISSING_GEOMETRY:   (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.DOUBTFUL_GEOMETRY:  (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.UNREADABLE_SLICE:   (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.REPEATED_UID:       (FINE,   REFUSE, FINE,   WARN,   WARN,   FINE,   REFUSE),
    DefectKind.UNSTATED_UNITS:     (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.LOSSY_COMPRESSION:  (FINE,   FINE,   FINE,   WARN,   WARN,   FINE,   FINE),
    DefectKind.SUPER_RESOLVED:     (FINE,   WARN,   WARN,   REFUSE, REFUSE, WARN,   WARN),
    DefectKind.SINGLE_SLICE:       (WARN,   FINE,   FINE,   FINE,   FINE,   FINE,   FINE),
}  # fmt: skip
"""For each defect, what each of `COMMANDS` does about it."""

REMEDY = {
    DefectKind.GAP: "Export the series again, or use it slice by slice",
    DefectKind.DUPLICATE_POSITION: "Put each phase or reconstruction into a folder and series of its own",
    DefectKind.IRREGULAR_SPACING: "Use it slice by slice",
    DefectKind.GANTRY_TILT: "Use it slice by slice, or have the tilt corrected first",
    DefectKind.MISSING_RESCALE: "Pass `assume_hu` if the stored values are HU",
    DefectKind.IMPLAUSIBLE_HU: "Or pass `assume_hu` if they are HU all the same",
    DefectKind.MISSING_GEOMETRY: "Export the series again",
    DefectKind.UNREADABLE_SLICE: "Copy or export the series again",
    DefectKind.SUPER_RESOLVED: "Give the source series",
    DefectKind.REPEATED_UID: "Its slices cannot be told apart; export or anonymise the series again",
}
"""What to do about a defect that is refused."""


def check(series: Series, *commands: Command, assume_hu: bool = False, allow_gaps: bool = False) -> list[str]:
    """List the warnings about a series that whoever does all of `commands` with it has to show, one line each.

    Args:
        series: as the scan found it.
        commands: whose columns of the table hold; the strictest decides.
        assume_hu: a missing rescale, and values that do not look like HU, are warnings.
        allow_gaps: gaps, and slices that cannot be read, are warnings.

    Raises:
        SeriesError: a command cannot use the series; the message names every reason.
    """
    forgiven = {DefectKind.MISSING_RESCALE, DefectKind.IMPLAUSIBLE_HU} if assume_hu else set[DefectKind]()
    forgiven |= {DefectKind.GAP, *LEFT_OUT} if allow_gaps else set[DefectKind]()
    warnings: list[str] = []
    refusals: list[str] = []
    for defect in series.defects:
        actions = {POLICY[defect.kind][COMMANDS.index(command)] for command in commands}
        if REFUSE in actions and defect.kind not in forgiven:
            refusals.append(f"{defect.detail}. {REMEDY[defect.kind]}.")
        elif actions != {FINE}:
            warnings.append(f"{series.path}: {defect.detail}")
    if refusals:
        raise SeriesError(f"{series.path}: {' '.join(refusals)}")
    return warnings
