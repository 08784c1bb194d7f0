"""Patients by their headers: kept together in a split, read once, recognised under any name."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from ctsr.checkpoint import load_model
from ctsr.checkpoint.model_lookup import BUNDLED
from ctsr.data.datasets import open_exams, open_roots, seen_in_training
from ctsr.data.split import PARTS, read_split, split_patients
from ctsr.errors import SplitError
from ctsr.exams import scan
from ctsr.hashing import find_people, is_same_person, voxel_identity
from tests.made.ct import body, chest, save_series
from tests.made.exams import save_patient, save_patients
from tests.made.listener import Listener
from tests.oracles import dcm2niix

EIGHT = tuple(f"P{i}" for i in range(8))


def save_exam(root: Path, folder: str, *, patient_id: str, study: str, series: str) -> None:
    images = [body(20, seed=len(folder))]
    save_series(root / folder, images, series=series, PatientID=patient_id, StudyInstanceUID=study)


@pytest.fixture
def two_exams(tmp_path: Path) -> Path:
    """Eight patients, and two folders of a ninth."""
    root = save_patients(tmp_path / "raw", EIGHT, slices=1, size=20)
    for year in ("2019", "2021"):
        save_exam(root, f"exam{year}", patient_id="MRN-4711", study=f"1.9.{year}", series=f"1.9.{year}.1")
    return root


@pytest.mark.parametrize("seed", range(6))
def test_folders_of_one_patient_are_in_one_part(two_exams: Path, seed: int, tmp_path: Path) -> None:
    listener = Listener()
    exams = open_exams([two_exams], seed=seed, folder=tmp_path / "splits", progress=listener)
    parts = [part for part in PARTS if set(exams.split.part(part)) & {"exam2019", "exam2021"}]
    assert len(parts) == 1
    assert exams.split.patients == {*EIGHT, "exam2019", "exam2021"}
    assert any("exam2019, exam2021 are one patient" in note for note in listener.notes)


def test_a_split_of_different_people_stays_what_it_was() -> None:
    names = [f"P{i}" for i in range(10)]
    order = [names[i] for i in np.random.default_rng(42).permutation(10)]
    split = split_patients(names)
    assert (*split.train, *split.val, *split.test) == tuple(order)
    assert split_patients(names, together=[["P3"]]) == split


def test_a_split_that_tears_a_patient_apart_is_refused_unless_allowed(two_exams: Path, tmp_path: Path) -> None:
    parts = {"train": [*EIGHT[:5], "exam2019"], "val": EIGHT[5:7], "test": [EIGHT[7], "exam2021"]}
    file = tmp_path / "torn.json"
    rows = {part: [{"patient_id": name} for name in names] for part, names in parts.items()}
    file.write_text(json.dumps({"splits": rows}))
    with pytest.raises(SplitError, match=r"exam2019 \(train\), exam2021 \(test\) are one patient"):
        open_exams([two_exams], split_json=file)
    assert open_exams([two_exams], split_json=file, allow_train_patients=True).split == read_split(file)


def test_a_training_patient_is_recognised_under_another_folder_name(tmp_path: Path) -> None:
    there = save_patients(tmp_path / "there", ("anna", "bert", "cleo"), slices=1, size=20)
    exams = open_exams([there], folder=tmp_path)
    known = exams.identities("train")
    assert known
    here = tmp_path / "here"
    here.mkdir()
    (here / "stranger").symlink_to(there / exams.split.train[0])
    (here / "other").symlink_to(there / exams.split.test[0])
    seen = seen_in_training(open_roots([here]).usable, exams.split.as_dict(), (), known)
    assert seen == ["stranger (known by its study, PatientID or voxels)"]


def test_a_link_gives_no_series_to_a_second_patient(tmp_path: Path) -> None:
    """To another patient's folder, to the root, to a file, and a patient's folder that is a link."""
    root = save_patients(tmp_path / "raw", ("bert", "cleo"), slices=1, size=20)
    (root / "anna").mkdir()
    (root / "anna" / "friend").symlink_to(root / "cleo")
    (root / "bert" / "all").symlink_to(root)
    (root / "anna" / "IM1").symlink_to(next((root / "cleo").rglob("IM1")))
    (root / "dora").symlink_to(root / "bert")
    found = {patient.patient_id: len(patient.series) for patient in scan(root).patients}
    assert found == {"anna": 0, "bert": 1, "cleo": 1, "dora": 0}


def test_what_lies_outside_the_root_belongs_to_the_first_patient_who_links_to_it(tmp_path: Path) -> None:
    archive = save_patients(tmp_path / "archive", ("x", "y"), slices=1, size=20)
    root = tmp_path / "root"
    root.mkdir()
    for name, target in (("anna", "x"), ("bert", "y"), ("cleo", "x")):
        (root / name).symlink_to(archive / target)
    found = {patient.patient_id: len(patient.series) for patient in scan(root).patients}
    assert found == {"anna": 1, "bert": 1, "cleo": 0}


def test_a_copied_volume_is_known_by_its_content(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.stack([body(20)] * 3, axis=-1), np.diag([-0.8, -0.8, 2.5, 1]))
    for name in ("anna", "bert"):
        (tmp_path / name).mkdir()
        nib.save(image, tmp_path / name / f"{name}.nii")
    save_patient(tmp_path, "cleo", slices=1, size=20)
    assert open_roots([tmp_path]).ids == ("anna", "cleo")


def test_bundled_models_know_their_patients_by_hashes(real_ct: Path) -> None:
    meta = load_model(BUNDLED["ctsr-x2"].file).meta
    assert meta is not None
    exams = {patient.patient_id: patient.identities for patient in scan(real_ct / "more").usable}
    assert is_same_person(meta.trained_identities, exams["DTU-Aquilion"])
    stranger = scan(real_ct / "patients" / "C3L-00189").usable
    assert not any(is_same_person(meta.trained_identities, patient.identities) for patient in stranger)
    assert replace(meta, trained_identities=()).trained_on == meta.trained_on


def test_links_that_lead_nowhere_or_in_circles_are_named(tmp_path: Path) -> None:
    root = save_patients(tmp_path, ("anna", "bert"), slices=2, size=24)
    (root / "anna" / "round").symlink_to(root / "bert" / "about")
    (root / "bert" / "about").symlink_to(root / "anna" / "round")
    (root / "anna" / "self").symlink_to("self")
    (root / "anna" / "gone").symlink_to(root / "gone")
    (root / "cleo").symlink_to(root / "nowhere")
    inventory = scan(root)
    assert [len(patient.series) for patient in inventory.usable] == [1, 1]
    named = [*inventory.excluded, *(excluded for patient in inventory.patients for excluded in patient.excluded)]
    assert {excluded.path.name for excluded in named if excluded.failed} == {"round", "about", "self", "gone", "cleo"}


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """Four people in one folder, as on a CD, and a person without a known PatientID."""
    root = tmp_path / "cd"
    for k in range(1, 5):
        name, study = f"DICOM/0000{k}", f"1.9.{k}"
        save_exam(root, name, patient_id=f"MRN001234{k}", study=study, series=f"{study}.1")
    save_exam(root, "DICOM/00005", patient_id="anon", study="1.9.5", series="1.9.5.1")
    return root


def test_several_people_in_one_folder_are_one_patient_and_are_told(medium: Path, tmp_path: Path) -> None:
    told = f"{medium / 'DICOM'} holds series of 4 people, by their PatientIDs, and is taken for one patient: "
    told += "give each patient a folder of their own"
    listener = Listener()
    patients = open_roots([medium], progress=listener)
    assert (patients.ids, patients.mix_ups) == (("DICOM",), (told,))
    assert f"warning: {told}" in listener.notes
    with pytest.raises(SplitError) as error:
        open_exams([medium], folder=tmp_path / "splits")
    assert f"1 patient with usable CT cannot be split into train, val and test; at least 3 are needed ({told})" in str(
        error.value
    )


def test_one_person_in_one_folder_is_not(tmp_path: Path) -> None:
    """However the id is typed, whatever is generic, and where a study has two ids."""
    for k, patient_id in enumerate(("MRN0012341", " mrn0012341", "anon", "", "12")):
        save_exam(tmp_path, f"anna/{k}", patient_id=patient_id, study=f"1.9.{k}", series=f"1.9.{k}.1")
    save_exam(tmp_path, "anna/9", patient_id="MRN-4711", study="1.9.0", series="1.9.9.1")
    assert open_roots([tmp_path]).mix_ups == ()


def as_nifti(path: Path, hu: np.ndarray, *, turned: bool = False) -> None:
    """The slices as NIfTI, from below; `turned` stores them the other way round along every axis."""
    stored = hu.transpose(2, 1, 0)
    affine = np.diag([-0.7, -0.7, 2.5, 1])
    affine[:3, 3] = 100, 120, 30
    if turned:
        last = np.array([*(size - 1 for size in stored.shape), 1])
        stored, affine = stored[::-1, ::-1, ::-1], np.column_stack([-affine[:, :3], affine @ last])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stored, affine), path)


def patients_of(root: Path) -> tuple[tuple[str, ...], ...]:
    return find_people({patient.patient_id: patient.identities for patient in scan(root).usable}).groups


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_volume_is_one_patient_in_whatever_format_and_way_round(tmp_path: Path, count: int) -> None:
    hu = np.stack([chest(seed=i) for i in range(count)]).astype(np.int16)
    image = SimpleITK.GetImageFromArray(hu)
    for name in ("nrrd", "mha"):
        (tmp_path / name).mkdir()
        SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, "LPS"), tmp_path / name / f"ct.{name}")
    as_nifti(tmp_path / "nifti" / "ct.nii.gz", hu)
    as_nifti(tmp_path / "float" / "ct.nii", hu.astype(np.float32))
    as_nifti(tmp_path / "turned" / "ct.nii", hu, turned=True)
    as_nifti(tmp_path / "clipped" / "ct.nii", hu.clip(-1000, 2000))
    save_series(tmp_path / "dicom", list(hu), PatientID="MRN 10016")
    down = {"ImageOrientationPatient": [1, 0, 0, 0, -1, 0], "PatientID": "MRN 20017", "StudyInstanceUID": "1.2.4"}
    save_series(tmp_path / "mirrored", [image[::-1] for image in hu], series="1.2.5", **down)
    other = hu.copy()
    other[count // 2] += 1
    as_nifti(tmp_path / "stranger" / "ct.nii", other)
    as_nifti(tmp_path / "longer" / "ct.nii", np.concatenate([hu, hu]))
    same = ("clipped", "dicom", "float", "mha", "mirrored", "nifti", "nrrd", "turned")
    assert patients_of(tmp_path) == (same,)


@pytest.mark.parametrize("patient", ["KiTS-00072", "LIDC-IDRI-0001"])
def test_a_real_series_and_what_dcm2niix_makes_of_it_are_one_patient(
    real_ct: Path, tmp_path: Path, patient: str
) -> None:
    (tmp_path / "dicom").symlink_to(real_ct / "patients" / patient)
    (tmp_path / "nifti").mkdir()
    dcm2niix(real_ct / "patients" / patient, tmp_path / "nifti", compressed=True)
    assert patients_of(tmp_path) == (("dicom", "nifti"),)


def test_voxels_that_many_slices_may_have_tell_nothing() -> None:
    for hu in (np.full((32, 32), -1000), np.where(np.eye(32) > 0, 40, -1000), np.full((32, 32), 3000)):
        assert not voxel_identity(3, hu.astype(np.float32), None)
    assert voxel_identity(3, chest().astype(np.float32), None)
    assert not voxel_identity(3, chest().astype(np.float32), np.ones((64, 48), np.bool_))
