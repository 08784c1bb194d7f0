"""The header of one slice: that of a classic file, or of a frame of a multi-frame object as if it were one."""

from collections.abc import Iterator

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import VR

from ctsr.dicom.reading import open_file
from ctsr.series import SliceHeader

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

    Everything of the object itself, then of the functional groups shared by all frames, then of the frame's own;
    `source` is not changed. SOP class and instance stay those of the object: `derive_slice` replaces them.
    """
    header = source[:]
    for keyword in NOT_OF_A_SLICE:
        if keyword in header:
            del header[keyword]
    for group in _groups(source, frame):
        for element in group:
            keyword = RENAMED.get(element.keyword, element.keyword)
            if not keyword or keyword in NOT_OF_A_SLICE:
                continue
            vr = dictionary_VR(keyword)
            value = round(element.value) if vr == VR.IS and element.VR == VR.FD else element.value
            header.add_new(keyword, vr, value)
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            header.add_new(keyword, dictionary_VR(keyword), None)
    return header


def _groups(source: Dataset, frame: int) -> Iterator[Dataset]:
    """The items of all functional groups that hold for a frame, shared ones first."""
    shared: list[Dataset] = list(source.get("SharedFunctionalGroupsSequence") or [])[:1]
    own: list[Dataset] = list(source.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for groups in (*shared, *own):
        for group in groups:
            if group.VR == VR.SQ and not group.tag.is_private and group.keyword not in GROUPS_LEFT_OUT and group.value:
                yield group.value[0]
