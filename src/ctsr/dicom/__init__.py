"""DICOM: files found by what they hold, and opened as far as their pixels. Nothing in this package imports torch."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import Dataset, FileDataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ctsr.errors import PASSED_ON, CtsrError, ReadError, boundary
from ctsr.files import cached_by_file, is_special
from ctsr.reporting import one_line, size

MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    AttributeError,
    EOFError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and the decoders raise on broken files; all of it means the same to us.

Much of it is what mistakes of our own raise as well: caught around calls of theirs only.
"""

PIXEL_DATA = (0x7FE0, 0x0010)
EIGHT_ZEROS = bytes(8)
PIXEL_VRS = {b"OW", b"OB", b"UN"}
ITEM = (0xFFFE, 0xE000)
ITEM_GROUPS = {b"\xfe\xff", b"\xff\xfe"}
"""How items of sequences begin, in either byte order: many in a row may be empty."""
UNDEFINED = 0xFFFFFFFF

HEAD_BYTES = 512
"""How much of a file `looks_like_dicom` wants to see."""

PREAMBLE_BYTES = 128
META_HEADER_BYTES = 16
"""The prefix DICM, and the element with the length of all that follows it in the file meta."""
META_BEGINS = b"DICM\x02\x00\x00\x00UL"
MOST_INFLATED = 2**29
"""Bytes of a deflated data set."""
MOST_REPEATS = 1000
"""Elements of one tag in a row; there is one of each."""
PATIENT_ID = BaseTag(0x00100020)
FIRST_GROUPS = {b"\x02\x00", b"\x08\x00", b"\x00\x08"}
"""Group numbers a data set without a preamble starts with: 0002 or 0008, little endian or big."""


@dataclass(frozen=True)
class PixelElement:
    """The value of PixelData in its file."""

    offset: int
    """Bytes from the start of the file."""
    length: int | None
    """Bytes; None for encapsulated (compressed) pixels, whose length is the sum of their items."""
    vr: str


@dataclass(frozen=True)
class OpenFile:
    """A file read as far as its pixels."""

    header: FileDataset
    """All elements except the pixels. Shared by all readers of the file: do not change it."""
    syntax: UID
    element: PixelElement | None
    """None where everything is deflated: then `header` holds the pixels too."""


@contextmanager
def quiet() -> Generator[None]:
    """Suppress pydicom's warnings: most are harmless, and what does harm raises an error of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reading(what: str = "") -> Generator[None]:
    """Turn what pydicom and the decoders raise into a `ReadError` that begins with `what`; `OSError` passes."""
    try:
        yield
    except (*PASSED_ON, CtsrError, OSError):
        raise
    except RecursionError as error:
        raise ReadError(f"{what}its sequences are nested too deeply; copy the file again") from error
    except BaseException as error:  # a panic of a decoder in Rust is no Exception
        raise ReadError(what + (one_line(error) or type(error).__name__)) from error


@reading()
def read_header(file: BinaryIO, tags: Sequence[BaseTag] | None = None) -> FileDataset:
    """The data set up to its pixels, with `tags` only or all; the file is left standing at the PixelData element.

    Raises:
        ReadError: it is not a data set.
    """
    _check_inflated_size(file)
    guarded = cast("BinaryIO", _Guarded(file))
    return dcmread(
        guarded,
        stop_before_pixels=True,
        specific_tags=None if tags is None else list(tags),
        force=True,
    )


class _Guarded:
    """A file in which elements end where it was never written, or the same one comes over and over.

    pydicom reads zeros as empty elements of eight bytes each, which takes hours in a large file that a copy reserved
    and did not fill. A value of eight zeros has a header before and behind it that is not zero.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = b""
        self._times = 0
        self.seek = file.seek
        self.tell = file.tell
        self.name = getattr(file, "name", "")

    def read(self, count: int = -1) -> bytes:
        """As every file does.

        Raises:
            ReadError: the second eight zeros in a row, or one element's header again and again.
        """
        content = self._file.read(count)
        if count == len(EIGHT_ZEROS):
            is_again = content[:4] == self._last and content[:2] not in ITEM_GROUPS
            self._times = self._times + 1 if is_again else 0
            if is_again and (content == EIGHT_ZEROS or self._times > MOST_REPEATS):
                what = "only zeros follow" if content == EIGHT_ZEROS else "it repeats one element without end"
                raise ReadError(f"{what}; copy the file again")
            self._last = content[:4]
        elif self._last == EIGHT_ZEROS[:4]:
            self._last = b""
        return content


def _check_inflated_size(file: BinaryIO) -> None:
    """Inflate a deflated data set in pieces, since pydicom takes memory for all of it at once.

    Raises:
        ReadError: it is larger than any image.
    """
    place = file.tell()
    head = file.read(2 * HEAD_BYTES)
    file.seek(place)
    # DICM, and the file meta's first element, which ends with the length of the others.
    first = head[PREAMBLE_BYTES : PREAMBLE_BYTES + META_HEADER_BYTES]
    if DeflatedExplicitVRLittleEndian.encode() not in head or first[:10] != META_BEGINS:
        return
    file.seek(place + PREAMBLE_BYTES + META_HEADER_BYTES + int.from_bytes(first[-4:], "little"))
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (content := inflater.unconsumed_tail or file.read(HEAD_BYTES * HEAD_BYTES)):
        inflated += len(inflater.decompress(content, MOST_INFLATED // 16))
        if inflated > MOST_INFLATED:
            raise ReadError(f"its deflated data set is larger than {size(MOST_INFLATED)}; export it again uncompressed")
    file.seek(place)


@cached_by_file(2)
def open_file(path: Path) -> OpenFile:
    """The file's header and where its pixels are; kept for its next frame, and for who derives a slice from it.

    Raises:
        ReadError: it is not a data set, or its encoding is not known.
    """
    with path.open("rb") as file:
        header = read_header(file)
        syntax = transfer_syntax(header)
        element = locate_pixels(file, syntax)
    with reading():
        return OpenFile(dcmread(path) if element is None else header, syntax, element)


def transfer_syntax(header: Dataset) -> UID:
    """As the file meta says; where that is missing, as the data set was found to be encoded.

    Raises:
        ReadError: no such encoding is known.
    """
    with reading():
        named = getattr(header, "file_meta", Dataset()).get("TransferSyntaxUID")
    if named:
        syntax = UID(str(named))
        if not syntax.is_transfer_syntax:
            raise ReadError(f"its transfer syntax is unknown: {syntax}")
        return syntax
    implicit, little = header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def locate_pixels(file: BinaryIO, syntax: UID) -> PixelElement | None:
    """The PixelData element that an open file stands at; None where there is none, or all is deflated."""
    if syntax == DeflatedExplicitVRLittleEndian:
        return None
    order = "<" if syntax.is_little_endian else ">"
    start = file.tell()
    head = file.read(12)
    if len(head) < 12 or struct.unpack(f"{order}HH", head[:4]) != PIXEL_DATA:
        return None
    # By the bytes, not by the transfer syntax: there are files whose data set is not encoded as they say.
    explicit = head[4:6] in PIXEL_VRS
    (length,) = struct.unpack(f"{order}L", head[8:12] if explicit else head[4:8])
    vr = head[4:6].decode("ascii") if explicit else "OW"
    return PixelElement(start + (12 if explicit else 8), None if length == UNDEFINED else length, vr)


def count_items(file: BinaryIO, element: PixelElement) -> int:
    """Count the items of encapsulated pixels, the table of offsets among them."""
    place, count = element.offset, 0
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return count
        group, number, length = struct.unpack("<HHL", head)
        if (group, number) != ITEM:
            return count
        place, count = place + 8 + length, count + 1


def missing_bytes(file: BinaryIO, element: PixelElement, expected: int) -> int:
    """How many bytes of the pixels the file is short of; `expected` counts uncompressed bytes of all frames.

    Encapsulated pixels that lack only the delimiter after their last fragment count as complete.
    """
    size = file.seek(0, 2)
    if element.length is not None:
        return max(0, element.offset + expected - size)
    place, items = element.offset, 0
    while True:
        file.seek(place)
        head = file.read(8)
        if not head and items > 1:  # the table of offsets and a fragment
            return 0
        if len(head) < 8:
            return 8 - len(head)
        items += 1
        group, number, length = struct.unpack("<HHL", head)
        if (group, number) != ITEM:
            return 0
        place += 8 + length
        if place > size:
            return place - size


def files_below(
    folder: Path, *, on_error: Callable[[OSError], object] | None = None, elsewhere: Collection[str] = ()
) -> Iterator[Path]:
    """Every file below `folder` in plain string order; hidden files and folders are not looked at.

    Symbolic links are followed, each real folder once.

    Args:
        folder: where to look.
        on_error: called for each folder that cannot be read, which is then skipped.
        elsewhere: real folders that belong to others; links to them and to files in them are not followed.
    """
    seen = set(elsewhere)
    for here, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            # Opening a pipe would wait for a writer for ever. What cannot be looked at, as a link that leads nowhere or
            # to itself, is reported when it is read.
            is_link = bool(elsewhere) and path.is_symlink() and path.exists()
            is_taken = is_link and str(Path(os.path.realpath(path)).parent) in elsewhere
            if not (name.startswith(".") or is_taken or is_special(path)):
                yield path


def real_folders(folder: Path) -> frozenset[str]:
    """The folders below `folder`, and itself, that no link leads to; none where it is a link itself."""
    if folder.is_symlink():
        return frozenset()
    return frozenset(os.path.realpath(here) for here, _, _ in os.walk(folder))


def looks_like_dicom(head: bytes) -> bool:
    """True for the first `HEAD_BYTES` of a DICOM file, and of a data set that was stored without its preamble."""
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return True
    return head[:2] in FIRST_GROUPS and _holds_an_element(head)


def patient_id_in(path: Path) -> str:
    """The header's PatientID; empty where there is none, or the file is no DICOM."""
    try:
        with path.open("rb") as file, quiet(), boundary(str(path)):
            if not looks_like_dicom(file.read(HEAD_BYTES)):
                return ""
            file.seek(0)
            header = read_header(file, [PATIENT_ID])
            return str(header.get("PatientID", "") or "").strip()
    except (ReadError, OSError):
        return ""


def _holds_an_element(head: bytes) -> bool:
    """The first element has a known VR, or (implicit VR) a length that stays small: identifying groups are short."""
    vr = head[4:6]
    if vr.isalpha() and vr.isupper():
        return True
    return head[:2] != b"\x00\x08" and 0 < int.from_bytes(head[4:8], "little") <= HEAD_BYTES
