"""Lossless compression of what is written: smaller files with the same pixels, bit for bit."""

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID, HTJ2KLossless, JPEGLSLossless, RLELossless
from pydicom.valuerep import VR

from ctsr.dicom.codecs import decoder_for
from ctsr.dicom.encode import file_meta
from ctsr.errors import ReadError, UsageError

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
    encoded = _htj2k(pixels) if method == "htj2k" else _by_pydicom(pixels, SYNTAXES[method])
    if not np.array_equal(_decoded(encoded, pixels.shape, SYNTAXES[method]), pixels):
        raise ReadError(f"pixels compressed as {method} come back changed; choose another, or none")
    element = DataElement(PIXEL_DATA, VR.OB, encapsulate([encoded]))
    element.is_undefined_length = True
    dataset[PIXEL_DATA] = element
    dataset.file_meta = file_meta(dataset, SYNTAXES[method])


def _by_pydicom(pixels: Pixels, syntax: UID) -> bytes:
    encoder = get_encoder(syntax)
    if not encoder.is_available:
        raise UsageError(f"`compress`: no encoder of {syntax.name} is installed; choose another")
    return encoder.encode(pixels, **_described(pixels.shape))


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


def _htj2k(pixels: Pixels) -> bytes:
    # Imported here because it takes longer to load than most results need it.
    import imagecodecs

    encode = cast("Callable[..., bytes] | None", getattr(imagecodecs, "htj2k_encode", None))
    if encode is None or not imagecodecs.HTJ2K.available:
        raise UsageError("`compress`: the installed imagecodecs cannot encode HTJ2K; update it, or choose another")
    return bytes(encode(pixels, reversible=True))
