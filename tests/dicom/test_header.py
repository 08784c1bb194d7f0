import pickle
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from ctsr.exams import scan_patient
from ctsr.series import DefectKind
from tests.made.ct import chest, ct_slice, enhanced, save, slices, write, write_series
from tests.made.exams import kinds, only_series


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"],
        ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
        ["DERIVED", "SECONDARY", "MPR"],
        ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"],
        ["DERIVED", "SECONDARY", "MIP"],
        ["DERIVED", "SECONDARY", "SCREEN SAVE"],
        ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"],
        ["DERIVED", "SECONDARY", "BONE", "REMOVED"],
        ["DERIVED", "PRIMARY", "AXIAL", "RHO", "Z"],
        ["DERIVED", "SECONDARY", "OTHER", "EFFECTIVE Z"],
        ["DERIVED", "PRIMARY", "AXIAL", "ELECTRON DENSITY"],
        ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL", "VNC"],
        ["DERIVED", "PRIMARY", "DET_IODINE_MAP"],
    ],
)
def test_what_is_no_axial_slice_is_left_out_and_said_so(tmp_path: Path, image_type: list[str]) -> None:
    write_series(tmp_path, 3)
    save(ct_slice(chest(), uid="1.9", ImageType=image_type, position=(0, 0, 900)), tmp_path / "other")
    exams = scan_patient(tmp_path)
    assert [len(one.slices) for one in exams.series] == [3]
    assert "/".join(image_type) in exams.excluded[0].reason
    assert kinds(exams) == set()


@pytest.mark.parametrize(
    "image_type", [["DERIVED", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL", "JP2K"], None]
)
def test_derived_by_itself_excludes_nothing(tmp_path: Path, image_type: list[str] | None) -> None:
    save(ct_slice(chest(), ImageType=image_type), tmp_path / "IM")
    assert only_series(tmp_path).slices


@pytest.mark.parametrize("orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (1, 0, 0, 0, 0.5, -0.866)])
def test_a_slice_that_is_not_axial_is_left_out(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    save(ct_slice(chest(), orientation=orientation), tmp_path / "IM")
    exams = scan_patient(tmp_path)
    assert not exams.series
    assert "not axial" in exams.excluded[0].reason


def test_a_colour_image_is_left_out(tmp_path: Path) -> None:
    ds = ct_slice(chest(), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    ds.PixelData = ds.PixelData * 3
    save(ds, tmp_path / "IM")
    assert "colour" in scan_patient(tmp_path).excluded[0].reason


@pytest.mark.parametrize("shown", ["RGB", "PALETTE COLOR", "YBR_FULL"])
def test_values_that_are_colours_are_left_out(tmp_path: Path, shown: str) -> None:
    save(ct_slice(chest(), PhotometricInterpretation=shown), tmp_path / "IM")
    assert f"its values are {shown}" in scan_patient(tmp_path).excluded[0].reason


@pytest.mark.parametrize(("shape", "usable"), [((1, 40), False), ((40, 7), False), ((8, 8), True)])
def test_an_image_too_small_to_be_a_slice_is_left_out(tmp_path: Path, shape: tuple[int, int], usable: bool) -> None:
    save(ct_slice(chest(*shape)), tmp_path / "IM")
    exams = scan_patient(tmp_path)
    reasons = [one.reason for one in exams.excluded]
    assert reasons == ([] if usable else [f"too small to be a slice: {shape[0]}×{shape[1]} pixels"])
    assert len(exams.series) == usable
    assert not any(one.failed for one in exams.excluded)


@pytest.mark.parametrize("units", ["Z_EFF", "ED", "MGML"])
def test_an_image_in_other_units_is_left_out(tmp_path: Path, units: str) -> None:
    save(ct_slice(chest(), RescaleType=units), tmp_path / "IM")
    assert f"its values are {units}, not HU" in scan_patient(tmp_path).excluded[0].reason


def test_units_called_unspecified_are_read_as_hu_and_said_so(tmp_path: Path) -> None:
    write_series(tmp_path, 3, lambda ds, i: setattr(ds, "RescaleType", "US"))
    assert kinds(only_series(tmp_path)) == {DefectKind.UNSTATED_UNITS}


@pytest.mark.parametrize("missing", ["PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"])
def test_a_slice_that_does_not_say_where_it_lies_is_named(tmp_path: Path, missing: str) -> None:
    made = slices(5)
    delattr(made[4], missing)
    exams = scan_patient(write(tmp_path, made))
    assert exams.excluded[0].reason == f"no {missing}"
    assert exams.excluded[0].failed
    (defect,) = exams.series[0].defects
    assert defect.kind is DefectKind.MISSING_GEOMETRY
    assert exams.excluded[0].path.name in defect.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [("PixelSpacing", [0, 0]), ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), ("PixelSpacing", [0.7])],
)
def test_impossible_geometry_is_no_geometry(tmp_path: Path, name: str, value: Any) -> None:
    save(ct_slice(chest(), **{name: value}), tmp_path / "IM")
    exams = scan_patient(tmp_path)
    assert not exams.series
    assert exams.excluded[0].failed


@pytest.mark.parametrize("kept", [200, 700, 5000])
def test_a_file_cut_short_is_reported_and_the_rest_goes_on(tmp_path: Path, kept: int) -> None:
    made = slices(4)
    write(tmp_path, made)
    victim = max(tmp_path.iterdir())
    victim.write_bytes(victim.read_bytes()[:kept])
    exams = scan_patient(tmp_path)
    assert [len(one.slices) for one in exams.series] == [3]
    assert exams.excluded[0].path == victim
    assert exams.excluded[0].failed
    assert "unreadable" in exams.excluded[0].reason


def test_a_truncated_slice_is_a_defect_of_its_series(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    victim = max(tmp_path.iterdir())
    victim.write_bytes(victim.read_bytes()[:-10])
    exams = scan_patient(tmp_path)
    assert DefectKind.UNREADABLE_SLICE in kinds(exams)
    assert "10 bytes early" in exams.excluded[0].reason


def test_a_file_without_pixels_is_unreadable(tmp_path: Path) -> None:
    save(ct_slice(chest(), PixelData=None), tmp_path / "IM")
    assert "no pixel data" in scan_patient(tmp_path).excluded[0].reason


def test_frames_of_an_enhanced_object_are_slices_with_geometry_of_their_own(tmp_path: Path) -> None:
    made = slices(4, lambda ds, i: setattr(ds, "RescaleIntercept", -1024 - i))
    save(enhanced(list(reversed(made))), tmp_path / "enhanced")
    series = only_series(tmp_path)
    assert series.path == tmp_path / "enhanced"
    assert [header.frame for header in series.slices] == [3, 2, 1, 0]
    assert [header.position[2] for header in series.slices] == [30, 32.5, 35, 37.5]
    assert [header.rescale_intercept for header in series.slices] == [-1024, -1025, -1026, -1027]
    assert series.pixel_spacing == (0.7, 0.7)
    assert len({header.identity for header in series.slices}) == 4


def test_a_series_can_be_sent_to_another_process(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 3))
    assert pickle.loads(pickle.dumps(series)) == series


def test_the_identity_of_a_slice_is_its_uid_wherever_it_lies(tmp_path: Path) -> None:
    here = only_series(write_series(tmp_path / "a", 3))
    there = only_series(write_series(tmp_path / "b" / "c", 3))
    assert [one.identity for one in here.slices] == [one.identity for one in there.slices]
    assert here.slices[0].identity == "1.2.3.4.1"


def test_a_missing_modality_is_forgiven_where_the_class_says_ct(tmp_path: Path) -> None:
    def forget(ds: Dataset, i: int) -> None:
        del ds.Modality

    assert len(only_series(write_series(tmp_path, 3, forget)).slices) == 3
