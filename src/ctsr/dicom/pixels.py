"""One DICOM image's pixels as HU: decoded, also where pydicom cannot do it alone, rescaled, padding found.

This module is also the decoder plugin itself: pydicom imports it by name and asks it for `is_available` and `decode`.
"""

import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from ctsr.dicom import OpenFile, open_file, quiet, reading
from ctsr.dicom.attributes import Attributes, code_stream_size, pixel_module_problem
from ctsr.errors import ReadError
from ctsr.padding import ABOVE_AIR, SlicePixels, connected_to_border, is_below_air, outside_reconstruction
from ctsr.series import SliceHeader
from ctsr.volume import PaddingMask, VoxelsHU

NAME = "ctsr"
LOSSLESS = (JPEGLossless, JPEGLosslessSV1)
DECODER_DEPENDENCIES = dict.fromkeys((*LOSSLESS, JPEGExtended12Bit), ("imagecodecs",))
"""What pydicom shows where a decoder is missing."""

RETIRED = {
    UID("1.2.840.10008.1.2.4.53"): JPEGExtended12Bit,  # spectral selection, process 6 & 8
    UID("1.2.840.10008.1.2.4.55"): JPEGExtended12Bit,  # full progression, process 10 & 12
}
"""Retired transfer syntaxes that pydicom does not know; the code stream says itself how it is coded."""

LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, *RETIRED}
"""Transfer syntaxes that lose something by themselves; JPEG 2000 may or may not."""


def is_available(uid: str) -> bool:
    """Whether `decode` handles this transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode(src: bytes, runner: DecodeRunner) -> bytes:
    """One frame's code stream → its pixels, little endian, in the size the code stream says."""
    # Imported here because it takes longer to load than most exams need it.
    import imagecodecs

    lossless = runner.transfer_syntax in LOSSLESS
    pixels = imagecodecs.jpegsof3_decode(src) if lossless else imagecodecs.jpeg8_decode(src)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.tobytes()


@cache
def decoder_for(uid: UID) -> Decoder:
    """The decoder of a transfer syntax, ours among its plugins.

    Raises:
        NotImplementedError: there is no decoder for it.
    """
    known = RETIRED.get(uid, uid)
    decoder = get_decoder(known)
    if known in DECODER_DEPENDENCIES and NAME not in decoder.available_plugins:
        decoder.add_plugin(NAME, (__name__, "decode"))
    return decoder


WITH_END = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes}
"""Transfer syntaxes whose code streams end with `END_OF_IMAGE`; decoders make images of what lacks it."""
END_OF_IMAGE = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS, EOC of JPEG 2000."""
LONGEST_TAIL = 16
"""Bytes at the end of a stream in which it is looked for: an even length asks for a byte of padding, some pad more."""

RUNNING_OVER = 1e-3
"""Share of neighbours between which values run over, beyond what a few odd pixels make."""

CUT_PIXELS, ALIKE = 32, 0.4
"""Pixels beside the end of a row that was cut that are looked at, and how much rows differ at most, of their values."""

StoredPixels = npt.NDArray[np.integer[Any]]

PLAIN = {ImplicitVRLittleEndian, ExplicitVRLittleEndian}
TRUE_TO_SIZE = {*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes}
"""Transfer syntaxes whose code stream carries no unused bits; pydicom has seen to their sign already."""


def read_pixels(image: SliceHeader, *, assume_hu: bool = False) -> SlicePixels:
    """Decode one image into HU and find its padding.

    Args:
        image: where it is and how its stored values become HU.
        assume_hu: take stored values for HU where the header gives no rescale.

    Raises:
        ReadError: the pixels cannot be decoded, or there is no rescale.
    """
    slope, intercept = _rescale(image, assume_hu)
    try:
        with quiet():
            source = open_file(image.path)
            look = Attributes(source.header)
            if problem := pixel_module_problem(look):
                raise ReadError(problem)
            raw = _decode(source, image.path, image.frame or 0)
            _check_size("decoded it", raw.shape, look)
            stored = raw if source.syntax in TRUE_TO_SIZE else _without_unused_bits(raw, look)
            hu = _to_hu(stored, slope, intercept)
            if look.text("PhotometricInterpretation") == "MONOCHROME1":
                hu = _upright(hu, stored, look, slope, intercept)
            return SlicePixels.from_padded(hu, _padding(hu, raw, stored, look, slope, intercept))
    except OSError as error:
        raise ReadError(f"{image.path}: {error.strerror or error}; check that the file is still there") from error
    except ReadError as error:
        raise ReadError(
            f"{image.path}: cannot decode the pixels: {error}. Export the file again, uncompressed if possible."
        ) from error


def _rescale(image: SliceHeader, assume_hu: bool) -> tuple[float, float]:
    if image.rescale_slope is not None and image.rescale_intercept is not None:
        return image.rescale_slope, image.rescale_intercept
    if assume_hu:
        return 1.0, 0.0
    raise ReadError(
        f"{image.path}: no RescaleSlope and RescaleIntercept, so its stored values are not known to be HU. "
        "Pass `assume_hu` if they are."
    )


@reading()
def _decode(source: OpenFile, path: Path, frame: int) -> StoredPixels:
    """(rows, columns), as allocated: nothing done about unused bits."""
    plain = _decode_plain(source, path, frame)
    if plain is not None:
        return plain
    decoder = decoder_for(source.syntax)
    if source.element is None:
        pixels, _ = decoder.as_array(source.header, index=frame, raw=True, **_options(source))
        return pixels
    with path.open("rb") as file:
        file.seek(source.element.offset)
        if source.element.length is None:
            frames = Attributes(source.header).whole("NumberOfFrames") or 1
            stream = get_frame(file, frame, number_of_frames=frames)
            if source.syntax in WITH_END and END_OF_IMAGE not in stream[-LONGEST_TAIL:]:
                raise ReadError("the compressed stream has no end: it is cut short or damaged")
            if source.syntax == RLELossless:
                _check_segments(stream, Attributes(source.header))
            size = code_stream_size(stream)
            _check_size("the compressed stream", size, Attributes(source.header))
            file.seek(source.element.offset)
        pixels, _ = decoder.as_array(file, index=frame, raw=True, **_options(source))
    return pixels


def _check_size(what: str, size: tuple[int, ...] | None, look: Attributes) -> None:
    """Compare the size of what is decoded with the header's.

    Raises:
        ReadError: they differ.
    """
    expected = look.whole("Rows"), look.whole("Columns")
    if size is not None and size != expected:
        raise ReadError(f"{what} has {size} pixels where Rows and Columns say {expected}")


def _check_segments(stream: bytes, look: Attributes) -> None:
    """Compare what run-length encoded segments hold with Rows and Columns (PS3.5 G): the decoder dies of more.

    Raises:
        ReadError: a segment holds more bytes than the image has pixels.
    """
    expected = (look.whole("Rows") or 0) * (look.whole("Columns") or 0)
    count, *starts = struct.unpack("<16L", stream[:64].ljust(64, b"\0"))
    if not 1 <= count <= len(starts):
        raise ReadError(f"its RLE header claims {count} segments")
    ends = [*starts[1:count], len(stream)]
    for start, end in zip(starts, ends, strict=False):
        if (found := _unpacked_length(stream[start:end])) > expected:
            raise ReadError(f"a run-length encoded segment has {found} bytes where Rows and Columns make {expected}")


def _unpacked_length(segment: bytes) -> int:
    place, length, end = 0, 0, len(segment)
    while place < end:
        code = segment[place]
        if code < 128:  # so many bytes as they are, and one more
            length, place = length + code + 1, place + code + 2
            if place > end:  # a byte that makes the length even
                return length - code - 1
        elif code > 128:  # a byte repeated
            length, place = length + 257 - code, place + 2
        else:
            place += 1
    return length


def _decode_plain(source: OpenFile, path: Path, frame: int) -> StoredPixels | None:
    """What most CT is, 16 bits in little endian, without a decoder's preparations; None for everything else."""
    look, element = Attributes(source.header), source.element
    form = look.whole("BitsAllocated"), look.whole("SamplesPerPixel")
    rows, columns = look.whole("Rows") or 0, look.whole("Columns") or 0
    start, size = 2 * rows * columns * frame, 2 * rows * columns
    if source.syntax not in PLAIN or form != (16, 1) or element is None or start + size > (element.length or 0):
        return None
    with path.open("rb") as file:
        file.seek(element.offset + start)
        content = file.read(size)
    dtype = np.dtype("<i2" if look.whole("PixelRepresentation") else "<u2")
    pixels = np.frombuffer(content, dtype).reshape(rows, columns)
    if _ends_in_nothing(pixels):
        raise ReadError("its pixels end in zeros from the middle of a row on: the copy was interrupted")
    return pixels


def _ends_in_nothing(pixels: StoredPixels) -> bool:
    """Whether the last pixels were never written, as in a file that a copy reserved and did not fill.

    Such zeros start anywhere in a row. Padding of zeros ends its rows where the row above does, or nearly so.
    """
    if pixels[-1].any():
        return False
    (filled,) = np.nonzero(pixels.any(axis=1))
    if not 0 < filled.max(initial=0) < len(pixels) - 1:
        return False
    row = int(filled[-1])
    end = int(np.flatnonzero(pixels[row])[-1]) + 1
    before, beyond = slice(end - CUT_PIXELS, end), slice(end, end + CUT_PIXELS)
    if row < len(pixels) // 4:
        return True  # no table, no padding, no noise in most of the image
    if end < CUT_PIXELS or len(pixels[row, beyond]) < CUT_PIXELS:
        return False
    # Where the image goes on in the row above, and what is left of the row is as that.
    goes_on = bool(pixels[row, before].all() and pixels[row - 1, beyond].all())
    above, last = pixels[row - 1, before].astype(np.float64), pixels[row, before].astype(np.float64)
    return goes_on and bool(np.abs(last - above).mean() < ALIKE * np.abs(above).mean())


def _options(source: OpenFile) -> dict[str, Any]:
    options = as_pixel_options(source.header, pixel_keyword="PixelData", correct_unused_bits=False)
    if source.element is not None:
        options["pixel_vr"] = source.element.vr
    return options


def _without_unused_bits(raw: StoredPixels, look: Attributes) -> StoredPixels:
    """Only the bits that BitsStored and HighBit name; the others may hold anything (PS3.5 8.1.1)."""
    allocated = 8 * raw.dtype.itemsize
    stored = look.whole("BitsStored") or allocated
    high = look.whole("HighBit")
    above = allocated - 1 - (stored - 1 if high is None or not stored - 1 <= high < allocated else high)
    if stored >= allocated:
        return raw
    # Values that were shifted to the top have zeros below; anything else is a BitsStored that is not true.
    if not above and (raw & ((1 << (allocated - stored)) - 1)).any():
        raise ReadError(f"BitsStored is {stored} and HighBit the highest bit, but the bits below are in use")
    # Shifting back an integer with a sign fills it with copies of the sign.
    values = (raw << above) >> (allocated - stored)
    if above and _is_smoother(raw, values):
        if raw.min() >= 0 and int(raw.max()) < 1 << stored:
            raise ReadError("PixelRepresentation is 1, but its values are unsigned")
        raise ReadError(f"BitsStored is {stored}, but its values need more bits")
    return values


def _is_smoother(raw: StoredPixels, values: StoredPixels) -> bool:
    """Whether the bits that were taken away belong to the values, which then start anew where they run over.

    With them neighbours are often nearer to each other; rubbish and overlays in unused bits only part neighbours.
    """
    if np.array_equal(raw, values):
        return False
    whole, taken = np.abs(np.diff(raw.astype(np.int64))), np.abs(np.diff(values.astype(np.int64)))
    nearer, farther = float((whole < taken).mean()), float((whole > taken).mean())
    return nearer > RUNNING_OVER and nearer > farther / 10


def _to_hu(stored: StoredPixels, slope: float, intercept: float) -> VoxelsHU:
    hu = stored.astype(np.float32 if slope == 1 else np.float64)
    if slope != 1:
        hu *= slope
    hu += intercept
    return hu.astype(np.float32, copy=False)


def _upright(hu: VoxelsHU, stored: StoredPixels, look: Attributes, slope: float, intercept: float) -> VoxelsHU:
    """HU of a MONOCHROME1 image.

    PS3.3 C.7.6.3.1.2 makes MONOCHROME1 a matter of display: the rescale gives HU all the same. Many writers
    store inverted values nevertheless. Which of the two it is shows in the numbers: CT is mostly air and soft
    tissue, and no inversion leaves them where they are.
    """
    bits = min(look.whole("BitsStored") or 16, 8 * stored.dtype.itemsize)
    inverse = np.invert(stored)
    if not np.issubdtype(stored.dtype, np.signedinteger):
        inverse &= stored.dtype.type((1 << bits) - 1)
    inverted = _to_hu(inverse, slope, intercept)
    return inverted if _likeness(inverted) > _likeness(hu) else hu


def _likeness(hu: VoxelsHU) -> float:
    """Share of the pixels that may be air, fat, water or soft tissue."""
    air, soft = (hu > -1100) & (hu < -900), (hu > -200) & (hu < 200)
    return float((air | soft).mean())


def _padding(
    hu: VoxelsHU, raw: StoredPixels, stored: StoredPixels, look: Attributes, slope: float, intercept: float
) -> PaddingMask | None:
    tagged, brightest = _tagged(raw, stored, look, slope, intercept)
    if tagged is not None and tagged.any():
        if is_below_air(slope * brightest + intercept):
            # Lossy compression blurs the padding value: then its neighbours are padding as well.
            found = None if tagged[0, 0] and tagged[-1, -1] else outside_reconstruction(hu)
            return tagged if found is None else tagged | found
        # A padding value that air or tissue may have too counts only where padding can be.
        found = outside_reconstruction(hu)
        return connected_to_border(tagged) if found is None else found
    return outside_reconstruction(hu)


def _tagged(
    raw: StoredPixels, stored: StoredPixels, look: Attributes, slope: float, intercept: float
) -> tuple[PaddingMask | None, int]:
    """Pixels whose value the header calls padding, and the highest such value."""
    value = _as_stored(look.get("PixelPaddingValue"), raw.dtype)
    limit = _as_stored(look.get("PixelPaddingRangeLimit"), raw.dtype)
    if value is None:
        return None, 0
    if limit is not None:
        low, high = min(value, limit), max(value, limit)
        if max(slope * low, slope * high) + intercept > ABOVE_AIR:
            return None, 0  # it would take fat and tissue for padding
        return (stored >= low) & (stored <= high), high
    # Compared before the unused bits went, too: some scanners pad with a value that needs more than BitsStored.
    return (stored == value) | (raw == value), value


def _as_stored(value: object, dtype: np.dtype[Any]) -> int | None:
    """A padding value as the pixels' own type has it: its VR may contradict PixelRepresentation."""
    if isinstance(value, bytes):
        value = int.from_bytes(value, "little") if value else None
    if not isinstance(value, int):
        return None
    bits = 8 * dtype.itemsize
    unsigned = value & ((1 << bits) - 1)
    signed = np.issubdtype(dtype, np.signedinteger)
    return unsigned - (1 << bits) if signed and unsigned >> (bits - 1) else unsigned
