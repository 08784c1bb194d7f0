import os
from pathlib import Path

import numpy as np
import pytest

from ctsr.exams import read_slice, scan_patient
from tests.made.ct import chest, ct_slice, save, slices, write_series
from tests.made.exams import kinds, only_series

JUNK = np.random.default_rng(7).bytes(5000)


@pytest.mark.parametrize("name", ["IM1", "slice.dcm", "scan.jpg", "1.2.3.4", "image.DCM.bak"])
def test_a_file_is_known_by_what_it_holds_not_by_its_name(tmp_path: Path, name: str) -> None:
    save(ct_slice(chest()), tmp_path / name)
    assert len(only_series(tmp_path).slices) == 1


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_preamble_and_file_meta_is_read(tmp_path: Path, implicit: bool, little: bool) -> None:
    ds = ct_slice(chest())
    if not little:
        ds.PixelData = (chest() + 1024).astype(">u2").tobytes()
    del ds.file_meta
    ds.save_as(tmp_path / "bare", implicit_vr=implicit, little_endian=little)
    assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
    assert (read_slice(only_series(tmp_path), 0).hu == chest()).all()


@pytest.mark.parametrize("content", [b"", b"DICM", b"\x08\x00" * 300, JUNK, b"patient_id,slices\n1,2\n"])
def test_other_files_are_ignored_and_counted(tmp_path: Path, content: bytes) -> None:
    write_series(tmp_path, 2)
    (tmp_path / "other.dcm").write_bytes(content)
    exams = scan_patient(tmp_path)
    assert len(exams.series[0].slices) == 2
    assert exams.ignored == {"not DICOM": 1}


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("SEG", "1.2.840.10008.5.1.4.1.1.66.4"),
        ("PT", "1.2.840.10008.5.1.4.1.1.128"),
        ("MR", "1.2.840.10008.5.1.4.1.1.4"),
    ],
)
def test_other_modalities_are_ignored_and_counted(tmp_path: Path, modality: str, sop_class: str) -> None:
    write_series(tmp_path, 2)
    save(ct_slice(chest(), Modality=modality, SOPClassUID=sop_class), tmp_path / "other")
    exams = scan_patient(tmp_path)
    assert [len(one.slices) for one in exams.series] == [2]
    assert exams.ignored == {modality: 1}


def test_a_secondary_capture_in_a_ct_series_is_left_out_with_its_reason(tmp_path: Path) -> None:
    write_series(tmp_path, 2)
    save(ct_slice(chest(), SOPClassUID="1.2.840.10008.5.1.4.1.1.7", uid="1.9"), tmp_path / "capture")
    (left_out,) = scan_patient(tmp_path).excluded
    assert "Secondary Capture" in left_out.reason
    assert not left_out.failed


def test_hidden_files_and_folders_are_not_read(tmp_path: Path) -> None:
    write_series(tmp_path, 2)
    for i, ds in enumerate(slices(4)[2:]):
        save(ds, tmp_path / (".trash/IM" if i else ".IM.part"))
    assert len(only_series(tmp_path).slices) == 2


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 3)
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    series = only_series(tmp_path)
    assert len(series.slices) == 3
    assert kinds(series) == set()


def test_a_folder_that_cannot_be_read_is_a_failure_that_names_it(tmp_path: Path) -> None:
    write_series(tmp_path, 2)
    # Nested so deep that its path is longer than the system takes, which holds for every user.
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    exams = scan_patient(tmp_path)
    assert exams.num_slices == 2
    (excluded,) = exams.excluded
    assert excluded.failed
    assert excluded.reason.startswith("the folder cannot be read: ")
    assert excluded.path.name == "d" * 250


@pytest.mark.parametrize("modality", ["ct", "Ct ", ""])
def test_ct_is_ct_however_it_is_written(tmp_path: Path, modality: str) -> None:
    save(ct_slice(chest(), Modality=modality), tmp_path / "IM1")
    assert len(scan_patient(tmp_path).series) == 1
