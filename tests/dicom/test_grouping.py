import copy
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from ctsr.errors import SeriesError
from ctsr.exams import read_volume, scan_patient
from ctsr.series import DefectKind, check
from tests.made.ct import Edit, chest, ct_slice, enhanced, save, slices, write, write_series
from tests.made.exams import kinds, only_series, real_slices

EVEN = [30 + 2.5 * i for i in range(8)]


def at(places: list[float]) -> Edit:
    return lambda ds, i: setattr(ds, "ImagePositionPatient", [-100, -120, places[i]])


def test_slices_are_ordered_by_place_not_by_name_number_or_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misnumber(ds: Dataset, i: int) -> None:
        ds.InstanceNumber = (i * 5) % 8

    folder = write_series(tmp_path, 8, misnumber)
    expected = only_series(folder)
    assert [header.position[2] for header in expected.slices] == EVEN
    walk: Callable[..., object] = os.walk

    def backwards(*args: object, **kwargs: object) -> object:
        for here, folders, files in walk(*args, **kwargs):  # pyright: ignore[reportGeneralTypeIssues]
            yield here, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert only_series(folder) == expected


def test_an_orientation_turned_over_orders_slices_along_its_own_normal(tmp_path: Path) -> None:
    def turn(ds: Dataset, i: int) -> None:
        ds.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]

    series = only_series(write_series(tmp_path, 4, turn))
    assert [header.position[2] for header in series.slices] == [37.5, 35, 32.5, 30]
    assert read_volume(series).grid.directions == ((0, 0, -1), (0, -1, 0), (1, 0, 0))


def test_overlapping_slices_are_no_defect(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 5, lambda ds, i: setattr(ds, "SliceThickness", 5)))
    assert series.defects == ()
    assert (series.slice_thickness, series.slice_step) == (5, 2.5)


def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    places = [round(0.625 * i, 1) for i in range(12)]
    series = only_series(write_series(tmp_path, 12, at(places)))
    assert series.defects == ()
    assert read_volume(series).grid.spacing[0] == pytest.approx(0.625, abs=0.005)


def test_a_gap_is_named_with_the_slices_beside_it(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 6, at([30, 32.5, 35, 42.5, 45, 47.5])))
    (defect,) = series.defects
    assert defect.kind is DefectKind.GAP
    assert defect.slice_indices == (2, 3)
    assert "2 between z = 35 mm and z = 42.5 mm (step 2.5 mm)" in defect.detail


def test_a_gap_is_refused_or_left_open_as_padding(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 6, at([30, 32.5, 35, 42.5, 45, 47.5])))
    with pytest.raises(SeriesError, match=r"slice by slice"):
        read_volume(series)
    volume = read_volume(series, allow_gaps=True)
    assert volume.grid.shape[0] == 8
    assert volume.padding is not None
    assert volume.padding.all(axis=(1, 2)).nonzero()[0].tolist() == [3, 4]
    assert (volume.hu[3:5] == -1000).all()
    assert volume.grid.position((5, 0, 0))[2] == pytest.approx(42.5)
    assert (volume.hu[5] == chest(seed=3)).all()


def test_uneven_steps_are_named_and_refused(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 6, at([30, 32.5, 35, 36.1, 40, 42.5])))
    assert kinds(series) == {DefectKind.IRREGULAR_SPACING}
    assert series.defects[0].slice_indices == (2, 3, 4)
    with pytest.raises(SeriesError, match=r"1\.1 mm between z = 35 mm and z = 36\.1 mm"):
        read_volume(series, allow_gaps=True)


def test_slices_that_jump_sideways_are_no_block(tmp_path: Path) -> None:
    def jump(ds: Dataset, i: int) -> None:
        ds.ImagePositionPatient = [-100 + 9 * (i > 2), -120, 30 + 2.5 * i]

    series = only_series(write_series(tmp_path, 6, jump))
    assert kinds(series) == {DefectKind.IRREGULAR_SPACING}
    assert "beside one another" in series.defects[0].detail


@pytest.mark.parametrize("degrees", [18.5, -12.0])
def test_a_tilted_gantry_is_told_by_the_shear_of_its_slices(tmp_path: Path, degrees: float) -> None:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def tilt(ds: Dataset, i: int) -> None:
        ds.ImageOrientationPatient = [1, 0, 0, 0, round(cosine, 7), round(-sine, 7)]

    series = only_series(write_series(tmp_path, 6, tilt))
    assert kinds(series) == {DefectKind.GANTRY_TILT}
    assert f"{abs(degrees):.1f}°" in series.defects[0].detail
    with pytest.raises(SeriesError, match="tilt"):
        read_volume(series)


def test_an_oblique_stack_without_shear_is_a_volume(tmp_path: Path) -> None:
    cosine, sine = math.cos(0.3), math.sin(0.3)

    def incline(ds: Dataset, i: int) -> None:
        ds.ImageOrientationPatient = [1, 0, 0, 0, round(cosine, 7), round(-sine, 7)]
        ds.ImagePositionPatient = [-100, round(-120 + 2.5 * i * sine, 6), round(30 + 2.5 * i * cosine, 6)]

    series = only_series(write_series(tmp_path, 5, incline))
    assert series.defects == ()
    assert read_volume(series).grid.position((4, 0, 0))[1] == pytest.approx(-120 + 10 * sine, abs=1e-4)


def test_a_tilt_that_only_the_header_tells_is_not_believed_silently(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 4, lambda ds, i: setattr(ds, "GantryDetectorTilt", 15)))
    assert kinds(series) == {DefectKind.GANTRY_TILT}


def test_one_position_twice_is_named(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 6, at([30, 32.5, 35, 35, 37.5, 40])))
    (defect,) = series.defects
    assert (defect.kind, defect.slice_indices) == (DefectKind.DUPLICATE_POSITION, (2, 3))
    assert "z = 35 mm" in defect.detail
    assert series.slice_step == 2.5


def test_a_copy_of_a_file_is_left_out_and_reported(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 4)
    write_series(tmp_path / "b", 2)
    exams = scan_patient(tmp_path)
    assert [len(one.slices) for one in exams.series] == [4]
    assert exams.series[0].defects == ()
    assert exams.series[0].path == tmp_path / "a"
    assert exams.excluded[0].num_slices == 2
    assert "a copy" in exams.excluded[0].reason


def test_one_sop_instance_uid_at_several_positions_is_a_defect(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 4, lambda ds, i: setattr(ds, "SOPInstanceUID", "1.2.3.4.5")))
    assert len(series.slices) == 4
    assert kinds(series) == {DefectKind.REPEATED_UID}


def test_several_matrices_under_one_uid_make_several_series(tmp_path: Path) -> None:
    made = slices(6)
    made += [ct_slice(chest(32, 32), position=(0, 0, 100 + i), uid=f"1.8.{i}") for i in range(3)]
    exams = scan_patient(write(tmp_path, made))
    assert [(one.rows, len(one.slices)) for one in exams.series] == [(32, 3), (64, 6)]
    assert kinds(exams) == {DefectKind.MIXED_GEOMETRY}
    assert "64×48" in exams.series[0].defects[0].detail


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("ConvolutionKernel", ("B30f", "B70f"), "different kernels: B30f in 4, B70f in 2"),
        ("ConvolutionKernel", (["Br40d", "3"], ["Br64d", "3"]), "different kernels: Br40d/3 in 4, Br64d/3 in 2"),
        ("KVP", ("120", "100"), "different tube voltages (kV): 120 in 4, 100 in 2"),
        ("KVP", ("120", "120.0"), ""),
        ("ConvolutionKernel", ("STANDARD", ""), ""),
    ],
)
def test_parts_of_a_series_that_were_made_in_other_ways_are_named(
    tmp_path: Path, name: str, values: tuple[object, object], words: str
) -> None:
    series = only_series(write_series(tmp_path, 6, lambda ds, i: setattr(ds, name, values[i > 3])))
    assert len(series.slices) == 6
    assert [(defect.kind, defect.slice_indices) for defect in series.defects] == (
        [(DefectKind.MIXED_SETTINGS, (4, 5))] if words else []
    )
    assert not words or words in check(series, "upscale")[0]


def test_every_usable_series_of_a_patient_is_kept(tmp_path: Path) -> None:
    for name in ("thin", "thick"):
        uid = {"thin": "1.7.1", "thick": "1.7.2"}[name]
        for i in range(3):
            ds = ct_slice(chest(), position=(0, 0, 2 * i), uid=f"{uid}.{i}", series_uid=uid)
            save(ds, tmp_path / name / f"IM{i}")
    exams = scan_patient(tmp_path)
    assert [(one.series_uid, one.path.name) for one in exams.series] == [("1.7.1", "thin"), ("1.7.2", "thick")]
    assert exams.num_slices == 6


def test_a_single_slice_says_so_and_is_as_thick_as_its_header_says(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 1))
    assert kinds(series) == {DefectKind.SINGLE_SLICE}
    assert series.slice_step is None
    assert read_volume(series).grid.spacing == (2.5, 0.7, 0.7)


def test_a_localizer_in_a_real_series_does_not_disturb_it(real_ct: Path, tmp_path: Path) -> None:
    made = real_slices(real_ct, "KiTS-00072", 6)
    scout = copy.deepcopy(made[0])
    scout.ImageType, scout.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"], "1.2.3"
    scout.ImageOrientationPatient, scout.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [-200, -100, 900]
    exams = scan_patient(write(tmp_path, [*made, scout]))
    assert [len(one.slices) for one in exams.series] == [6]
    assert exams.series[0].defects == ()
    assert "localizer" in exams.excluded[0].reason


@pytest.mark.parametrize(
    ("removed", "kind"), [((2,), DefectKind.GAP), ((2, 3, 6), DefectKind.GAP), ((), None), ((0, 9), None)]
)
def test_removed_slices_of_a_real_series_are_found(
    real_ct: Path, tmp_path: Path, removed: tuple[int, ...], kind: DefectKind | None
) -> None:
    made = real_slices(real_ct, "C3L-00189", 10)
    series = only_series(write(tmp_path, [ds for i, ds in enumerate(made) if i not in removed]))
    assert kinds(series) == ({kind} if kind else set())
    if kind:
        volume = read_volume(series, allow_gaps=True)
        assert volume.padding is not None
        assert tuple(np.flatnonzero(volume.padding.all(axis=(1, 2)))) == removed


TILT = np.tan(np.radians(20.0))


def stated(step: float, *, apart: float = 2.5, tilt: float = 0.0) -> Edit:
    """Slices that lie `apart` mm along z, whose header says `step` mm."""

    def edit(ds: Dataset, i: int) -> None:
        ds.SpacingBetweenSlices = step
        ds.ImagePositionPatient = [-100, -120 + tilt * apart * i, 30 + apart * i]

    return edit


@pytest.mark.parametrize("edit", [stated(2.5, apart=5), stated(5), stated(-5), stated(2.5, apart=1.25)])
@pytest.mark.parametrize("form", ["slices", "frames"])
def test_slices_that_lie_otherwise_than_the_header_says_are_doubted(tmp_path: Path, edit: Edit, form: str) -> None:
    """Where every other slice is missing, nothing else tells."""
    if form == "slices":
        write_series(tmp_path, 5, edit)
    else:
        made = slices(5, edit)
        ds = enhanced(made)
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = made[
            0
        ].SpacingBetweenSlices
        del ds.SpacingBetweenSlices
        save(ds, tmp_path / "enhanced")
    series = only_series(tmp_path)
    (defect,) = series.defects
    assert defect.kind is DefectKind.DOUBTFUL_GEOMETRY
    assert f"positions say {series.slice_step:g} mm and are believed" in defect.detail


@pytest.mark.parametrize(
    "edit",
    [
        stated(2.5),
        stated(-2.5),
        stated(2.49),
        stated(0),
        stated(2.5, tilt=TILT),
        stated(2.5 / np.cos(np.radians(20.0)), tilt=TILT),
        lambda ds, i: setattr(ds, "SpacingBetweenSlices", 2.5 + i),
    ],
)
def test_headers_that_say_what_positions_say_or_nothing_are_not(tmp_path: Path, edit: Edit) -> None:
    assert kinds(only_series(write_series(tmp_path, 5, edit))) <= {DefectKind.GANTRY_TILT}
