import gzip
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from ctsr.errors import ReadError
from ctsr.exams import read_slice, read_volume, scan, scan_patient
from ctsr.hashing import content_identity, find_people
from ctsr.hu import HUCorrection
from ctsr.series import DefectKind, Series
from tests.made.ct import chest

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (5, 40, 32)
SPACING = (2.5, 0.8, 0.8)
ORIGIN = (-12.0, 8.0, 100.0)


def truth() -> npt.NDArray[Any]:
    """(slices, rows, columns) HU on a grid that grows superior, posterior, left."""
    return np.stack([chest(SHAPE[1], SHAPE[2], seed=i) for i in range(SHAPE[0])]).astype(np.int16)


def grid_affine() -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 0, SPACING[0]), (0, SPACING[1], 0), (SPACING[2], 0, 0)
    affine[:3, 3] = ORIGIN
    return affine


def write(
    path: Path,
    hu: npt.NDArray[Any],
    *,
    axes: tuple[int, ...] = (2, 1, 0),
    flips: tuple[bool, ...] = (False, False, False),
    affine: npt.NDArray[np.float64] | None = None,
) -> Path:
    """Store the volume with file axis i running along array axis ``axes[i]``, backwards where ``flips[i]``."""
    lps = grid_affine() if affine is None else affine
    stored = np.eye(4)
    stored[:3, 3] = lps[:3, 3]
    for i, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        stored[:3, i] = -lps[:3, axis] if flip else lps[:3, axis]
        if flip:
            stored[:3, 3] += lps[:3, axis] * (hu.shape[axis] - 1)
    data = np.flip(hu.transpose(axes), [i for i, flip in enumerate(flips) if flip])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, LPS_TO_RAS @ stored), path)
    return path


def only(path: Path) -> Series:
    exams = scan_patient(path)
    assert len(exams.series) == 1, exams.excluded
    return exams.series[0]


def why_not(path: Path) -> str:
    exams = scan_patient(path)
    assert not exams.series
    return exams.excluded[0].reason


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "CT.NII.GZ"])
def test_a_volume_reads_as_axial_slices_with_their_places(tmp_path: Path, name: str) -> None:
    series = only(write(tmp_path / name.lower(), truth()).rename(tmp_path / name))
    assert (series.rows, series.columns, series.pixel_spacing) == (40, 32, pytest.approx((0.8, 0.8)))
    assert series.slice_step == pytest.approx(2.5)
    volume = read_volume(series)
    assert (volume.hu == truth()).all()
    assert np.allclose(volume.grid.affine, grid_affine(), atol=1e-5)


@pytest.mark.parametrize("flips", list(product([False, True], repeat=3)))
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_however_the_file_runs_the_voxels_keep_their_places(
    tmp_path: Path, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    volume = read_volume(only(write(tmp_path / "ct.nii", truth(), axes=axes, flips=flips)))
    assert (volume.hu == truth()).all()
    assert np.allclose(volume.grid.affine, grid_affine(), atol=1e-5)


def test_the_identity_of_a_slice_is_its_index_in_the_file_and_nothing_else(tmp_path: Path) -> None:
    here = only(write(tmp_path / "a" / "ct.nii", truth()))
    there = only(write(tmp_path / "b" / "other.nii.gz", truth()))
    assert [one.identity for one in here.slices] == [one.identity for one in there.slices] == ["0", "1", "2", "3", "4"]
    downwards = only(write(tmp_path / "c" / "ct.nii", truth(), flips=(False, False, True)))
    assert [one.identity for one in downwards.slices] == ["4", "3", "2", "1", "0"]


def test_an_oblique_volume_keeps_its_directions(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    affine = turn @ grid_affine()
    volume = read_volume(only(write(tmp_path / "ct.nii", truth(), affine=affine)))
    assert np.allclose(volume.grid.affine, affine, atol=1e-5)
    assert (volume.hu == truth()).all()


def test_scaled_values_are_hu(tmp_path: Path) -> None:
    image = nib.Nifti1Image(truth().transpose(2, 1, 0).astype(np.float64) + 0.5, LPS_TO_RAS @ np.eye(4))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "ct.nii.gz")
    stored = nib.load(tmp_path / "ct.nii.gz")
    assert stored.dataobj.slope != 1
    got = read_slice(only(tmp_path / "ct.nii.gz"), 2).hu
    assert np.allclose(got, truth()[2] + 0.5, atol=stored.dataobj.slope)


def test_what_is_not_a_number_is_padding(tmp_path: Path) -> None:
    hu = truth().astype(np.float32)
    hu[1, :7] = np.nan
    pixels = read_slice(only(write(tmp_path / "ct.nii", hu)), 1)
    assert pixels.padding is not None
    assert pixels.padding[:7].all()
    assert not pixels.padding[7:].any()
    assert (pixels.hu[:7] == -1000).all()


def test_a_sheared_volume_is_refused(tmp_path: Path) -> None:
    affine = grid_affine()
    affine[1, 0] = 0.8
    assert "sheared" in why_not(write(tmp_path / "ct.nii", truth(), affine=affine))


def test_a_volume_cut_in_coronal_slices_is_refused(tmp_path: Path) -> None:
    affine = grid_affine()
    affine[1, 1] = 5.0
    assert "not axial" in why_not(write(tmp_path / "ct.nii", truth(), axes=(2, 0, 1), affine=affine))


@pytest.mark.parametrize("values", [np.zeros(SHAPE, np.uint8), truth() + 1024, np.ones(SHAPE, np.float32)])
def test_label_maps_and_shifted_values_are_not_hu(tmp_path: Path, values: npt.NDArray[Any]) -> None:
    assert "not in HU" in why_not(write(tmp_path / "labels.nii.gz", values.astype(values.dtype)))


def test_a_label_map_beside_a_ct_is_left_out_and_reported(tmp_path: Path) -> None:
    write(tmp_path / "imaging.nii.gz", truth())
    write(tmp_path / "segmentation.nii.gz", (truth() > 0).astype(np.uint8))
    exams = scan_patient(tmp_path)
    assert [one.series_uid for one in exams.series] == ["imaging"]
    assert [one.path.name for one in exams.excluded] == ["segmentation.nii.gz"]


def test_a_header_without_orientation_is_not_guessed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(truth().transpose(2, 1, 0), None)
    nib.save(image, tmp_path / "ct.nii")
    assert "no orientation" in why_not(tmp_path / "ct.nii")


def with_forms(path: Path, qform: npt.NDArray[np.float64] | None, pixdim: tuple[float, ...] | None = None) -> Path:
    """The volume with another qform than its sform, or with other lengths."""
    image = nib.load(write(path.parent / f"plain_{path.name}", truth()))
    if qform is not None:
        image.set_qform(qform @ image.affine, code=1)
    path.parent.joinpath("p").mkdir()
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    nib.save(image, path.parent / "p" / path.name)
    return path.parent / "p" / path.name


@pytest.mark.parametrize(
    ("qform", "pixdim", "told"),
    [
        (np.eye(4), None, ""),
        (np.eye(4) + 1e-4, None, ""),
        (np.diag([-1.0, -1, 1, 1]), None, "qform and its sform put its corners up to"),
        (np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]), None, "up to 5 mm apart"),
        (np.diag([1.0, 1, 1.2, 1]), None, "the sform is taken"),
        (None, SPACING[::-1], ""),
        (None, (1, 1, 1), "0.8, 0.8, 2.5 mm by its sform and 1.0, 1.0, 1.0 mm by pixdim"),
    ],
)
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_header_that_says_in_two_ways_where_its_voxels_lie_is_doubted(
    tmp_path: Path,
    name: str,
    qform: npt.NDArray[np.float64] | None,
    pixdim: tuple[float, ...] | None,
    told: str,
) -> None:
    series = only(with_forms(tmp_path / name, qform, pixdim))
    found = [defect.detail for defect in series.defects if defect.kind is DefectKind.DOUBTFUL_GEOMETRY]
    assert [told in detail for detail in found] == [True] * bool(told)
    np.testing.assert_allclose(read_volume(series).grid.affine, grid_affine(), atol=1e-4)


def test_values_that_are_no_real_numbers_are_refused(tmp_path: Path) -> None:
    assert "not one volume of numbers" in why_not(write(tmp_path / "ct.nii", truth().astype(np.complex64)))


@pytest.mark.parametrize(("values", "options"), [((1, 1024), (1, -1024)), ((2, 2048), (0.5, -1024))])
def test_hu_that_were_made_positive_are_read_where_the_user_says_how(
    tmp_path: Path, values: tuple[int, int], options: tuple[float, int]
) -> None:
    path = write(tmp_path / "ct.nii", (values[0] * truth() + values[1]).astype(np.uint16))
    assert "pass `hu_offset` -1024" in why_not(path)
    (series,) = scan_patient(path, correction=HUCorrection(*options)).series
    np.testing.assert_array_equal(read_volume(series).hu, truth())


def test_a_time_series_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.stack([truth()] * 2, axis=-1), np.eye(4)), tmp_path / "ct.nii")
    assert "not one volume" in why_not(tmp_path / "ct.nii")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", gzip.compress(b"nothing", mtime=0)])
def test_what_only_calls_itself_nifti_is_reported_as_broken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("ct.nii.gz" if content[:2] == b"\x1f\x8b" else "ct.nii")
    path.write_bytes(content)
    assert "unreadable" in why_not(path)
    assert scan_patient(path).excluded[0].failed


def test_a_volume_cut_short_is_reported_as_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", truth())
    path.write_bytes(path.read_bytes()[:-2000])
    assert scan_patient(path).excluded[0].failed


def test_a_volume_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii", truth())
    series = only(path)
    path.unlink()
    with pytest.raises(ReadError, match=r"ct\.nii"):
        read_slice(series, 0)


def test_volumes_of_one_patient_are_told_apart(tmp_path: Path) -> None:
    for visit in ("2019", "2020"):
        write(tmp_path / "P1" / visit / "ct.nii.gz", truth())
    assert [one.series_uid for one in scan_patient(tmp_path / "P1").series] == ["2019_ct", "2020_ct"]


def test_a_volume_of_images_too_small_to_be_slices_is_left_out(tmp_path: Path) -> None:
    exams = scan_patient(write(tmp_path / "P" / "ct.nii", truth()[:, :5]).parent)
    assert [one.reason for one in exams.excluded] == ["too small to be a slice: 5×32 pixels"]
    assert not exams.series


@pytest.mark.parametrize("place", [-6, 600])
def test_a_damaged_compressed_volume_is_refused(tmp_path: Path, place: int) -> None:
    path = write(tmp_path / "p" / "ct.nii.gz", truth())
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10  # a value's bit, or one of the checksum that nibabel does not look at
    path.write_bytes(content)
    (excluded,) = scan_patient(tmp_path / "p").excluded
    assert excluded.failed
    assert "copy or convert it again" in excluded.reason


def test_a_volume_whose_voxels_are_no_ct_s_is_left_out(tmp_path: Path) -> None:
    for name, spacing in (("apart", (900, 0.8, 0.8)), ("wide", (2.5, 0.8, 60))):
        affine = grid_affine() @ np.diag([spacing[0] / 2.5, spacing[1] / 0.8, spacing[2] / 0.8, 1])
        (excluded,) = scan_patient(write(tmp_path / f"{name}.nii", truth(), affine=affine)).excluded
        assert "900 mm apart" in excluded.reason or "0.8 × 60 mm" in excluded.reason


def compressed(content: bytes, path: Path, *, level: int = 9, mtime: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, level, mtime=mtime))
    return path


@pytest.mark.parametrize("trailer", [b"", b"extra" * 100_000], ids=["", "with bytes behind the voxels"])
def test_one_volume_is_one_patient_however_it_is_compressed(tmp_path: Path, trailer: bytes) -> None:
    plain = write(tmp_path / "plain" / "ct.nii", truth())
    plain.write_bytes(plain.read_bytes() + trailer)
    compressed(plain.read_bytes(), tmp_path / "exam2019" / "ct.nii.gz")
    compressed(plain.read_bytes(), tmp_path / "exam2021" / "other.nii.gz", mtime=1_600_000_000)
    compressed(plain.read_bytes(), tmp_path / "fast" / "ct.nii.gz", level=1)
    other = truth()
    other[2] += 1
    write(tmp_path / "stranger" / "ct.nii.gz", other)
    people = find_people({patient.patient_id: patient.identities for patient in scan(tmp_path).usable})
    assert people.groups == (("exam2019", "exam2021", "fast", "plain"),)


def test_volumes_are_known_by_what_models_hold_of_them(tmp_path: Path) -> None:
    """Hashes of the bytes on the disk, as they were before compressed files were known by what they inflate to."""
    plain = write(tmp_path / "ct.nii", truth())
    packed = compressed(plain.read_bytes(), tmp_path / "ct.nii.gz")
    held = {path: content_identity(path.stat().st_size, *thirds(path.read_bytes())) for path in (plain, packed)}
    assert only(plain).identities[:-1] == (held[plain],)
    assert only(packed).identities[:-1] == (held[packed], held[plain])


def thirds(content: bytes) -> list[bytes]:
    """The first, middle and last 64 KiB."""
    starts = (0, len(content) // 2, max(0, len(content) - 2**16))
    return [content[start : start + 2**16] for start in starts]
