"""The transfer syntaxes that lose nothing, and the same image in each."""

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.made.ct import stored

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


def transcoded(ds: Dataset, syntax: UID) -> Dataset:
    """The same image in another transfer syntax."""
    if syntax in {RLELossless, JPEGLSLossless, JPEG2000Lossless}:
        ds.compress(syntax, generate_instance_uid=False)
        return ds
    if syntax == JPEGLosslessSV1:
        import imagecodecs

        code = imagecodecs.ljpeg_encode(stored(ds).view(np.uint16), bitspersample=16)
        ds.PixelData = encapsulate([code + b"\0" * (len(code) % 2)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    if syntax == ExplicitVRBigEndian:
        # Built anew: pydicom will not turn over a data set that it has read.
        fresh = Dataset()
        for element in ds:
            fresh.add(element)
        fresh.PixelData, fresh.file_meta = stored(ds).byteswap().tobytes(), ds.file_meta
        ds = fresh
    ds.file_meta.TransferSyntaxUID = syntax
    return ds
