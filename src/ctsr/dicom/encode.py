"""Encode a data set as the bytes of a file in Explicit VR Little Endian.

The bytes are those of pydicom's own writer, at a sixth of its time (docs/decisions/0016-dicom-writer.md): nearly every
element of a derived slice is still as it was read, and is written as it was read.
"""

import struct
from collections.abc import Iterator
from functools import cache
from io import BytesIO

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR, format_number_as_ds

from ctsr.hashing import derived_uid

CharacterSet = str | list[str] | None

IMPLEMENTATION_CLASS_UID = derived_uid("ctsr", "implementation class")
"""Names this program in the file meta; the same for every version of ctsr."""
IMPLEMENTATION_VERSION_NAME = "CTSR_0.1"
"""The version that wrote a file; at most 16 characters."""
PREAMBLE = b"\0" * 128 + b"DICM"
GROUP_LENGTH = BaseTag(0x00020000)
"""Of the file meta: the first element, and the only one of its kind that is still written."""
LAST_GROUP_WITH_LENGTH = 0x0006
"""Groups up to this one keep their length element: they are file meta and messages, not data sets."""
EXPLICIT_LITTLE = (False, True)
"""`Dataset.original_encoding`: not implicit, little endian."""
ITEM = struct.Struct("<HHL")
SHORT_HEAD, LONG_HEAD = struct.Struct("<HH2sH"), struct.Struct("<HH2sHL")
"""PS3.5 7.1.2: most VRs have a length of 16 bits, some two reserved bytes and one of 32."""
UNDEFINED = 0xFFFFFFFF


def file_bytes(dataset: Dataset, meta: FileMetaDataset) -> bytes:
    """Preamble, file meta and data set; the errors are those of pydicom's writer (`MALFORMED`)."""
    described = b"".join(_elements(meta, None))
    length = _framed(GROUP_LENGTH, VR.UL, struct.pack("<L", len(described)))
    if dataset.original_encoding != EXPLICIT_LITTLE:
        correct_ambiguous_vr(dataset, True)
    return b"".join((PREAMBLE, length, described, *_elements(dataset, None)))


def element_bytes(dataset: Dataset, tag: BaseTag, charset: CharacterSet) -> bytes:
    """One element, whatever it takes to encode it."""
    stream = _stream()
    write_data_element(stream, dataset[tag], charset)
    return stream.getvalue()


def file_meta(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> FileMetaDataset:
    """What a file of ours says of itself before its data set, which has its SOP class and instance already."""
    meta = FileMetaDataset()
    put(
        meta,
        binary("FileMetaInformationVersion", VR.OB, b"\0\1"),
        text("MediaStorageSOPClassUID", VR.UI, dataset.SOPClassUID),
        text("MediaStorageSOPInstanceUID", VR.UI, dataset.SOPInstanceUID),
        text("TransferSyntaxUID", VR.UI, syntax),
        text("ImplementationClassUID", VR.UI, IMPLEMENTATION_CLASS_UID),
        text("ImplementationVersionName", VR.SH, IMPLEMENTATION_VERSION_NAME),
    )
    return meta


def put(dataset: Dataset, *elements: RawDataElement) -> None:
    """Set elements from `text` and `binary`."""
    for element in elements:
        dataset[element.tag] = element


def text(keyword: str, vr: VR, *values: str) -> RawDataElement:
    """An element of ASCII values as if it had been read from a file: it goes out with no more ado."""
    content = "\\".join(values).encode("ascii", "replace")
    return binary(keyword, vr, content + (b"\0" if vr == VR.UI else b" ") * (len(content) % 2))


def binary(keyword: str, vr: VR, value: bytes) -> RawDataElement:
    """The same of an element whose bytes, an even number in little endian, are known."""
    return RawDataElement(_tag(keyword), vr, len(value), value, 0, *EXPLICIT_LITTLE)


def settled(item: Dataset) -> Dataset:
    """An item made here, of ASCII values, as if it had been read from a file."""
    content = b"".join(_elements(item, None))
    return read_dataset(BytesIO(content), *EXPLICIT_LITTLE)


@cache
def _tag(keyword: str) -> BaseTag:
    return BaseTag(tag_for_keyword(keyword) or 0)


def decimal_string(number: float) -> str:
    """A value of VR DS, at most 16 characters: as many digits as those hold, and no negative zero."""
    return format_number_as_ds(number + 0.0)


def _stream() -> DicomBytesIO:
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = EXPLICIT_LITTLE
    return stream


def _elements(dataset: Dataset, outer: CharacterSet) -> Iterator[bytes]:
    charset: CharacterSet = dataset.get("SpecificCharacterSet") or outer
    # As plain numbers: comparing pydicom's tags takes many times as long.
    for tag, element in sorted(dataset.items(), key=lambda entry: int(entry[0])):
        if _is_group_length(int(tag)):
            continue
        if isinstance(element, RawDataElement):
            unchanged = (element.is_implicit_VR, element.is_little_endian) == EXPLICIT_LITTLE
            whole = unchanged and element.value is not None and element.length != UNDEFINED
            yield (
                _framed(tag, element.VR or VR.UN, element.value or b"")
                if whole
                else element_bytes(dataset, tag, charset)
            )
        elif element.VR == VR.SQ:
            yield _framed(tag, VR.SQ, b"".join(_items(element.value, charset)))
        else:
            yield element_bytes(dataset, tag, charset)


def _is_group_length(tag: int) -> bool:
    """True for the retired (gggg,0000), which would be wrong as soon as its group changes (PS3.5 7.2)."""
    return tag & 0xFFFF == 0 and tag >> 16 > LAST_GROUP_WITH_LENGTH


def _items(sequence: list[Dataset], charset: CharacterSet) -> Iterator[bytes]:
    for item in sequence:
        content = b"".join(_elements(item, charset))
        yield ITEM.pack(0xFFFE, 0xE000, len(content))
        yield content


def _framed(tag: BaseTag, vr: str, value: bytes) -> bytes:
    name = vr.encode("ascii")
    if vr in EXPLICIT_VR_LENGTH_32:
        return LONG_HEAD.pack(tag.group, tag.element, name, 0, len(value)) + value
    return SHORT_HEAD.pack(tag.group, tag.element, name, len(value)) + value
