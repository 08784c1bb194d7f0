"""Validation of the image pixel module (PS3.3 C.7.6.3), the same for every way in which pixels are decoded."""

import math
import struct
from collections.abc import Sequence
from typing import BinaryIO, cast

from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian

from ctsr.dicom.attributes import Attributes
from ctsr.dicom.reading import count_items, locate_pixels, missing_bytes

BITS_ALLOCATED = {8, 16, 32}
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers that give the size of a JPEG or JPEG-LS image (ISO 10918-1 table B.1, ISO 14495-1)."""
JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 code stream: SOC and SIZ (ISO 15444-1 A.5)."""


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
    if frames > 1 and not count and look.text("SOPClassUID") == CTImageStorage:
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
