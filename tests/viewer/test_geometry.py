from pathlib import Path

import numpy as np
import pytest

from ctsr.series import Series
from ctsr.viewer.images import NO_SLICE, slab_indices, view_geometry
from tests.made.ct import chest, save_series, slices, write
from tests.made.exams import only_series

SUPINE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def series(folder: Path, orientation: tuple[float, ...] = SUPINE, **extra: object) -> Series:
    save_series(folder, [chest(40, 34, seed=i) for i in range(4)], orientation=orientation, **extra)
    return only_series(folder)


@pytest.mark.parametrize(
    ("orientation", "axial", "coronal", "sagittal"),
    [
        (SUPINE, "RLAP", "RLSI", "APSI"),
        # Prone: what lies to the image's right is the patient's right.
        ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), "LRPA", "LRSI", "PASI"),
        # Turned on the side.
        ((0.0, 1.0, 0.0, -1.0, 0.0, 0.0), "APLR", "APSI", "LRSI"),
    ],
)
def test_marks_follow_the_direction_cosines(
    tmp_path: Path, orientation: tuple[float, ...], axial: str, coronal: str, sagittal: str
) -> None:
    marks = view_geometry(series(tmp_path, orientation), 2).edge_labels
    found = {plane: label.left + label.right + label.top + label.bottom for plane, label in marks.items()}
    assert found == {"axial": axial, "coronal": coronal, "sagittal": sagittal}


def test_an_oblique_edge_has_two_letters(tmp_path: Path) -> None:
    angle = np.radians(30)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    marks = view_geometry(series(tmp_path, (cos, sin, 0.0, -sin, cos, 0.0)), 2).edge_labels["axial"]
    assert (marks.right, marks.left, marks.bottom) == ("LP", "RA", "PR")


def test_the_head_is_up_whichever_way_the_slices_are_ordered(tmp_path: Path) -> None:
    assert view_geometry(series(tmp_path / "a"), 2).z_rows == (3, 2, 1, 0)
    # Columns run to the right, rows to the front: their normal points to the feet, and so does the order.
    turned = view_geometry(series(tmp_path / "b", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)), 2)
    assert turned.z_rows == (0, 1, 2, 3)
    assert turned.edge_labels["coronal"].top == "S"


def test_sizes_are_those_of_the_crop_and_spacing_is_the_slices_own(tmp_path: Path) -> None:
    save_series(tmp_path, [chest(41, 35, seed=i) for i in range(3)], spacing=(0.5, 0.75))
    geometry = view_geometry(only_series(tmp_path), 4)
    assert geometry.shape == (3, 40, 32)
    assert geometry.spacing == (2.5, 0.5, 0.75)
    assert geometry.pixel("coronal") == (2.5, 0.75)
    assert geometry.size("sagittal") == (3, 40)
    assert geometry.crop == (slice(0, 40), slice(1, 33))


def test_a_missing_slice_leaves_room(tmp_path: Path) -> None:
    made = slices(6)
    del made[2]
    geometry = view_geometry(only_series(write(tmp_path, made)), 2)
    assert geometry.z_rows == (4, 3, 2, NO_SLICE, 1, 0)
    assert geometry.spacing[0] == pytest.approx(2.5)


def test_two_stacks_lie_as_far_apart_as_they_are_however_few_slices_they_have(tmp_path: Path) -> None:
    made = slices(6, step=1.0)
    for one in made[3:]:
        one.ImagePositionPatient = [-100, -120, float(one.ImagePositionPatient[2]) + 80]
    geometry = view_geometry(only_series(write(tmp_path, made)), 2)
    assert (geometry.spacing[0], len(geometry.z_rows)) == (pytest.approx(1.0), 86)
    assert slab_indices(geometry, "axial", 2, 10) == [0, 1, 2], "no slice 81 mm away"


def test_a_slab_ends_with_the_images_whose_middle_is_on_its_edge(tmp_path: Path) -> None:
    save_series(tmp_path, [chest(40, 40, seed=i) for i in range(15)], step=0.8, spacing=(1.1, 0.7))
    geometry = view_geometry(only_series(tmp_path), 2)
    assert slab_indices(geometry, "axial", 7, 8) == list(range(2, 13))
    assert slab_indices(geometry, "axial", 7, 7.9) == list(range(3, 12))
    assert slab_indices(geometry, "axial", 13, 4.8) == [10, 11, 12, 13, 14]
    assert slab_indices(geometry, "coronal", 20, 33) == list(range(5, 36))
    assert slab_indices(geometry, "sagittal", 20, 4.2) == list(range(17, 24))


def test_slices_that_are_stacked_are_as_high_together_as_the_series(tmp_path: Path) -> None:
    made = slices(6, step=0.1)
    for one in made[3:]:
        one.ImagePositionPatient = [-100, -120, float(one.ImagePositionPatient[2]) + 900]
    geometry = view_geometry(only_series(write(tmp_path, made)), 2)
    assert geometry.z_rows == (5, 4, 3, 2, 1, 0)
    assert geometry.spacing[0] * 5 == pytest.approx(900.5)


def test_slices_at_one_place_each_have_a_row(tmp_path: Path) -> None:
    made = slices(3)
    for one in made:
        one.ImagePositionPatient = [-100, -120, 30]
    found = only_series(write(tmp_path, made))
    assert sorted(view_geometry(found, 2).z_rows) == [0, 1, 2]
