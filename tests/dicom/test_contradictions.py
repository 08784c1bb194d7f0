"""Headers that contradict their pixels or their own geometry are refused in one line, or read within tolerance."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ctsr.dicom.attributes import code_stream_size
from ctsr.errors import MissingInputError, ReadError
from ctsr.exams import read_slice, scan, scan_patient
from ctsr.series import DefectKind, PatientExams
from ctsr.volume import is_orthonormal, orthonormalised
from tests.made.ct import enhanced, save, slices

pytestmark = pytest.mark.filterwarnings("ignore")


def scanned(folder: Path, made: list[Dataset]) -> PatientExams:
    for i, ds in enumerate(made):
        save(ds, folder / f"IM{i}")
    return scan_patient(folder)


def change(**values: object) -> Callable[[Dataset], None]:
    def edit(ds: Dataset) -> None:
        for name, value in values.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)

    return edit


CONTRADICTIONS = [
    (change(HighBit=14, BitsStored=12), "HighBit is 14"),
    (change(BitsStored=17), "BitsStored is 17"),
    (change(BitsStored=0), "BitsStored"),
    (change(BitsAllocated=12), "BitsAllocated is 12"),
    (change(PixelRepresentation=2), "PixelRepresentation"),
    (change(PixelRepresentation=None), "PixelRepresentation"),
    (change(Columns=47), "where Rows, Columns and frames make"),
    (change(Rows=65), "bytes early"),
    (change(NumberOfFrames=10**9), "frames at one position"),
    (change(NumberOfFrames=-1), "NumberOfFrames is -1"),
    (change(RescaleSlope="1e3", RescaleIntercept="1e7"), "cannot give HU"),
    (change(PixelSpacing=[1e-7, 1e-7]), "impossible"),
    (change(PixelSpacing=[1e5, 1e5]), "impossible"),
    (change(PixelSpacing=[0.7, 90]), "pixel spacing of 0.7 × 90 mm is impossible"),
    (change(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "orientation of 1, 0, 0, 1, 0, 0 is impossible"),
    (change(ImagePositionPatient=[0, 0, 1e30]), "impossible"),
]


@pytest.mark.parametrize(("edit", "why"), CONTRADICTIONS)
def test_a_header_that_contradicts_itself_is_left_out_and_its_neighbours_stay(
    tmp_path: Path, edit: Callable[[Dataset], None], why: str
) -> None:
    made = slices(3)
    edit(made[1])
    patient = scanned(tmp_path, made)
    assert [len(series.slices) for series in patient.series] == [2]
    (left_out,) = patient.excluded
    assert why in left_out.reason
    assert left_out.failed


@pytest.mark.parametrize(
    ("tag", "text"), [("RescaleSlope", b"abc "), ("RescaleIntercept", b"1,0 "), ("RescaleSlope", b"1_0 ")]
)
def test_a_rescale_that_is_no_number_is_shown_as_it_reads(tmp_path: Path, tag: str, text: bytes) -> None:
    path = save(slices(1)[0], tmp_path / "IM")
    content = path.read_bytes()
    at = content.index({"RescaleSlope": b"\x28\0\x53\x10DS", "RescaleIntercept": b"\x28\0\x52\x10DS"}[tag])
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    path.write_bytes(content[: at + 6] + b"\x04\0" + text + content[at + 8 + length :])
    (left_out,) = scan_patient(tmp_path).excluded
    assert f"{tag} reads '{text.decode().strip()}'" in left_out.reason


@pytest.mark.parametrize("missing", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",)])
@pytest.mark.parametrize("assume_hu", [False, True])
def test_values_that_go_through_a_table_are_not_said_to_be_hu(
    tmp_path: Path, missing: tuple[str, ...], assume_hu: bool
) -> None:
    made = slices(3)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4096, 0, 16], "HU", bytes(8192)
    for keyword in missing:
        delattr(made[1], keyword)
    made[1].ModalityLUTSequence = [table]
    exams = scanned(tmp_path, made)
    (excluded,) = exams.excluded
    assert "ModalityLUTSequence" in excluded.reason
    assert "export it again" in excluded.reason
    assert "assume_hu" not in excluded.reason
    (series,) = exams.series
    assert [defect.kind for defect in series.defects] == [DefectKind.UNREADABLE_SLICE]
    for index in range(len(series.slices)):
        read_slice(series, index, assume_hu=assume_hu)


@pytest.mark.parametrize("frames", [2, 4, 10**9])
def test_frames_and_functional_groups_must_be_equally_many(tmp_path: Path, frames: int) -> None:
    ds = enhanced(slices(3))
    ds.NumberOfFrames = frames
    (left_out,) = scanned(tmp_path, [ds]).excluded
    assert "functional groups of 3 frames" in left_out.reason


def test_compressed_frames_that_are_not_there_are_missed(tmp_path: Path) -> None:
    ds = enhanced(slices(3))
    ds.compress(RLELossless)
    ds.NumberOfFrames = 4
    ds.PerFrameFunctionalGroupsSequence.append(ds.PerFrameFunctionalGroupsSequence[0])
    (left_out,) = scanned(tmp_path, [ds]).excluded
    assert "3 fragments" in left_out.reason


def test_frames_without_positions_are_refused_whatever_their_number(tmp_path: Path) -> None:
    ds = enhanced(slices(3))
    ds.NumberOfFrames = 10**9
    del ds.PerFrameFunctionalGroupsSequence
    (left_out,) = scanned(tmp_path, [ds]).excluded
    assert "frames at one position" in left_out.reason


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_image_of_another_size_is_refused(tmp_path: Path, syntax: str) -> None:
    pytest.importorskip("openjpeg")
    (ds,) = slices(1)
    ds.compress(syntax)
    ds.Columns -= 1
    patient = scanned(tmp_path, [ds])
    with pytest.raises(ReadError):
        read_slice(patient.series[0], 0)


def test_the_size_in_a_code_stream_is_read() -> None:
    jpeg = bytes.fromhex("ffd8 ffe0 0004 0000 ffc3 000b 10 0040 0030 01 11 00 00".replace(" ", ""))
    assert code_stream_size(jpeg) == (64, 48)
    assert code_stream_size(b"") is None
    assert code_stream_size(b"\xff\xd8") is None


def test_jitter_in_the_last_digits_leaves_one_series(tmp_path: Path) -> None:
    made = slices(6)
    for i, ds in enumerate(made):
        ds.PixelSpacing = [0.70315 + (i % 2) * 1e-9, 0.70315]
        tilt = 0.0005 + (i % 2) * 1e-9
        ds.ImageOrientationPatient = [1, 0, tilt, 0, 1, 0]
    (series,) = scanned(tmp_path, made).series
    assert len(series.slices) == 6


def test_two_geometries_under_one_uid_stay_two_series(tmp_path: Path) -> None:
    made = slices(6)
    for i, ds in enumerate(made):
        ds.PixelSpacing = [0.70 + (i % 2) * 0.01] * 2
    assert len(scanned(tmp_path, made).series) == 2


@pytest.mark.parametrize("step", [0.05, 0.1, 0.12, 0.5, 2.5])
def test_a_missing_slice_is_found_however_thin_the_slices(tmp_path: Path, step: float) -> None:
    made = slices(9, step=step)
    del made[4]
    (series,) = scanned(tmp_path, made).series
    assert DefectKind.GAP in {defect.kind for defect in series.defects}


@pytest.mark.parametrize("step", [0.5, 0.8, 2.5])
def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path, step: float) -> None:
    made = slices(9, step=step)
    for ds in made:
        ds.ImagePositionPatient = [round(float(mm), 1) for mm in ds.ImagePositionPatient]
    (series,) = scanned(tmp_path, made).series
    assert not series.defects


def test_direction_cosines_that_are_a_little_long_become_unit_vectors() -> None:
    turned = np.array([1, 0.002, 0, -0.002, 1, 0]) * 1.004
    corrected = orthonormalised(tuple(turned.tolist()))
    assert is_orthonormal(corrected)
    vectors = np.array(corrected).reshape(2, 3)
    assert np.abs(vectors @ vectors.T - np.eye(2)).max() < 1e-12
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert orthonormalised(axial) == axial


def test_a_rescale_that_differs_in_one_slice_is_a_defect_that_names_it(tmp_path: Path) -> None:
    made = slices(4)
    made[2].RescaleIntercept = 0
    (series,) = scanned(tmp_path, made).series
    (defect,) = series.defects
    assert defect.kind is DefectKind.DIFFERING_RESCALE
    assert defect.slice_indices == (2,)
    assert "slope 1, intercept 0 in 1" in defect.detail


def test_a_plain_file_is_read_as_before(tmp_path: Path) -> None:
    patient = scanned(tmp_path, slices(2))
    assert not patient.excluded
    stored = dcmread(tmp_path / "IM0").pixel_array.astype(float)
    assert (read_slice(patient.series[0], 0).hu == stored - 1024).all()


@pytest.mark.parametrize("bits", [7, 11, 12])
def test_bits_below_values_at_the_top_are_no_rubbish(tmp_path: Path, bits: int) -> None:
    """BitsStored 7 and HighBit 15: read so, every value of a CT image is the lowest."""
    made = slices(1)
    made[0].BitsStored = bits
    (series,) = scanned(tmp_path, made).series
    with pytest.raises(ReadError, match="the bits below are in use"):
        read_slice(series, 0)


def test_compressed_pixels_that_lack_only_their_delimiter_are_whole(tmp_path: Path) -> None:
    (ds,) = slices(1)
    expected = ds.pixel_array
    ds.compress(RLELossless)
    path = save(ds, tmp_path / "IM")
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    (series,) = scan_patient(tmp_path).series
    assert (read_slice(series, 0).hu == expected - 1024.0).all()
    path.write_bytes(content[:-12])
    assert "bytes early" in scan_patient(tmp_path).excluded[0].reason


def test_a_compressed_stream_without_its_end_is_never_read_as_whole(tmp_path: Path) -> None:
    pytest.importorskip("openjpeg")
    (ds,) = slices(1)
    ds.compress(JPEG2000Lossless)
    path = save(ds, tmp_path / "IM")
    content = path.read_bytes()
    end = content.rindex(b"\xff\xd9")
    assert len(scan_patient(tmp_path).series) == 1
    path.write_bytes(content[: end - 300] + bytes(302) + content[end + 2 :])
    (series,) = scan_patient(tmp_path).series
    with pytest.raises(ReadError, match="no end"):
        read_slice(series, 0)


def stored(values: np.ndarray, **header: object) -> Dataset:
    """A slice of 16-bit words, whatever the header says of them."""
    ds = slices(1)[0]
    ds.PixelData = (values.astype(np.int64) & 0xFFFF).astype("<u2").tobytes()
    change(**header)(ds)
    return ds


def first_slice(folder: Path, made: Dataset) -> np.ndarray:
    (series,) = scanned(folder, [made]).series
    return read_slice(series, 0).hu


@pytest.mark.parametrize(("bits", "tissue"), [(8, 1280), (10, 1024)])
def test_fewer_bits_than_the_values_need_are_refused(tmp_path: Path, bits: int, tissue: int) -> None:
    values = slices(1)[0].pixel_array.astype(int)
    values[values > 900] += tissue - 1064  # soft tissue lies where values of so many bits start anew
    with pytest.raises(ReadError, match=f"BitsStored is {bits}, but its values need more bits"):
        first_slice(tmp_path, stored(values, BitsStored=bits, HighBit=bits - 1))


def test_values_without_sign_that_are_said_to_have_one_are_refused(tmp_path: Path) -> None:
    values = slices(1)[0].pixel_array.copy()
    values[10:30, 10:30] = 2600
    with pytest.raises(ReadError, match="PixelRepresentation is 1, but its values are unsigned"):
        first_slice(tmp_path, stored(values, BitsStored=12, HighBit=11, PixelRepresentation=1))


def test_an_overlay_in_unused_bits_is_no_part_of_the_values(tmp_path: Path) -> None:
    values = slices(1)[0].pixel_array
    drawn = values.copy()
    drawn[5:9, 5:40] |= 1 << 12
    overlaid = first_slice(tmp_path / "drawn", stored(drawn, BitsStored=12, HighBit=11))
    assert np.array_equal(overlaid, first_slice(tmp_path / "plain", stored(values, BitsStored=12, HighBit=11)))


@pytest.mark.parametrize("limit", [1000, 65535])
def test_a_range_of_padding_that_tissue_lies_in_is_not_believed(tmp_path: Path, limit: int) -> None:
    plain = first_slice(tmp_path / "plain", slices(1)[0])
    (made,) = slices(1)
    made.add_new("PixelPaddingValue", "US", 0)
    made.add_new("PixelPaddingRangeLimit", "US", limit)
    assert np.array_equal(first_slice(tmp_path / "ranged", made), plain)


def test_a_run_length_encoded_image_with_more_rows_than_the_header_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (made,) = slices(1)
    made.compress(RLELossless)
    made.Rows -= 1
    with pytest.raises(ReadError, match="segment has 3072 bytes where Rows and Columns make 30"):
        first_slice(tmp_path, made)
    assert "panicked" not in capfd.readouterr().err, "a decoder in Rust died of it"


def test_a_field_of_view_wider_than_any_scanner_is_refused(tmp_path: Path) -> None:
    wide = slices(2, edit=lambda ds, _: change(PixelSpacing=[9.5, 9.5], Rows=ds.Rows * 4, Columns=ds.Columns // 4)(ds))
    reasons = [excluded.reason for excluded in scanned(tmp_path, wide).excluded]
    assert any("makes a field of view" in reason for reason in reasons)


def test_slices_farther_apart_than_any_scan_leaves_out_are_named(tmp_path: Path) -> None:
    (series,) = scanned(tmp_path, slices(4, step=900)).series
    assert "its slices lie up to 900 mm apart, as in no scan" in {defect.detail for defect in series.defects}


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_pixels_that_an_interrupted_copy_did_not_fill_are_refused(tmp_path: Path, share: float) -> None:
    whole = np.full((96, 96), 1064) + np.random.default_rng(0).integers(-9, 9, (96, 96))
    place = int(96 * share) * 96 + 40
    values = whole.ravel().copy()
    values[place:] = 0
    with pytest.raises(ReadError, match="the copy was interrupted"):
        first_slice(tmp_path, stored(values, Rows=96, Columns=96))


def test_a_round_image_in_zeros_is_whole(tmp_path: Path) -> None:
    rows, columns = np.ogrid[:96, :96]
    disc = (rows - 45) ** 2 + (columns - 45) ** 2 < 40**2
    values = np.where(disc, 1064 + np.random.default_rng(0).integers(-9, 9, (96, 96)), 0)
    assert np.array_equal(first_slice(tmp_path, stored(values, Rows=96, Columns=96))[disc], values[disc] - 1024)


PREAMBLE = bytes(128) + b"DICM"
ENDLESS = {
    "empty elements": b"\x08\x00\x05\x00CS\x00\x00" * 2_000_000,
    "short elements": b"\x09\x00\x05\x00\x02\x00\x00\x00ab" * 2_000_000,
    "nested sequences": (b"\x08\x00\x11\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 100_000,
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("content", ENDLESS.values(), ids=ENDLESS)
def test_a_file_of_elements_without_end_is_given_up_soon(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "IM").write_bytes(PREAMBLE + content)
    (excluded,) = scan_patient(tmp_path).excluded
    assert excluded.reason.endswith("copy the file again")


def test_a_deflated_file_that_inflates_to_more_than_an_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = slices(1)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(made, tmp_path / "IM")
    assert scan_patient(tmp_path).series
    monkeypatch.setattr("ctsr.dicom.MOST_INFLATED", 5000)
    (excluded,) = scan_patient(tmp_path).excluded
    assert "its deflated data set is larger than" in excluded.reason


def test_a_pipe_given_for_a_folder_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (scan, scan_patient):
        with pytest.raises(MissingInputError, match="pipe, socket or device"):
            read(tmp_path / "pipe")
