"""NRRD and MetaImage in, through SimpleITK: the same door as NIfTI."""

import importlib.util
import json
import re
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ctsr.cli.main import main
from ctsr.documents import upsampled_series
from ctsr.exams import read_volume, scan_patient
from ctsr.series import DefectKind
from tests.made.ct import save_series
from tests.made.exams import kinds
from tests.made.exams import only_series as only
from tests.test_nifti import SPACING, grid_affine, truth, why_not

AXES = "LPS"


def write(path: Path, hu: np.ndarray | None = None, *, compressed: bool = False, order: str = "LPS") -> Path:
    """The volume with its axes in this order and direction, such as "RAI", which SimpleITK permutes and flips."""
    values = truth() if hu is None else hu
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(grid_affine()[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, order), path, useCompression=compressed)
    return path


def text_replaced(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha", "CT.NRRD"])
def test_a_volume_reads_as_axial_slices_with_their_places(tmp_path: Path, name: str, compressed: bool) -> None:
    series = only(write(tmp_path / name, compressed=compressed))
    volume = read_volume(series)
    np.testing.assert_array_equal(volume.hu, truth())
    np.testing.assert_allclose(volume.grid.affine, grid_affine(), atol=1e-6)
    assert series.series_uid == Path(name).stem


@pytest.mark.parametrize("signs", list(product([0, 1], repeat=3)))
@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha"])
def test_however_the_file_runs_the_voxels_keep_their_places(tmp_path: Path, name: str, signs: tuple[int, ...]) -> None:
    for i, axes in enumerate(permutations(["RL", "AP", "IS"])):
        order = "".join(letters[sign] for letters, sign in zip(axes, signs, strict=True))
        volume = read_volume(only(write(tmp_path / str(i) / name, order=order)))
        np.testing.assert_array_equal(volume.hu, truth())
        np.testing.assert_allclose(volume.grid.affine, grid_affine(), atol=1e-6)


def test_an_nrrd_in_ras_is_turned(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nrrd")
    text_replaced(path, b"space: left-posterior-superior", b"space: right-anterior-superior")
    x, y, z = read_volume(only(path)).grid.origin
    # x and y change their signs: what was the first column and row is the last.
    first = grid_affine()[:3, 3] + np.array([SPACING[2] * 31, SPACING[1] * 39, 0])
    np.testing.assert_allclose((-x, -y, z), first, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("ct.nrrd", b"space: left-posterior-superior", b"space: scanner-xyz", "no orientation"),
        ("ct.nrrd", b"space origin", b"data file: ../other.raw\nspace origin", "another file"),
        ("ct.mha", b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/hostname", "another file"),
        ("ct.mha", b"TransformMatrix", b"TransformMatriy", "no orientation"),
        ("ct.nrrd", b"sizes: 32 40 5", b"sizes: 32 40 99999999", "it may take|cannot be read"),
        ("ct.nrrd", b"sizes: 32 40 5", b"sizes: 32 40 6", "cannot be read"),
        ("ct.mha", b"DimSize = 32 40 5", b"DimSize = 32 40 6", "cannot be read"),
        ("ct.nrrd", b"NRRD000", b"NRXD000", "cannot be read|no orientation"),
        ("ct.nrrd", b"kinds:", b'space units: "mm" "mm" "inch"\nkinds:', "unit of length"),
        ("ct.mha", b"ElementSpacing", b"ElementSpazing", "no ElementSpacing"),
        ("ct.mha", b"= 1 0 0 0 1 0 0 0 1", b"= 2 0 0 0 2 0 0 0 2", "not made of unit vectors"),
        ("ct.mha", b"DimSize", b"ElementToIntensityFunctionSlope = 2\nDimSize", "to be scaled"),
        ("ct.mha", b"DimSize", b"ElementToIntensityFunctionOffset = -1024\nDimSize", "to be scaled"),
    ],
)
def test_a_header_that_leads_elsewhere_or_lies_is_refused_in_one_line(
    tmp_path: Path, name: str, old: bytes, new: bytes, reason: str
) -> None:
    path = text_replaced(write(tmp_path / name), old, new)
    found = why_not(path)
    assert re.search(reason, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("name", "before", "line"),
    [
        ("ct.nrrd", b"kinds:", b'space units: "%s" "%s" "%s"\n'),
        ("ct.mha", b"DimSize", b"DistanceUnits = %s\n"),
    ],
)
@pytest.mark.parametrize(("unit", "mm"), [(b"cm", 10), (b"um", 0.001), (b"mm", 1)])
def test_lengths_in_another_unit_are_turned_into_mm(
    tmp_path: Path, name: str, before: bytes, line: bytes, unit: bytes, mm: float
) -> None:
    image = SimpleITK.GetImageFromArray(truth())
    image.SetSpacing([spacing / mm for spacing in SPACING[::-1]])
    image.SetOrigin((grid_affine()[:3, 3] / mm).tolist())
    path = tmp_path / name
    SimpleITK.WriteImage(image, path)
    text_replaced(path, before, line.replace(b"%s", unit) + before)
    np.testing.assert_allclose(read_volume(only(path)).grid.affine, grid_affine(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ct.nrrd", b"space origin:", b"# nowhere"),
        ("ct.nrrd", b"space origin: (-12,8,100)", b"space origin: (nan,nan,nan)"),
        ("ct.mha", b"Offset", b"Offsat"),
    ],
)
def test_a_volume_of_which_nobody_knows_where_it_lies_is_read_and_doubted(
    tmp_path: Path, name: str, old: bytes, new: bytes
) -> None:
    series = only(text_replaced(write(tmp_path / name), old, new))
    assert DefectKind.DOUBTFUL_GEOMETRY in kinds(series)
    assert DefectKind.DOUBTFUL_GEOMETRY not in kinds(only(write(tmp_path / "whole" / name)))


def test_a_file_that_is_cut_short_is_unreadable(tmp_path: Path) -> None:
    for name, compressed in product(("ct.nrrd", "ct.mha"), (False, True)):
        path = write(tmp_path / name, compressed=compressed)
        path.write_bytes(path.read_bytes()[:-300])
        exams = scan_patient(path)
        assert not exams.series, name
        assert exams.excluded[0].failed


def test_values_that_are_no_hu_and_sheared_grids_are_found_as_in_nifti(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.nrrd", (truth() > 0).astype(np.int16))
    assert "label map" in why_not(labels)
    shifted = only(write(tmp_path / "shifted.mha", (truth() - 700).astype(np.int16)))
    assert kinds(shifted) & {DefectKind.SHIFTED_HU, DefectKind.IMPLAUSIBLE_HU}
    sheared = text_replaced(write(tmp_path / "sheared.mha"), b"= 1 0 0 0 1 0 0 0 1", b"= 1 0 0 0 1 .3 0 0 1")
    assert "sheared" in why_not(sheared)


def test_without_simpleitk_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("ctsr.simpleitk_volumes.find_spec", lambda name: None if name == "SimpleITK" else find(name))
    path = write(tmp_path / "ct.nrrd")
    assert main(["upscale", str(path), str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert "pip install '.[volumes]'" in capsys.readouterr().err
    assert not scan_patient(path).excluded[0].failed, "a folder of DICOM may hold one that nobody needs"


def test_the_command_makes_nifti_of_it_or_dicom_with_a_reference(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nrrd")
    save_series(tmp_path / "series", truth(), spacing=SPACING[1:], step=SPACING[0])
    for file in (tmp_path / "series").iterdir():
        place(file)
    assert main(["upscale", str(path), str(tmp_path / "finer.nii.gz"), "--device", "cpu"]) == 0
    finer = read_volume(only(tmp_path / "finer.nii.gz"))
    assert finer.hu.shape == (5, 80, 64)
    words = ["--reference", str(tmp_path / "series"), "--device", "cpu"]
    assert main(["upscale", str(path), str(tmp_path / "dicom"), *words]) == 0
    made = read_volume(only(tmp_path / "dicom"))
    np.testing.assert_array_equal(made.hu, finer.hu)
    np.testing.assert_allclose(made.grid.affine, finer.grid.affine, atol=1e-4)
    record = json.loads((tmp_path / "dicom" / "run.json").read_text())
    assert record["source"]["kernel"] == "STANDARD"


def place(file: Path) -> None:
    """Move a slice of `save_series` to where it lies in the volume."""
    from pydicom import dcmread

    ds = dcmread(file)
    x, y, z = grid_affine()[:3, 3].tolist()
    ds.ImagePositionPatient = [x, y, z + SPACING[0] * (int(ds.InstanceNumber) - 1)]
    ds.save_as(file)


def test_preprocessing_makes_nifti_of_it(tmp_path: Path) -> None:
    write(tmp_path / "root" / "P1" / "ct.nrrd")
    write(tmp_path / "root" / "P1" / "ct.mha")
    out = tmp_path / "out"
    assert main(["preprocess", str(tmp_path / "root"), "--out_dir", str(out), "--target_spacing", "0.4"]) == 0
    assert sorted(path.name for path in out.rglob("*.nii.gz")) == ["ct.mha.nii.gz", "ct.nrrd.nii.gz"]
    # What was made finer is known by its file, also where the source was no NIfTI.
    found = upsampled_series(out)
    assert sorted(found) == ["P1pp/ct.mha.nii.gz", "P1pp/ct.nrrd.nii.gz"]
    assert all((out / file).is_file() for file in found)
