"""Decoders for what pydicom cannot decode alone: lossless and 12-bit JPEG, through imagecodecs.

This module is also the plugin itself: pydicom imports it by name and asks `is_available` and `decode`.
"""

from functools import cache

from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import UID, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

NAME = "ctsr"
LOSSLESS = (JPEGLossless, JPEGLosslessSV1)
DECODER_DEPENDENCIES = dict.fromkeys((*LOSSLESS, JPEGExtended12Bit), ("imagecodecs",))
"""What pydicom shows where a decoder is missing."""

RETIRED = {
    UID("1.2.840.10008.1.2.4.53"): JPEGExtended12Bit,  # spectral selection, process 6 & 8
    UID("1.2.840.10008.1.2.4.55"): JPEGExtended12Bit,  # full progression, process 10 & 12
}
"""Retired transfer syntaxes that pydicom does not know; the code stream says itself how it is coded."""


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
