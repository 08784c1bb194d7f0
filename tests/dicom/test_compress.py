"""Compressed results: the same pixels in fewer bytes, for any reader."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from ctsr.dicom.encode import SYNTAXES, Compression, compress, to_stored, verify_slice
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.errors import ReadError
from ctsr.hu import FloatArray
from ctsr.volume import Plane
from tests.made.ct import body, ct_slice, save
from tests.oracles import dciodvfy_errors

DERIVATION = Derivation(description="Resampled", label="[0.8 mm]", settings="test", series_uid="2.25.77")
AXES = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
IMAGES = {
    "air": np.full((16, 16), -2048.0, np.float32),
    "every bit": np.random.default_rng(0).integers(-32768, 32768, (37, 51)).astype(np.float32),
    "odd size": np.linspace(-1000, 3000, 33 * 47).reshape(33, 47).astype(np.float32),
    "beyond 16 bits": np.linspace(-1000, 64511, 32 * 40).reshape(32, 40).astype(np.float32),
}


def write(hu: FloatArray, method: Compression, folder: Path) -> Path:
    source = dcmread(save(ct_slice(body()), folder / "source.dcm"), stop_before_pixels=True)
    plane = Plane(hu.shape, (0.8, 0.8), (-99.95, -119.65, 30.0), AXES)
    derived = derive_slice(source, hu, plane, DERIVATION)
    compress(derived, method)
    path = folder / f"{method}.dcm"
    save_slice(derived, path)
    verify_slice(path, hu, None, plane)
    return path


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("method", SYNTAXES)
def test_pixels_come_back_bit_for_bit(method: Compression, image: str, tmp_path: Path) -> None:
    written = dcmread(write(IMAGES[image], method, tmp_path))
    assert written.file_meta.TransferSyntaxUID == SYNTAXES[method]
    assert np.array_equal(written.pixel_array, to_stored(IMAGES[image]).values)


@pytest.mark.parametrize("method", ["rle", "jpegls"])  # dciodvfy does not know HTJ2K, which is of 2023
def test_a_compressed_slice_has_no_errors_that_the_plain_one_has_not(method: Compression, tmp_path: Path) -> None:
    image = IMAGES["odd size"]
    assert dciodvfy_errors(write(image, method, tmp_path)) == dciodvfy_errors(write(image, "none", tmp_path))


def test_pixels_that_come_back_changed_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = IMAGES["odd size"]
    monkeypatch.setattr("ctsr.dicom.encode._decoded", lambda *_: np.zeros(image.shape, np.int16))
    with pytest.raises(ReadError, match="decode to other values"):
        write(image, "jpegls", tmp_path)
