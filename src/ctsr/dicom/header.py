"""What one DICOM file is, from its header alone: axial CT images, CT that is left out and why, or something else."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pydicom import FileDataset
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from ctsr.dicom import HEAD_BYTES, looks_like_dicom, quiet, read_header, reading, transfer_syntax
from ctsr.dicom.attributes import (
    EQUIPMENT,
    GROUPS,
    Attributes,
    frames_of,
    frames_problem,
    pixel_data_problem,
    pixel_module_problem,
)
from ctsr.dicom.pixels import LOSSY
from ctsr.errors import ReadError
from ctsr.hashing import header_identities
from ctsr.hu import rescale_problem
from ctsr.reporting import one_line
from ctsr.series import DefectKind, SeriesHeader, SliceHeader, names_network, plane_problem, too_small
from ctsr.volume import (
    LARGEST_STEP_MM,
    Orientation,
    Vector,
    angle_to_axial,
    is_orthonormal,
    orthonormalised,
)

CT_CLASSES = {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}

ZIP = "zip archive"
SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"PK\x03\x04": ZIP,
    b"7z\xbc\xaf": "7z archive",
    b"Rar!": "rar archive",
    b"\x1f\x8b": "gzip archive",
    b"%PDF": "PDF",
}
"""First bytes of files that people keep beside DICOM, and what `ctsr scan` calls them."""

LEFT_OUT = {
    "LOCALIZER": "a localizer",
    "SCOUT": "a localizer",
    "TOPOGRAM": "a localizer",
    "REFORMATTED": "a reformat",
    "MPR": "a reformat",
    "MPVR": "a reformat",
    "CPR": "a curved reformat",
    "CURVED": "a curved reformat",
    "MIP": "a maximum intensity projection",
    "MAX_IP": "a maximum intensity projection",
    "MINIP": "a minimum intensity projection",
    "MIN_IP": "a minimum intensity projection",
    "PROJECTION": "a projection",
    "VRT": "a rendering",
    "SSD": "a rendering",
    "3D": "a rendering",
    "RENDERED": "a rendering",
    "SCREEN": "a screen save",
    "SCREENSAVE": "a screen save",
    "SCREEN_SAVE": "a screen save",
    "PROT": "a protocol page",
    "DOSE_INFO": "a dose page",
    "PERFUSION": "a perfusion map",
    "SUBTRACTION": "a subtraction",
    "DSA": "a subtraction",
    "IODINE": "a map of iodine",
    "IODINE_MAP": "a map of iodine",
    "IODINE_NO_WATER": "a map of iodine",
    "IODINE_DENSITY": "a map of iodine",
    "PBV": "a map of iodine",
    "Z_EFFECTIVE": "a map of effective atomic numbers",
    "Z_EFF": "a map of effective atomic numbers",
    "ZEFF": "a map of effective atomic numbers",
    "EFF_ATOMIC_NUM": "a map of effective atomic numbers",
    "ZEFFECTIVE": "a map of effective atomic numbers",
    "EFFECTIVE_Z": "a map of effective atomic numbers",
    "EFFECTIVE_ATOMIC_NUMBER": "a map of effective atomic numbers",
    "RHO_Z": "a map of electron density",
    "ELECTRON_DENSITY": "a map of electron density",
    "URIC_ACID": "a map of a material",
    "CALCIUM_SUPPRESSED": "an image with a material removed",
    "BONE_REMOVED": "an image with a material removed",
    "BONE_REMOVAL": "an image with a material removed",
    "BONEREMOVAL": "an image with a material removed",
    "CALCIUM_REMOVED": "an image with a material removed",
    "VNC": "an image with a material removed",
    "VIRTUAL_NON_CONTRAST": "an image with a material removed",
    # Values of ImageType in multi-energy CT (PS3.3 C.8.15.2.1.1.1).
    "MAT_SPECIFIC": "a map of a material",
    "MAT_REMOVED": "an image with a material removed",
    "MAT_FRACTIONAL": "a map of a material",
    "MAT_VALUE_BASED": "a map of a material",
    "MAT_MODIFIED": "an image with a material modified",
}
"""Words of ImageType that mark images other than axial slices in HU. DERIVED alone does not."""
PHRASES = tuple(word for word in LEFT_OUT if "_" in word)
"""Those of several words."""

GREY = {"", "MONOCHROME1", "MONOCHROME2"}
HOUNSFIELD = {"", "HU", "HU_MOD"}
UNSTATED = "US"
"""RescaleType of images whose writer did not know or did not care; GDCM and ITK write it into CT."""

TABLE = (
    "its values go through a table (ModalityLUTSequence) in place of RescaleSlope and RescaleIntercept; export it "
    "again with those"
)

AXIAL_WITHIN = 45.0
"""Degrees between a slice's normal and the patient's axis: nearer to axial than to anything else, tilted or not."""

PHASES = (
    *("AcquisitionNumber", "FrameAcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "StackID"),
    *("ConvolutionKernel", "KVP", "SliceThickness"),
    *("TriggerTime", "AcquisitionTime", "AcquisitionDateTime", "FrameAcquisitionDateTime"),
    *("FrameReferenceDateTime", "ContentTime"),
)
"""Attributes that tell apart the images at one position, the likeliest first; from TriggerTime on, times."""

ORIENTATION, SPACING, POSITION = "ImageOrientationPatient", "PixelSpacing", "ImagePositionPatient"

ATTRIBUTES = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID", "SeriesInstanceUID"),
    *("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames", "InstanceNumber"),
    EQUIPMENT,
    *("BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
    *("Manufacturer", "ManufacturerModelName", "SeriesDescription", "BodyPartExamined", "LossyImageCompression"),
    *("FrameOfReferenceUID", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(name for name in GROUPS if name != "FrameType"),
    *PHASES,
)
TAGS = tuple({BaseTag(tag_for_keyword(name) or 0) for name in ATTRIBUTES})


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialImage(SeriesHeader):
    """One axial CT image, as its header tells."""

    slice: SliceHeader
    tilt: float
    """GantryDetectorTilt in degrees; 0 where it is missing."""
    stated_step: float | None
    """SpacingBetweenSlices in mm, without its sign; None where it is missing or 0."""
    unstated_units: bool
    lossy: bool
    super_resolved: bool
    """A network of ctsr made it."""
    phase_values: tuple[str, ...]
    """The values of `PHASES`."""
    frame_of_reference_uid: str
    """Empty where there is none."""


@dataclass(frozen=True, slots=True)
class RejectedImage:
    """CT that is not used, and why."""

    path: Path
    reason: str
    series_uid: str = ""
    kind: DefectKind | None = None
    """Set where the image should have been part of a series: the defect its absence makes."""
    study_uid: str = ""


@dataclass(frozen=True, slots=True)
class NotCT:
    """A file that is no CT: the modality, DICOMDIR, a format of `SIGNATURES`, or "not DICOM"."""

    what: str


FileContents: TypeAlias = list[AxialImage | RejectedImage] | NotCT
"""What a file holds, one entry an image."""


def read_file(path: Path) -> FileContents:
    """What the file holds, from its header alone."""
    is_part10 = False
    try:
        with path.open("rb") as file, quiet(), reading():
            head = file.read(HEAD_BYTES)
            is_part10 = head[128:132] == b"DICM"
            if not looks_like_dicom(head):
                return NotCT(_format_of(head))
            file.seek(0)
            return _classify(path, file, read_header(file, TAGS))
    except OSError as error:
        return [_unreadable(path, error.strerror or str(error))]
    except ReadError as error:
        return [_unreadable(path, str(error))] if is_part10 else NotCT("not DICOM")


def _format_of(head: bytes) -> str:
    """What a file that is not DICOM is, by its first bytes."""
    return next((name for signature, name in SIGNATURES.items() if head.startswith(signature)), "not DICOM")


def _classify(path: Path, file: BinaryIO, header: FileDataset) -> FileContents:
    look = Attributes(header)
    modality = look.text("Modality").upper()
    sop_class = UID(look.text("SOPClassUID") or Attributes(header.file_meta).text("MediaStorageSOPClassUID"))
    if not sop_class or modality not in {"", "CT"}:
        return NotCT(modality or "not DICOM")
    series_uid, study_uid = look.text("SeriesInstanceUID"), look.text("StudyInstanceUID")
    if sop_class not in CT_CLASSES:
        if not modality:
            return NotCT("DICOMDIR" if sop_class == MediaStorageDirectoryStorage else sop_class.name)
        return [RejectedImage(path, f"{sop_class.name} is not a CT image", series_uid)]
    syntax = transfer_syntax(header)
    broken = pixel_module_problem(look) or frames_problem(look) or pixel_data_problem(look, file, syntax)
    if broken:
        return [_unreadable(path, broken, series_uid, study_uid)]
    return [_image(path, index, frame, syntax) for index, frame in frames_of(header)]


def _unreadable(path: Path, why: str, series_uid: str = "", study_uid: str = "") -> RejectedImage:
    remedy = "" if "again" in why else "; copy or export it again"
    return RejectedImage(
        path, f"unreadable: {one_line(why)}{remedy}", series_uid, DefectKind.UNREADABLE_SLICE, study_uid
    )


def _image(path: Path, index: int | None, look: Attributes, syntax: UID) -> AxialImage | RejectedImage:
    series_uid, study_uid = look.text("SeriesInstanceUID"), look.text("StudyInstanceUID")
    image_type = tuple(word.upper() for word in look.words("FrameType") or look.words("ImageType"))
    if why := _no_training_data(look, image_type):
        return RejectedImage(path, why, series_uid)
    if why := _rescale_problem(look):
        return _unreadable(path, why, series_uid, study_uid)
    plane = _plane(look)
    if isinstance(plane, str):
        return RejectedImage(path, plane, series_uid, DefectKind.MISSING_GEOMETRY, study_uid)
    orientation, spacing, position = plane
    if (angle := angle_to_axial(orientation)) > AXIAL_WITHIN:
        return RejectedImage(path, f"not axial: its normal is {angle:.0f}° from the patient's axis", series_uid)
    return AxialImage(
        slice=_slice(path, index, look, position),
        series_uid=series_uid,
        study_uid=study_uid,
        rows=look.whole("Rows") or 0,
        columns=look.whole("Columns") or 0,
        pixel_spacing=spacing,
        orientation=orientation,
        image_type=image_type,
        tilt=look.number("GantryDetectorTilt") or 0.0,
        stated_step=abs(look.number("SpacingBetweenSlices") or 0.0) or None,
        unstated_units=look.text("RescaleType") == UNSTATED,
        lossy=syntax in LOSSY or look.text("LossyImageCompression") == "01",
        super_resolved=any(names_network(*contributor) for contributor in look.contributors()),
        manufacturer=look.text("Manufacturer"),
        model_name=look.text("ManufacturerModelName"),
        kernel="/".join(look.words("ConvolutionKernel")),
        description=look.text("SeriesDescription"),
        body_part=look.text("BodyPartExamined"),
        phase_values=tuple(look.text(name) for name in PHASES),
        frame_of_reference_uid=look.text("FrameOfReferenceUID"),
        identities=_identities(look),
    )


def _identities(look: Attributes) -> tuple[str, ...]:
    names = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
    return header_identities(*(look.text(name) for name in names))


def _rescale_problem(look: Attributes) -> str:
    """Why the rescale that the header gives cannot be used; empty where it can, and where there is none."""
    given: list[float] = []
    for name in ("RescaleSlope", "RescaleIntercept"):
        number, words = look.number(name), look.text(name)
        if number is None and words:
            return f"{name} reads {words!r}, which is not a number"
        if number is not None:
            given.append(number)
    if len(given) < 2 or not given[0]:
        # Its values are unsigned (PS3.3 C.11.1): HU they cannot be, nor are stored values then.
        has_table = look.get("ModalityLUTSequence") is not None
        return TABLE if has_table else ""
    return rescale_problem(given[0], given[1])


def _plane(look: Attributes) -> tuple[Orientation, tuple[float, float], Vector] | str:
    """Orientation, pixel spacing and position; or why there are none."""
    given = look.numbers(ORIENTATION, 6), look.numbers(SPACING, 2), look.numbers(POSITION, 3)
    match given:
        case (a, b, c, d, e, f), (between_rows, between_columns), (x, y, z):
            orientation, spacing, position = (a, b, c, d, e, f), (between_rows, between_columns), (x, y, z)
        case _:
            needed = (ORIENTATION, SPACING, POSITION)
            missing = [name for name, numbers in zip(needed, given, strict=True) if numbers is None]
            return f"no {', '.join(missing)}"
    if not is_orthonormal(orientation):
        return f"its orientation of {', '.join(f'{cosine:g}' for cosine in orientation)} is impossible"
    problem = plane_problem((look.whole("Rows") or 0, look.whole("Columns") or 0), spacing, position)
    return problem or (orthonormalised(orientation), spacing, position)


def _slice(path: Path, index: int | None, look: Attributes, position: Vector) -> SliceHeader:
    slope, intercept = look.rescale
    thickness = look.number("SliceThickness")
    return SliceHeader(
        path=path,
        frame=index,
        sop_instance_uid=look.text("SOPInstanceUID"),
        position=position,
        instance_number=look.whole("InstanceNumber") if index is None else index + 1,
        rescale_slope=slope,
        rescale_intercept=intercept,
        slice_thickness=thickness if thickness and 0 < thickness <= LARGEST_STEP_MM else None,
    )


def _no_training_data(look: Attributes, image_type: tuple[str, ...]) -> str:
    if (look.whole("SamplesPerPixel") or 1) != 1:
        return "a screen save: it is in colour"
    if (shown := look.text("PhotometricInterpretation")) not in GREY:
        return f"a screen save: its values are {shown}"
    written = "/".join(image_type)
    # Makers part words by blanks, bars or further values of the attribute.
    phrase = f"_{'_'.join(re.findall('[A-Z0-9]+', written))}_"
    for word in (*re.split(r"[/\s]+", written), *(name for name in PHRASES if f"_{name}_" in phrase)):
        if word in LEFT_OUT:
            return f"{LEFT_OUT[word]} (ImageType {written})"
    units = look.text("RescaleType").upper()
    if units not in HOUNSFIELD | {UNSTATED}:
        return f"its values are {units}, not HU"
    return too_small(look.whole("Rows") or 0, look.whole("Columns") or 0)
