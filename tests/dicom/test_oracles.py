"""Two independent readers, highdicom and dcm2niix, must see the same HU at the same places in the patient."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from highdicom import get_volume_from_series
from pydicom import dcmread

from ctsr.exams import read_volume, scan_patient
from ctsr.series import Series
from ctsr.volume import Volume
from tests.made.exams import REAL_PATIENTS, only_series
from tests.oracles import dcm2niix


def volume_of(real_ct: Path, patient: str) -> tuple[Series, Volume]:
    series = only_series(real_ct / "patients" / patient)
    return series, read_volume(series)


def seen(volume: Volume) -> np.ndarray:
    return np.ones(volume.grid.shape, dtype=bool) if volume.padding is None else ~volume.padding


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_highdicom_sees_the_same_volume(real_ct: Path, patient: str) -> None:
    series, volume = volume_of(real_ct, patient)
    datasets = [dcmread(header.path) for header in series.slices]
    for ds in datasets:
        # De-identification gave each slice of LIDC-IDRI a frame of reference of its own; highdicom refuses that.
        ds.FrameOfReferenceUID = datasets[0].FrameOfReferenceUID
    theirs = get_volume_from_series(datasets, dtype=np.float32)
    # Theirs starts at the other end: compare by position, through both affines.
    there = np.linalg.inv(theirs.affine) @ volume.grid.affine
    first, last = ((there @ [index, 0, 0, 1])[:3] for index in (0, len(series.slices) - 1))
    assert np.allclose(first, [len(series.slices) - 1, 0, 0], atol=1e-3)
    assert np.allclose(last, 0, atol=1e-3)
    assert np.allclose(theirs.spacing, volume.grid.spacing, atol=1e-5)
    visible = seen(volume)
    assert (theirs.array[::-1][visible] == volume.hu[visible]).all()


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_dcm2niix_sees_the_same_volume(real_ct: Path, tmp_path: Path, patient: str) -> None:
    _, volume = volume_of(real_ct, patient)
    theirs = nib.load(dcm2niix(real_ct / "patients" / patient, tmp_path))
    affine = np.diag([-1, -1, 1, 1]) @ theirs.affine
    ours = volume.grid.affine
    # dcm2niix turns rows over and keeps (column, row, slice): columns of the two affines pair up crosswise.
    assert np.allclose(affine[:3, 0], ours[:3, 2], atol=1e-4)
    assert np.allclose(affine[:3, 1], -ours[:3, 1], atol=1e-4)
    assert np.allclose(affine[:3, 2], ours[:3, 0], atol=1e-3)
    values = np.asarray(theirs.dataobj).transpose(2, 1, 0)[:, ::-1]
    visible = seen(volume)
    assert (values[visible] == volume.hu[visible]).all()
    last_row = volume.grid.position((0, volume.grid.shape[1] - 1, 0))
    assert np.allclose(affine[:3, 3], last_row, atol=1e-3)


def test_a_volume_that_dcm2niix_wrote_is_read_back_as_the_series_it_came_from(real_ct: Path, tmp_path: Path) -> None:
    series, volume = volume_of(real_ct, "KiTS-00072")
    written = dcm2niix(real_ct / "patients" / "KiTS-00072", tmp_path, compressed=True)
    (again,) = scan_patient(written).series
    nifti = read_volume(again)
    assert (nifti.hu == volume.hu).all()
    assert np.allclose(nifti.grid.affine, volume.grid.affine, atol=1e-3)
    assert again.pixel_spacing == pytest.approx(series.pixel_spacing, abs=1e-5)
