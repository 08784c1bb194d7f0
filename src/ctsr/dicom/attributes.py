"""Attributes of one image, wherever its object keeps them: at the top, or in the functional groups of a frame."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from ctsr.dicom.reading import MALFORMED
from ctsr.errors import ReadError
from ctsr.text import one_line

GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
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
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
}
"""The functional group macro of enhanced objects (PS3.3 C.7.6.16) that holds each attribute."""


PLAIN = {"CS", "DA", "DS", "IS", "TM", "UI"}
"""VRs whose values are ASCII text in the file, several parted by backslashes."""


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
                for item in (self.frame, self.shared):
                    group = cast("Sequence[Dataset] | None", _value(item, GROUPS[name]))
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
            numbers = tuple(float(str(number)) for number in values)
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


def _value(item: Dataset | None, name: str) -> object:
    # By tag: looking a keyword up that is not there costs pydicom an exception.
    tag = _tag(name)
    return item[tag].value if item is not None and tag in item else None


@cache
def _tag(name: str) -> BaseTag:
    return BaseTag(tag_for_keyword(name) or 0)


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
