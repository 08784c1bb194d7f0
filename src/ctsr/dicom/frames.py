"""Slices of derived series: the header of a source slice or frame, HU as stored integers, reading back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.datadict import dictionary_is_retired, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import VR

from ctsr.dicom.reading import MALFORMED, open_file
from ctsr.errors import ReadError
from ctsr.series import SliceHeader
from ctsr.text import one_line
from ctsr.volume import PaddingMask, Plane, VoxelsHU

# What only has a meaning within a multi-frame object, or describes how its stored values are shown.
NOT_OF_A_SLICE = frozenset(
    {
        "AcquisitionContextSequence", "ConcatenationFrameOffsetNumber", "ConcatenationUID", "ContentQualification",
        "DimensionIndexSequence", "DimensionIndexValues", "DimensionOrganizationSequence", "DimensionOrganizationType",
        "FrameComments", "FrameLabel", "FrameType", "InConcatenationNumber", "InConcatenationTotalNumber",
        "InStackPositionNumber", "NumberOfFrames", "PerFrameFunctionalGroupsSequence", "PixelPresentation",
        "PresentationLUTShape", "SOPInstanceUIDOfConcatenationSource", "SharedFunctionalGroupsSequence", "StackID",
        "VolumeBasedCalculationTechnique", "VolumetricProperties",
    }
)  # fmt: skip

GROUPS_LEFT_OUT = frozenset(
    {"ConversionSourceAttributesSequence", "RealWorldValueMappingSequence", "ReferencedImageSequence"}
)
"""Functional groups whose items are references to other images, or speak of stored values."""

RENAMED = {
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "ExposureTimeInms": "ExposureTime",
    "ExposureInmAs": "Exposure",
    "XRayTubeCurrentInmA": "XRayTubeCurrent",
}
"""Attributes that an enhanced object calls differently; the last three are whole numbers in a classic slice."""

MAY_BE_EMPTY = ("KVP", "AcquisitionNumber", "SliceThickness", "PositionReferenceIndicator")
"""Attributes a classic CT slice must have, if only empty."""

PADDING_HU = -2048
"""What padding is stored as where no pixel of the slice is that low; below air, so that any viewer shows it black."""
INT16 = np.iinfo(np.int16)

MM_WITHIN = 1e-6
ROUNDING = 1e-3
"""HU that float32 may add to half a slope."""


def slice_header(source: SliceHeader) -> Dataset:
    """What a slice's file says of it, as the header of a classic slice: what `ctsr.dicom.write.derive_slice` takes.

    Raises:
        ReadError: the file is gone or cannot be parsed.
    """
    header = open_file(source.path).header
    enhanced = "SharedFunctionalGroupsSequence" in header or source.frame is not None
    return classic_frame(header, source.frame or 0) if enhanced else header


def classic_frame(source: Dataset, frame: int) -> Dataset:
    """The header that frame `frame` (from 0) of `source` would have as a slice of its own.

    Everything of the object itself, then of the functional groups shared by all frames, then of the frame's own,
    except retired attributes, which converted objects keep there; `source` is not changed. SOP class and instance stay
    those of the object: `derive_slice` replaces them.
    """
    header = source[:]
    for keyword in NOT_OF_A_SLICE:
        if keyword in header:
            del header[keyword]
    for group in _groups(source, frame):
        for element in group:
            keyword = RENAMED.get(element.keyword, element.keyword)
            if not keyword or keyword in NOT_OF_A_SLICE or dictionary_is_retired(keyword):
                continue
            vr = dictionary_VR(keyword)
            value = round(element.value) if vr == VR.IS and element.VR == VR.FD else element.value
            header.add_new(keyword, vr, value)
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            header.add_new(keyword, dictionary_VR(keyword), None)
    return header


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Signed 16-bit values and what turns them back into HU: ``value · slope + intercept``."""

    values: npt.NDArray[np.int16]
    slope: int
    intercept: int
    padding: int | None
    """The stored value of padded pixels, which no other pixel has; None where nothing is padded."""


def to_stored(hu: VoxelsHU, padding: PaddingMask | None = None) -> StoredPixels:
    """HU, any shape → signed 16-bit values: whole HU with slope 1 and intercept 0 wherever they fit.

    Values that do not fit (unsigned 16-bit sources reach 64511 HU) get the smallest whole slope that covers them.

    Args:
        hu: padded pixels hold air, as `ctsr.exams.read_slice` leaves them.
        padding: True where there is nothing; None where every pixel counts.
    """
    low, high = int(np.rint(hu.min())), int(np.rint(hu.max()))
    slope, intercept = 1, 0
    scaled = hu
    if low < INT16.min or high > INT16.max:
        # One stored value, the lowest, is kept free for padding.
        slope = max(1, math.ceil((high - low) / (INT16.max - INT16.min - 1)))
        intercept = low - (INT16.min + 1) * slope
        scaled = (hu.astype(np.float64) - intercept) / slope
    values = np.rint(scaled).astype(np.int16)
    if padding is None or not padding.any():
        return StoredPixels(values, slope, intercept, None)
    free = intercept == 0 and low > PADDING_HU
    value = PADDING_HU if free else int(INT16.min)
    np.copyto(values, value, where=padding)
    return StoredPixels(values, slope, intercept, value)


@dataclass(frozen=True)
class WrittenIdentity:
    """What tells a written slice from the others of its series."""

    sop_instance_uid: str
    series_uid: str
    instance_number: int


def verify_slice(path: Path, hu: VoxelsHU, padding: PaddingMask | None, plane: Plane) -> WrittenIdentity:
    """Read a classic slice with pydicom alone and compare it with what it was made of.

    Args:
        path: the file.
        hu: (rows, columns) that its values must give within half a slope where `padding` is not True.
        padding: where its values must be PixelPaddingValue, and nowhere else.
        plane: where its pixels must lie, to 1e-6 mm.

    Raises:
        ReadError: it cannot be read, or says something else.
    """
    try:
        ds = dcmread(path)
        stored, slope = ds.pixel_array, float(ds.RescaleSlope)
        origin, spacing = np.array(ds.ImagePositionPatient, float), np.array(ds.PixelSpacing, float)
        found = stored.astype(np.float64) * slope + float(ds.RescaleIntercept)
        empty = stored == ds.PixelPaddingValue if "PixelPaddingValue" in ds else np.zeros(stored.shape, np.bool_)
        written = WrittenIdentity(str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), int(ds.InstanceNumber))
        same_uid = ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    except MALFORMED as error:
        raise ReadError(f"{path}: cannot be read back: {one_line(error)}") from error
    if found.shape != hu.shape or found.shape != plane.shape:
        raise ReadError(f"{path}: read back, it has {found.shape} pixels, not {hu.shape}")
    if not np.array_equal(empty, np.zeros_like(empty) if padding is None else padding):
        raise ReadError(f"{path}: read back, its padding differs")
    if (np.abs(found - hu)[~empty] > slope / 2 + ROUNDING).any():
        raise ReadError(f"{path}: read back, its HU differ from those computed")
    if np.abs(origin - plane.origin).max() > MM_WITHIN or np.abs(spacing - plane.spacing).max() > MM_WITHIN:
        raise ReadError(f"{path}: read back, its geometry differs")
    if not same_uid:
        raise ReadError(f"{path}: read back, its file meta names another instance")
    return written


def _groups(source: Dataset, frame: int) -> Iterator[Dataset]:
    """The items of all functional groups that hold for a frame, shared ones first."""
    shared: list[Dataset] = list(source.get("SharedFunctionalGroupsSequence") or [])[:1]
    own: list[Dataset] = list(source.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for groups in (*shared, *own):
        for group in groups:
            if group.VR == VR.SQ and not group.tag.is_private and group.keyword not in GROUPS_LEFT_OUT and group.value:
                yield group.value[0]
