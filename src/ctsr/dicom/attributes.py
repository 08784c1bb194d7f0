"""Attributes of one image, wherever its object keeps them, and validation of its pixel module (PS3.3 C.7.6.3)."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import BinaryIO, cast

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ctsr.dicom import MALFORMED, count_items, locate_pixels, missing_bytes
from ctsr.errors import ReadError
from ctsr.reporting import one_line

EQUIPMENT = "ContributingEquipmentSequence"
GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "GantryDetectorTilt": "CTAcquisitionDetailsSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "FrameReferenceDateTime": "FrameContentSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}
"""The functional group macro of enhanced objects (PS3.3 C.7.6.16) that holds each attribute."""

UNASSIGNED: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("ConvolutionKernel", "GantryDetectorTilt"),
    ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence"),
)
"""Where else converted objects keep what they were not sure of (PS3.3 C.7.6.16.2.25)."""

STALE = frozenset(
    {
        # What describes the source's pixels.
        "BluePaletteColorLookupTableData", "BluePaletteColorLookupTableDescriptor", "ContentDate", "ContentTime",
        "DataSetTrailingPadding", "DigitalSignaturesSequence", "FrameIncrementPointer",
        "GreenPaletteColorLookupTableData", "GreenPaletteColorLookupTableDescriptor", "IconImageSequence",
        "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "LargestImagePixelValue",
        "LargestImagePixelValueInPlane", "LargestPixelValueInSeries", "MACParametersSequence", "ModalityLUTSequence",
        "NumberOfFrames", "PixelAspectRatio", "PixelPaddingRangeLimit", "PixelPaddingValue", "PlanarConfiguration",
        "PresentationLUTShape", "RealWorldValueMappingSequence", "ReconstructionPixelSpacing",
        "RedPaletteColorLookupTableData", "RedPaletteColorLookupTableDescriptor", "SeriesDate", "SeriesTime",
        "SmallestImagePixelValue", "SmallestImagePixelValueInPlane", "SmallestPixelValueInSeries", "VOILUTSequence",
        # What was drawn on them, and is left out.
        "CurveDate", "CurveTime", "OverlayDate", "OverlayTime",
        # How many images the source was one of.
        "ImagesInAcquisition", "ImagesInSeries", "ImagesInStudy", "NumberOfPatientRelatedInstances",
        "NumberOfPatientRelatedSeries", "NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedInstances",
        "NumberOfStudyRelatedSeries", "SeriesInStudy",
        # In which series the images are found that it refers to, which are others than those of the result: a list of
        # all frames' sources in each slice.
        "ReferencedImageEvidenceSequence", "ReferencedSeriesSequence", "SourceImageEvidenceSequence",
        "StudiesContainingOtherReferencedInstancesSequence",
        # Where it is kept.
        "AvailableTransferSyntaxUID", "InstanceAvailability", "RetrieveAETitle", "RetrieveLocationUID", "RetrieveURI",
        "RetrieveURL", "StorageMediaFileSetID", "StorageMediaFileSetUID",
    }
)  # fmt: skip
"""What is true of an image and would be false of one that is made of it."""

SHOWN_AS = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
"""How values are to be shown, which are HU by the rescale of the same header."""

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

PLAIN = {"CS", "DA", "DS", "IS", "TM", "UI"}
"""VRs whose values are ASCII text in the file, several parted by backslashes."""

BITS_ALLOCATED = {8, 16, 32}
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers that give the size of a JPEG or JPEG-LS image (ISO 10918-1 table B.1, ISO 14495-1)."""
JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 code stream: SOC and SIZ (ISO 15444-1 A.5)."""


@dataclass(frozen=True)
class Attributes:
    """One image's attributes: those of its frame, else those all frames share, else those of the object."""

    header: Dataset
    shared: Dataset | None = None
    frame: Dataset | None = None

    def get(self, name: str) -> object:
        """The value as pydicom has it; None where it is missing or empty.

        Raises:
            ReadError: it is not encoded as its VR asks for. pydicom finds that out here, not when it reads the file.
        """
        try:
            if name in GROUPS:
                for item, sequence in product((self.frame, self.shared), (GROUPS[name], *UNASSIGNED.get(name, ()))):
                    group = cast("Sequence[Dataset] | None", _value(item, sequence))
                    if group and (value := _value(group[0], name)) is not None:
                        return value
            return _value(self.header, name)
        except MALFORMED as error:
            raise ReadError(f"{name} cannot be read: {one_line(error)}") from error

    def text(self, name: str) -> str:
        """Without the blanks around it; empty where it is missing."""
        written = self._as_written(name)
        if written is not None and "\\" not in written:
            return written
        value = self.get(name)
        return "" if value is None else str(value).strip(" \0")

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a multi-valued text."""
        value = self.get(name)
        if value is None:
            return ()
        several = isinstance(value, Sequence) and not isinstance(value, str)
        values = list(cast("Sequence[object]", value)) if several else [value]
        return tuple(str(word).strip(" \0") for word in values)

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        """`count` finite numbers; None where there are fewer or more, or they are not numbers."""
        try:
            value = self._as_written(name) or self.get(name)
            if isinstance(value, str):
                value = value.split("\\")
            values = [value] if isinstance(value, (float, int)) else list(cast("Sequence[object]", value))
            numbers = tuple(_number(str(number)) for number in values)
        except (ReadError, TypeError, ValueError):
            return None
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None

    def number(self, name: str) -> float | None:
        """One finite number; None where there is none."""
        numbers = self.numbers(name, 1)
        return numbers[0] if numbers else None

    def _as_written(self, name: str) -> str | None:
        """The text at the top of the object as the file has it, None where it takes pydicom to read it.

        The same text in a tenth of the time, for a scan's dozens of attributes in thousands of files.
        """
        element = None if name in GROUPS and (self.frame or self.shared) else self.header.get_item(_tag(name))
        if not isinstance(element, RawDataElement) or element.VR not in PLAIN or not element.value:
            return None
        return element.value.decode("ascii", "replace").strip(" \0")

    def whole(self, name: str) -> int | None:
        """One whole number; None where there is none."""
        number = self.number(name)
        return None if number is None or number != int(number) else int(number)

    @property
    def rescale(self) -> tuple[float, float] | tuple[None, None]:
        """RescaleSlope and RescaleIntercept; None for both where one is missing or the slope is 0."""
        slope, intercept = self.number("RescaleSlope"), self.number("RescaleIntercept")
        return (None, None) if not slope or intercept is None else (slope, intercept)

    def contributors(self) -> tuple[tuple[str, str], ...]:
        """Manufacturer and model of whatever had a part in the image; none where they cannot be read."""
        try:
            items = cast("Sequence[Dataset]", self.get(EQUIPMENT) or ())
            return tuple((_word(item, "Manufacturer"), _word(item, "ManufacturerModelName")) for item in items)
        except (ReadError, *MALFORMED):
            return ()


def _number(text: str) -> float:
    """A number as DICOM writes it; Python would take `1_0` for 10.

    Raises:
        ValueError: it is none.
    """
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _word(item: Dataset, name: str) -> str:
    return str(item.get(name) or "").strip(" \0")


def frames_of(header: Dataset) -> Iterator[tuple[int | None, Attributes]]:
    """(frame index, attributes) of every image in the object; the index is None for a classic single-slice file."""
    look = Attributes(header)
    shared = cast("Sequence[Dataset] | None", look.get("SharedFunctionalGroupsSequence"))
    per_frame = cast("Sequence[Dataset] | None", look.get("PerFrameFunctionalGroupsSequence"))
    count = look.whole("NumberOfFrames") or 1
    if not per_frame and count == 1:
        yield None, Attributes(header, shared[0] if shared else None)
        return
    for index in range(count):
        frame = per_frame[index] if per_frame and index < len(per_frame) else None
        yield index, Attributes(header, shared[0] if shared else None, frame)


def pixel_module_problem(look: Attributes) -> str:
    """Say what in the image pixel module contradicts itself; empty where nothing does.

    HighBit is one less than BitsStored, or in old files that of the highest bit (values shifted to the top).
    """
    if not all(look.whole(name) for name in ("Rows", "Columns", "BitsAllocated")):
        return "the header is cut short or does not say the image's size"
    if (look.whole("SamplesPerPixel") or 1) != 1:
        return ""  # left out as a colour image
    allocated, sign = look.whole("BitsAllocated") or 0, look.whole("PixelRepresentation")
    stored = allocated if (given := look.whole("BitsStored")) is None else given
    high = look.whole("HighBit")
    if allocated not in BITS_ALLOCATED:
        return f"BitsAllocated is {allocated}, not 8, 16 or 32"
    if not 1 <= stored <= allocated:
        return f"BitsStored is {stored} where BitsAllocated is {allocated}"
    if high is not None and high not in {stored - 1, allocated - 1}:
        return f"HighBit is {high} where BitsStored is {stored}: its values could be of either size"
    if sign not in {0, 1}:
        return "PixelRepresentation is missing or neither 0 nor 1: its values may have a sign or not"
    return ""


def frames_problem(look: Attributes) -> str:
    """Say why an object's frames cannot be told; empty where they can."""
    frames = look.whole("NumberOfFrames") or 1
    per_frame = look.get("PerFrameFunctionalGroupsSequence")
    count = len(cast("Sequence[object]", per_frame)) if per_frame else 0
    if frames < 1:
        return f"NumberOfFrames is {frames}"
    if count and count != frames:
        return f"NumberOfFrames is {frames}, but there are functional groups of {count} frames"
    if frames > 1 and not count:
        # SpacingBetweenSlices does not say which way the frames go: placing them by it could turn a patient over.
        return f"it holds {frames} frames at one position: export each as a slice of its own"
    return ""


def pixel_data_problem(look: Attributes, file: BinaryIO, syntax: UID) -> str:
    """Say how the pixel data contradict the header, as far as their length tells; empty where they do not.

    Args:
        look: the object's attributes, valid by `pixel_module_problem`.
        file: standing at the PixelData element.
        syntax: the file's transfer syntax.
    """
    if syntax == DeflatedExplicitVRLittleEndian:
        return ""
    element = locate_pixels(file, syntax)
    if element is None:
        return "it holds no pixel data"
    frames = look.whole("NumberOfFrames") or 1
    size = [look.whole(name) or 0 for name in ("Rows", "Columns", "BitsAllocated")]
    expected = math.prod(size) // 8 * frames * (look.whole("SamplesPerPixel") or 1)
    missing = missing_bytes(file, element, expected)
    if element.length is not None:
        missing = max(missing, expected - element.length)
    if missing:
        return f"the pixel data ends {missing} bytes early; copy the file again"
    if element.length is not None and element.length > expected + expected % 2:
        return f"its pixel data has {element.length} bytes where Rows, Columns and frames make {expected}"
    if element.length is None and frames > 1 and (found := count_items(file, element) - 1) < frames:
        return f"NumberOfFrames is {frames}, but there are {found} fragments of pixel data"
    return ""


def code_stream_size(stream: bytes) -> tuple[int, int] | None:
    """Read rows and columns from a JPEG, JPEG-LS or JPEG 2000 code stream; None where it does not say."""
    if stream.startswith(JPEG_2000) and len(stream) >= 24:
        right, bottom, left, top = struct.unpack(">4L", stream[8:24])
        return bottom - top, right - left
    place = 2
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        if stream[place + 1] == 0xFF:  # fill byte
            place += 1
        elif stream[place + 1] in START_OF_FRAME:
            rows, columns = struct.unpack(">HH", stream[place + 5 : place + 9])
            return (rows, columns) if rows else None
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def _value(item: Dataset | None, name: str) -> object:
    # By tag: looking a keyword up that is not there costs pydicom an exception.
    tag = _tag(name)
    return item[tag].value if item is not None and tag in item else None


@cache
def _tag(name: str) -> BaseTag:
    return BaseTag(tag_for_keyword(name) or 0)
