from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import UID

from ctsr.errors import ReadError
from ctsr.exams import read_slice
from ctsr.padding import SlicePixels
from tests.dicom.syntaxes import SYNTAXES, transcoded
from tests.made.ct import HU, chest, ct_slice, enhanced, padded, save, slices, store, stored, write, write_series
from tests.made.exams import only_series, real_slices


def read_one(ds: Dataset, folder: Path, **keywords: bool) -> SlicePixels:
    save(ds, folder / "IM")
    return read_slice(only_series(folder), 0, **keywords)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_every_lossless_transfer_syntax_gives_the_same_hu(tmp_path: Path, syntax: UID, signed: bool) -> None:
    hu = padded(chest(), -2048) if signed else chest()
    ds = ct_slice(chest())
    store(ds, hu + 1024, signed=signed)
    pixels = read_one(transcoded(ds, syntax), tmp_path)
    outside = hu == -2048
    assert (pixels.hu[~outside] == hu[~outside]).all()
    assert pixels.hu.dtype == np.float32
    assert (pixels.padding is not None) == signed


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_a_real_slice_reads_the_same_in_every_transfer_syntax(real_ct: Path, tmp_path: Path, syntax: UID) -> None:
    (ds,) = real_slices(real_ct, "LIDC-IDRI-0001", 1)
    expected = read_one(ds, tmp_path / "a")
    assert (expected.hu[expected.padding] == -1000).all()
    got = read_one(transcoded(ds, syntax), tmp_path / "b")
    assert (got.hu == expected.hu).all()
    assert (got.padding == expected.padding).all()


@pytest.mark.parametrize(
    ("bits", "signed"), [(12, False), (12, True), (13, True), (14, False), (16, True), (16, False)]
)
def test_unused_bits_may_hold_anything(tmp_path: Path, bits: int, signed: bool) -> None:
    values = (chest() + (0 if signed else 1024)).astype(np.int32)
    rubbish = np.random.default_rng(3).integers(0, 1 << 16, values.shape)
    keep = (1 << bits) - 1
    dirty = (values & keep) | (rubbish & ~keep & 0xFFFF)
    ds = store(ct_slice(chest(), RescaleIntercept=0 if signed else -1024), dirty.astype(np.uint16).view(np.int16))
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    assert (read_one(ds, tmp_path).hu == chest()).all()


def test_stored_bits_that_do_not_start_at_the_lowest_are_shifted(tmp_path: Path) -> None:
    ds = store(ct_slice(chest()), (chest().astype(int) + 1024) << 4)
    ds.BitsStored, ds.HighBit = 12, 15
    assert (read_one(ds, tmp_path).hu == chest()).all()


def test_eight_bits_are_enough_for_a_coarse_image(tmp_path: Path) -> None:
    values = ((chest() + 1024) / 16).round()
    ds = store(ct_slice(chest(), RescaleSlope=16), values, bits=8, allocated=8)
    assert (read_one(ds, tmp_path).hu == values * 16 - 1024).all()


def test_rescale_is_that_of_each_slice(tmp_path: Path) -> None:
    def rescale(ds: Dataset, i: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 1 + i / 2, -1024 - 100 * i

    series = only_series(write_series(tmp_path, 3, rescale))
    for i in range(3):
        expected = (chest(seed=i) + 1024) * (1 + i / 2) - 1024 - 100 * i
        pixels = read_slice(series, i)
        seen = ~pixels.padding if pixels.padding is not None else np.ones_like(pixels.hu, dtype=bool)
        assert (pixels.hu[seen] == expected[seen]).all()


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
def test_a_missing_rescale_is_an_error_unless_hu_are_assumed(tmp_path: Path, missing: str) -> None:
    ds = store(ct_slice(chest()), chest(), signed=True)
    delattr(ds, missing)
    with pytest.raises(ReadError, match=r"IM: no RescaleSlope.*`assume_hu`"):
        read_one(ds, tmp_path)
    assert (read_one(ds, tmp_path, assume_hu=True).hu == chest()).all()


def as_is(values: HU) -> HU:
    return values


def inverted(values: HU) -> HU:
    return ~values.astype(np.int64)


@pytest.mark.parametrize("writer", [as_is, inverted], ids=["by the standard", "stored inverted"])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (16, False), (12, True), (16, True)])
def test_monochrome1_reads_as_hu_whether_only_shown_or_stored_inverted(
    tmp_path: Path, writer: Callable[[HU], HU], bits: int, signed: bool
) -> None:
    values = writer((chest() + (0 if signed else 1024)).astype(np.int64)) & ((1 << bits) - 1)
    if signed:
        values = values - ((values >> (bits - 1)) << bits)
    ds = store(ct_slice(chest(), RescaleIntercept=0 if signed else -1024), values, signed=signed, bits=bits)
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert (read_one(ds, tmp_path).hu == chest()).all()


def test_a_real_slice_as_monochrome1_reads_the_same(real_ct: Path, tmp_path: Path) -> None:
    (ds,) = real_slices(real_ct, "KiTS-00072", 1)
    expected = read_one(ds, tmp_path / "a")
    ds.PixelData = (4095 - stored(ds)).astype("<u2").tobytes()
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert (read_one(ds, tmp_path / "b").hu == expected.hu).all()


def mask_of(pixels: SlicePixels) -> HU:
    return np.zeros_like(pixels.hu, dtype=bool) if pixels.padding is None else pixels.padding


@pytest.mark.parametrize(("vr", "value"), [("US", 63536), ("SS", -2000)])
def test_a_padding_value_counts_in_whichever_sign_its_vr_has(tmp_path: Path, vr: str, value: int) -> None:
    hu = chest()
    hu[20:24, 10:14] = -3024  # in the middle: only the tag can tell
    ds = store(ct_slice(hu), hu + 1024, signed=True)
    ds.add_new("PixelPaddingValue", vr, value)
    pixels = read_one(ds, tmp_path)
    assert (mask_of(pixels) == (hu == -3024)).all()
    assert (pixels.hu[20:24, 10:14] == -1000).all()


def test_a_range_of_padding_values_is_all_padding(tmp_path: Path) -> None:
    hu = chest()
    hu[0, :10], hu[5, 5:9] = -2048, -2040
    ds = store(ct_slice(hu), hu + 1024, signed=True)
    ds.add_new("PixelPaddingValue", "SS", -1024)
    ds.add_new("PixelPaddingRangeLimit", "SS", -1010)
    assert (mask_of(read_one(ds, tmp_path)) == (hu < -1500)).all()


@pytest.mark.parametrize("tag", [None, -2000, 63536])
def test_padding_is_found_where_the_tag_is_wrong_or_absent(tmp_path: Path, tag: int | None) -> None:
    hu = padded(chest(), -2048)
    ds = store(ct_slice(hu), hu + 1024, signed=True)
    if tag is not None:
        ds.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)
    assert (mask_of(read_one(ds, tmp_path)) == (hu == -2048)).all()


def test_a_padding_value_that_tissue_has_too_spares_the_body(tmp_path: Path) -> None:
    hu = chest()
    hu[30:34, 20:26] = 0
    hu[:6, :6] = 0
    ds = store(ct_slice(hu), hu + 1024)
    ds.add_new("PixelPaddingValue", "US", 1024)
    mask = mask_of(read_one(ds, tmp_path))
    assert mask[:6, :6].all()
    assert not mask[30:34, 20:26].any()


def test_the_tag_that_lies_about_a_real_scanner_does_not_matter(real_ct: Path) -> None:
    series = only_series(real_ct / "patients" / "LIDC-IDRI-0001")
    pixels = read_slice(series, 0)
    assert mask_of(pixels).mean() == pytest.approx(0.213, abs=0.002)
    assert (pixels.hu[mask_of(pixels)] == -1000).all()
    assert pixels.hu.min() >= -1024


def test_frames_decode_each_with_its_own_rescale(tmp_path: Path) -> None:
    made = slices(5, lambda ds, i: setattr(ds, "RescaleIntercept", -1024 + i))
    save(enhanced(made), tmp_path / "enhanced")
    series = only_series(tmp_path)
    for i in (3, 0, 4, 1, 2):
        assert (read_slice(series, i).hu == chest(seed=i) + i).all()


def test_compressed_frames_decode_one_by_one(tmp_path: Path) -> None:
    ds = enhanced(slices(4))
    ds.compress(SYNTAXES["RLE"], generate_instance_uid=False)
    save(ds, tmp_path / "enhanced")
    series = only_series(tmp_path)
    for i in (2, 0, 3, 1):
        assert (read_slice(series, i).hu == chest(seed=i)).all()


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    import os

    assert (read_one(ct_slice(chest(seed=1)), tmp_path).hu == chest(seed=1)).all()
    ds = ct_slice(chest(seed=2), SpecificCharacterSet="ISO_IR 192", PatientComments="longer than before")
    save(ds, tmp_path / "IM")
    os.utime(tmp_path / "IM", ns=(1, 1))
    assert (read_slice(only_series(tmp_path), 0).hu == chest(seed=2)).all()


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "JPEG-LS", "JPEG 2000"])
def test_a_broken_code_stream_is_an_error_that_names_the_file(tmp_path: Path, syntax: str) -> None:
    path = save(transcoded(ct_slice(chest()), SYNTAXES[syntax]), tmp_path / "IM")
    series = only_series(tmp_path)
    whole = path.read_bytes()
    start = whole.index(b"\xe0\x7f\x10\x00") + 12 + 16
    path.write_bytes(whole[: start + 4] + b"\xff" * (len(whole) - start - 12) + whole[-8:])
    with pytest.raises(ReadError, match=r"IM: cannot decode the pixels: .*Export the file again"):
        read_slice(series, 0)


def test_a_transfer_syntax_without_decoder_is_an_error_that_names_it(tmp_path: Path) -> None:
    ds = transcoded(ct_slice(chest()), SYNTAXES["RLE"])
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2
    with pytest.raises(ReadError, match="IM: cannot decode the pixels"):
        read_one(ds, tmp_path)


def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 2))
    series.slices[1].path.unlink()
    with pytest.raises(ReadError, match="No such file"):
        read_slice(series, 1)


def test_slices_read_the_same_in_other_processes(tmp_path: Path) -> None:
    made = [transcoded(ds, SYNTAXES["JPEG lossless"]) for ds in slices(3)]
    series = only_series(write(tmp_path, made))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = list(pool.map(partial(read_slice, series), range(3)))
    for i, pixels in enumerate(there):
        assert (pixels.hu == chest(seed=i)).all()
