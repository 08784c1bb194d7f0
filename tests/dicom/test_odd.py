"""Files that break readers: each folder gives its right reading or its right error."""

from pathlib import Path

import numpy as np
import pytest

from ctsr.errors import ReadError, SeriesError
from ctsr.exams import read_slice, read_volume, scan, scan_patient
from ctsr.padding import SlicePixels
from ctsr.series import DefectKind, PatientExams
from tests.made.exams import kinds


def odd(real_ct: Path, name: str) -> PatientExams:
    return scan_patient(real_ct / "odd" / name)


def only_slice(path: Path) -> SlicePixels:
    (series,) = scan_patient(path).series
    assert len(series.slices) == 1
    return read_slice(series, 0)


CORNERSTONE = "odd/cornerstone_CTImage_allTS/CTImage.dcm"


@pytest.mark.parametrize(
    "syntax",
    [
        "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
        "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
        "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
        "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
        "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
        "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
        "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
        "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
        "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
    ],
)
def test_one_slice_in_nine_lossless_syntaxes_reads_the_same(real_ct: Path, syntax: str) -> None:
    expected = only_slice(real_ct / CORNERSTONE)
    got = only_slice(real_ct / f"{CORNERSTONE}_{syntax}.dcm")
    assert (got.hu == expected.hu).all()
    assert expected.padding is not None
    assert (got.padding == expected.padding).all()


@pytest.mark.parametrize(
    ("syntax", "within"),
    [
        ("JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91", 8),
        ("JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81", 3),
        ("JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50", 65),
        ("JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51", 36),
        ("JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53", 36),
        ("JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55", 36),
    ],
)
def test_lossy_syntaxes_are_read_and_said_to_be_lossy(real_ct: Path, syntax: str, within: float) -> None:
    path = real_ct / f"{CORNERSTONE}_{syntax}.dcm"
    expected, got = only_slice(real_ct / CORNERSTONE), only_slice(path)
    assert expected.padding is not None
    assert got.padding is not None
    both = ~(expected.padding | got.padding)
    assert both.mean() > 0.75
    assert np.abs(got.hu - expected.hu)[both].max() <= within
    assert DefectKind.LOSSY_COMPRESSION in kinds(scan_patient(path))


def test_the_folder_of_one_slice_in_many_syntaxes_is_a_series_of_duplicates(real_ct: Path) -> None:
    exams = odd(real_ct, "cornerstone_CTImage_allTS")
    assert [(one.image_type[0], len(one.slices)) for one in exams.series] == [("DERIVED", 6), ("ORIGINAL", 1)]
    assert {(one.num_slices, one.reason.split()[0:2][1]) for one in exams.excluded} == {(9, "copy:"), (2, "perfusion")}
    with pytest.raises(SeriesError, match=r"several images at z = 4\.7 mm"):
        read_volume(exams.series[0])


@pytest.mark.parametrize("image", ["CT1", "CT2"])
def test_the_nema_samples_agree_in_all_their_syntaxes(real_ct: Path, image: str) -> None:
    folder = real_ct / "odd" / "nema_wg04_ct"
    expected = only_slice(folder / f"{image}_RLE")
    for syntax in ("J2KR", "JLSL", "JPLL"):
        assert (only_slice(folder / f"{image}_{syntax}").hu == expected.hu).all(), syntax
    for syntax in ("J2KI", "JLSN"):
        got = only_slice(folder / f"{image}_{syntax}")
        assert got.padding is not None
        assert (got.padding == expected.padding).all(), syntax
    assert np.abs(only_slice(folder / f"{image}_JLSN").hu - expected.hu).max() <= 4


def test_the_pydicom_files_read_each_as_it_should(real_ct: Path) -> None:
    folder = real_ct / "odd" / "pydicom_data"
    assert only_slice(folder / "CT_small.dcm").hu.shape == (128, 128)
    assert only_slice(folder / "bad_sequence.dcm").hu.min() == -1011
    pancreas = only_slice(folder / "explicit_VR-UN.dcm")
    assert (pancreas.hu.min(), pancreas.hu.max()) == (-1024, 1186)
    assert (only_slice(folder / "693_J2KR.dcm").hu == only_slice(folder / "693_UNCR.dcm").hu).all()
    (perfusion,) = scan_patient(folder / "eCT_Supplemental.dcm").excluded
    assert "perfusion map" in perfusion.reason
    assert perfusion.num_slices == 2


def test_segmentations_beside_ct_are_ignored(real_ct: Path) -> None:
    exams = odd(real_ct, "ct-with-SEG_dcmqi")
    assert exams.ignored == {"SEG": 2}
    (series,) = exams.series
    assert read_volume(series).grid.spacing == pytest.approx((1, 0.810547, 0.810547))
    assert series.defects == ()


def test_legacy_converted_frames_read_as_the_slices_they_were_made_from(real_ct: Path) -> None:
    exams = odd(real_ct, "odd-dims_23x38_dcmqi")
    assert exams.ignored == {"SEG": 1}
    classic, converted = sorted(exams.series, key=lambda one: one.path.name)
    assert (classic.rows, classic.columns) == (converted.rows, converted.columns) == (38, 23)
    ours, theirs = read_volume(classic), read_volume(converted)
    assert (ours.hu == theirs.hu).all()
    assert ours.grid == theirs.grid
    assert kinds(exams) == {DefectKind.UNSTATED_UNITS}


def test_code_streams_that_no_decoder_takes_are_a_clear_error(real_ct: Path) -> None:
    (series,) = odd(real_ct, "undecodable_j2k_fda").series
    assert series.defects == ()
    for index in range(3):
        with pytest.raises(ReadError, match=r"00035\d\.dcm: cannot decode the pixels"):
            read_slice(series, index)


def test_a_tilted_head_in_two_thicknesses_is_two_sheared_series(real_ct: Path) -> None:
    exams = odd(real_ct, "GE-head-tilt-variable")
    told = {(len(one.slices), one.slice_thickness) for one in exams.series}
    assert told == {(14, 4), (14, 7)}
    assert kinds(exams) == {DefectKind.GANTRY_TILT, DefectKind.MIXED_GEOMETRY}
    for series in exams.series:
        assert "18.5°" in next(one.detail for one in series.defects if one.kind is DefectKind.GANTRY_TILT)
        pixels = read_slice(series, 3)
        assert pixels.padding is not None
        assert pixels.hu.min() > -1100
        with pytest.raises(SeriesError, match="tilt"):
            read_volume(series)


@pytest.mark.parametrize("name", ["phantom_S1000_localizer", "localizer_TCGA-D1-A0ZP"])
def test_a_localizer_is_no_series(real_ct: Path, name: str) -> None:
    exams = odd(real_ct, name)
    assert not exams.series
    assert "localizer" in exams.excluded[0].reason


def test_the_head_phantom_is_a_plain_volume(real_ct: Path) -> None:
    (series,) = odd(real_ct, "phantom_S2010_soft_5mm").series
    assert series.defects == ()
    assert read_volume(series).grid.spacing == pytest.approx((5, 0.451171875, 0.451171875))


def test_every_single_slice_of_the_collection_reads_and_its_one_reformat_is_left_out(real_ct: Path) -> None:
    inventory = scan(real_ct / "singles")
    assert len(inventory.usable) == 66
    assert sum(patient.num_slices for patient in inventory.patients) == 117
    (left_out,) = (one for patient in inventory.patients for one in patient.excluded)
    assert "a reformat (ImageType DERIVED/SECONDARY/REFORMATTED/AVERAGE)" in left_out.reason
    for series in inventory.all_series():
        hu = read_slice(series, 0).hu
        # Scanners store noise below air, but no fill may be left: that begins at −1500 HU.
        assert -1500 < np.percentile(hu, 0.5) < -900 < np.percentile(hu, 99), series.path
