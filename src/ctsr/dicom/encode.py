"""From HU to the bytes of a derived slice: header and stored integers, lossless compression, file, reading back.

The bytes are those of pydicom's own writer, at a sixth of its time (docs/decisions/0016-dicom-writer.md): nearly every
element of a derived slice is still as it was read, and is written as it was read.
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.datadict import dictionary_is_retired, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.pixels.encoders.base import Encoder, get_encoder
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, HTJ2KLossless, JPEGLSLossless, RLELossless
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR, format_number_as_ds

from ctsr.dicom import MALFORMED, open_file
from ctsr.dicom.attributes import GROUPS_LEFT_OUT, NOT_OF_A_SLICE, RENAMED, SHOWN_AS, Attributes
from ctsr.dicom.pixels import LOSSY, decoder_for
from ctsr.errors import ReadError, UsageError
from ctsr.hashing import derived_uid
from ctsr.reporting import one_line
from ctsr.series import SliceHeader
from ctsr.volume import Orientation, PaddingMask, Plane, VoxelsHU, orientation_of

CharacterSet = str | list[str] | None

IMPLEMENTATION_CLASS_UID = derived_uid("ctsr", "implementation class")
"""Names this program in the file meta; the same for every version of ctsr."""
IMPLEMENTATION_VERSION_NAME = "CTSR_0.1"
"""The version that wrote a file; at most 16 characters."""
PREAMBLE = b"\0" * 128 + b"DICM"
GROUP_LENGTH = BaseTag(0x00020000)
"""Group length of the file meta: its first element, and the only group length that is still written."""
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
    """An item made here as if it had been read from a file, where its texts are the same in every character set."""
    if not all(str(element.value).isascii() for element in item):
        return item
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


Compression = Literal["none", "rle", "jpegls", "htj2k"]
SYNTAXES: dict[Compression, UID] = {
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "htj2k": HTJ2KLossless,
}
"""The transfer syntax of each."""
PIXEL_DATA = 0x7FE00010

Pixels = npt.NDArray[np.int16]


def compress(dataset: Dataset, method: Compression) -> None:
    """Compress the pixels of a slice from `ctsr.dicom.write.derive_slice`, and say so in its file meta.

    What was compressed is decoded again and compared, bit for bit.

    Args:
        dataset: holds signed 16-bit pixels, little endian; changed.
        method: `none` leaves it as it is.

    Raises:
        UsageError: the installed libraries cannot encode it.
        ReadError: it comes back changed.
    """
    if method == "none":
        return
    content = bytes(dataset[PIXEL_DATA].value)
    pixels = np.frombuffer(content, "<i2").reshape(int(dataset.Rows), int(dataset.Columns))
    if method == "htj2k":
        encoded = bytes(_htj2k_encode()(pixels, reversible=True))
    else:
        encoded = _encoder(SYNTAXES[method]).encode(pixels, **_described(pixels.shape))
    if not np.array_equal(_decoded(encoded, pixels.shape, SYNTAXES[method]), pixels):
        raise ReadError(f"pixels compressed as {method} decode to other values; choose another method, or none")
    element = DataElement(PIXEL_DATA, VR.OB, encapsulate([encoded]))
    element.is_undefined_length = True
    dataset[PIXEL_DATA] = element
    dataset.file_meta = file_meta(dataset, SYNTAXES[method])


def check_encoder(method: Compression) -> None:
    """Say that pixels cannot be compressed so, before any are computed.

    Raises:
        UsageError: the installed libraries cannot encode it.
    """
    if method == "htj2k":
        _htj2k_encode()
    elif method != "none":
        _encoder(SYNTAXES[method])


def _encoder(syntax: UID) -> Encoder:
    encoder = get_encoder(syntax)
    if not encoder.is_available:
        raise UsageError(f"`compress`: no encoder of {syntax.name} is installed; choose another")
    return encoder


def _decoded(encoded: bytes, shape: tuple[int, ...], syntax: UID) -> npt.NDArray[Any]:
    words: dict[str, Any] = {**_described(shape), "pixel_keyword": "PixelData", "raw": True}
    pixels, _ = decoder_for(syntax).as_array(encapsulate([encoded]), **words)
    return pixels


def _described(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "rows": shape[0],
        "columns": shape[1],
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": 16,
        "bits_stored": 16,
        "pixel_representation": 1,
        "photometric_interpretation": "MONOCHROME2",
    }


def _htj2k_encode() -> Callable[..., bytes]:
    # Imported here because it takes longer to load than most results need it.
    import imagecodecs

    encode = cast("Callable[..., bytes] | None", getattr(imagecodecs, "htj2k_encode", None))
    if encode is None or not imagecodecs.HTJ2K.available:
        raise UsageError("`compress`: the installed imagecodecs cannot encode HTJ2K; update it, or choose another")
    return encode


MAY_BE_EMPTY = ("KVP", "AcquisitionNumber", "SliceThickness", "PositionReferenceIndicator")
"""Attributes a classic CT slice must have, if only empty."""

PADDING_HU = -2048
"""What padding is stored as where no pixel of the slice is that low; below air, so that any viewer shows it black."""
INT16 = np.iinfo(np.int16)

MM_WITHIN = 1e-6
COSINES_WITHIN = 1e-6
ROUNDING = 1e-3
"""HU that float32 may add to half a slope."""


def slice_header(source: SliceHeader) -> Dataset:
    """What a slice's file says of it, as the header of a classic slice: what `ctsr.dicom.write.derive_slice` takes.

    Without windows where its HU were corrected: these may have been meant for the values before or after.

    Raises:
        ReadError: the file is gone or cannot be parsed.
    """
    file = open_file(source.path)
    header = file.header
    enhanced = "SharedFunctionalGroupsSequence" in header or source.frame is not None
    header = classic_frame(header, source.frame or 0) if enhanced else header
    header = header[:]  # the file's own is kept for others
    if file.syntax in LOSSY and header.get("LossyImageCompression") != "01":
        # Stored without loss, the result would no longer show it.
        put(header, text("LossyImageCompression", VR.CS, "01"))
    if Attributes(header).rescale != (source.rescale_slope, source.rescale_intercept):
        for keyword in SHOWN_AS:
            header.pop(keyword, None)
    return header


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
    """What tells a written slice from the others of its series, and what it has in common with them."""

    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    """Empty where there is none."""
    instance_number: int


def verify_slice(path: Path, hu: VoxelsHU, padding: PaddingMask | None, plane: Plane) -> WrittenIdentity:
    """Read a classic slice with pydicom alone and compare it with what it was made of.

    Args:
        path: the file.
        hu: (rows, columns) that its values must give within half a slope where `padding` is not True.
        padding: where its values must be PixelPaddingValue, and nowhere else.
        plane: where its pixels must lie, to 1e-6 mm, and which way round.

    Raises:
        ReadError: it cannot be read, or says something else.
    """
    try:
        ds = dcmread(path)
        stored, slope = ds.pixel_array, float(ds.RescaleSlope)
        origin, spacing = np.array(ds.ImagePositionPatient, float), np.array(ds.PixelSpacing, float)
        same_way = is_orientation(ds.ImageOrientationPatient, orientation_of(plane))
        found = stored.astype(np.float64) * slope + float(ds.RescaleIntercept)
        empty = stored == ds.PixelPaddingValue if "PixelPaddingValue" in ds else np.zeros(stored.shape, np.bool_)
        written = WrittenIdentity(
            sop_instance_uid=str(ds.SOPInstanceUID),
            series_uid=str(ds.SeriesInstanceUID),
            study_uid=str(ds.StudyInstanceUID),
            frame_of_reference_uid=str(ds.get("FrameOfReferenceUID", "")),
            instance_number=int(ds.InstanceNumber),
        )
        same_uid = ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    except MALFORMED as error:
        raise ReadError(f"{path}: cannot be read back: {one_line(error)}") from error
    if found.shape != hu.shape or found.shape != plane.shape:
        raise ReadError(f"{path}: read back, it has {found.shape} pixels, not {hu.shape}")
    if not np.array_equal(empty, np.zeros_like(empty) if padding is None else padding):
        raise ReadError(f"{path}: read back, its padding differs")
    if (np.abs(found - hu)[~empty] > slope / 2 + ROUNDING).any():
        raise ReadError(f"{path}: read back, its HU differ from those computed")
    same_place = np.abs(origin - plane.origin).max() <= MM_WITHIN and np.abs(spacing - plane.spacing).max() <= MM_WITHIN
    if not (same_place and same_way):
        raise ReadError(f"{path}: read back, its geometry differs")
    if not same_uid:
        raise ReadError(f"{path}: read back, its file meta names another instance")
    return written


def is_orientation(written: Iterable[object], orientation: Orientation) -> bool:
    """Whether a header's ImageOrientationPatient is this one, to a millionth."""
    try:
        cosines = [float(str(cosine)) for cosine in written]
    except ValueError:
        return False
    return len(cosines) == len(orientation) and bool(np.allclose(cosines, orientation, rtol=0, atol=COSINES_WITHIN))


def _groups(source: Dataset, frame: int) -> Iterator[Dataset]:
    """The items of all functional groups that hold for a frame, shared ones first."""
    shared: list[Dataset] = list(source.get("SharedFunctionalGroupsSequence") or [])[:1]
    own: list[Dataset] = list(source.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for groups in (*shared, *own):
        for group in groups:
            if group.VR == VR.SQ and not group.tag.is_private and group.keyword not in GROUPS_LEFT_OUT and group.value:
                yield group.value[0]
