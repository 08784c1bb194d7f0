import hashlib
import itertools
import math
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ctsr.dicom.encode import IMPLEMENTATION_CLASS_UID
from ctsr.errors import DomainError
from ctsr.phantom import make_exams
from ctsr.phantom.rendering import outside_circle
from tests.demo_set import PATIENTS, SLICES, DemoExams
from tests.needs import needs_program
from tests.oracles import dciodvfy
from tests.phantom.measure import hounsfield, images, nearest_image, values_at


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_patient_has_a_folder_with_a_folder_for_each_series(demo_exams: DemoExams) -> None:
    patients = sorted(path.name for path in demo_exams.root.iterdir() if path.is_dir())
    assert patients == [f"SYN-{n:03d}" for n in range(1, PATIENTS + 1)]
    assert all(len(images(truth.path)) == SLICES for truth in demo_exams.truths)


def test_one_image_of_every_series_has_no_error_for_dciodvfy(demo_exams: DemoExams) -> None:
    for folder in sorted(path for path in demo_exams.root.glob("*/*") if path.is_dir()):
        image = min(folder.glob("*.dcm"))
        assert dciodvfy(image) == ["CTImage"]


def test_the_images_agree_on_patient_study_and_frame_of_reference(demo_exams: DemoExams) -> None:
    dcentvfy = needs_program("dcentvfy", "dicom3tools")
    every = [str(path) for path in sorted(demo_exams.root.rglob("*.dcm"))]
    found = subprocess.run([dcentvfy, *every], capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def test_every_landmark_has_its_hu_where_dicom_geometry_says(demo_exams: DemoExams) -> None:
    for truth in demo_exams.truths:
        for landmark in truth.landmarks:
            values = values_at(nearest_image(truth, landmark.position[2]), landmark)
            # Neighbouring pixels share their noise: some ten of them are one independent sample.
            error = 4 * values.std() / math.sqrt(max(1.0, values.size / 10)) + 1
            assert abs(values.mean() - landmark.hu) < error, f"{truth.patient_id} {truth.kernel} {landmark}"


def test_fat_muscle_contrast_liver_nodules_and_lesions_are_all_known_somewhere(demo_exams: DemoExams) -> None:
    names = {landmark.name.rstrip(" 0123456789") for truth in demo_exams.truths for landmark in truth.landmarks}
    assert {"fat", "muscle", "aorta", "liver", "spleen", "lung nodule", "liver lesion"} <= names


def test_an_implant_is_above_what_models_are_trained_on(demo_exams: DemoExams) -> None:
    truth = demo_exams.truth("SYN-004")
    rod = truth.landmark("left spinal rod")
    assert values_at(nearest_image(truth, rod.position[2]), rod).min() > 2500


def test_outside_the_field_of_view_there_is_padding_and_inside_there_is_none(demo_exams: DemoExams) -> None:
    for truth in demo_exams.truths:
        hu = hounsfield(images(truth.path)[0])
        outside = outside_circle(hu.shape[0])
        assert set(np.unique(hu[outside])) == {truth.padding_hu}
        assert (hu[~outside] == truth.padding_hu).mean() < 1e-3


def test_paddings_signs_intercepts_and_transfer_syntaxes_differ(demo_exams: DemoExams) -> None:
    first = [images(truth.path)[0] for truth in demo_exams.truths]
    assert {truth.padding_hu for truth in demo_exams.truths} >= {-3024, -2000, -1024}
    assert {image.PixelRepresentation for image in first} == {0, 1}
    assert {float(image.RescaleIntercept) for image in first} == {0, -1024}
    assert {"PixelPaddingValue" in image for image in first} == {True, False}
    assert len({image.file_meta.TransferSyntaxUID for image in first}) == 4


def test_spacings_matrices_kernels_and_sizes_differ(demo_exams: DemoExams) -> None:
    first = [images(truth.path)[0] for truth in demo_exams.truths]
    spacings = {truth.spacing[1] for truth in demo_exams.truths}
    assert min(spacings) < 0.6
    assert max(spacings) > 0.95
    assert len({image.Rows for image in first}) >= 3
    assert len({truth.kernel for truth in demo_exams.truths}) >= 5
    assert len({float(image.SliceThickness) for image in first}) >= 4
    assert len({image.PatientAge for image in first}) == PATIENTS


def test_the_header_says_what_the_truth_says(demo_exams: DemoExams) -> None:
    for truth in demo_exams.truths:
        found = images(truth.path)
        z = sorted(float(image.ImagePositionPatient[2]) for image in found)
        assert {image.SeriesInstanceUID for image in found} == {truth.series_uid}
        assert {image.Manufacturer for image in found} == {"ctsr synthetic"}
        assert np.diff(z) == pytest.approx(truth.spacing[0])
        assert [float(v) for v in found[0].PixelSpacing] == pytest.approx(truth.spacing[1:])


def test_one_patient_has_a_localizer_and_one_has_two_series_of_one_study(demo_exams: DemoExams) -> None:
    localizers = [path for path in demo_exams.root.rglob("*.dcm") if "LOCALIZER" in pydicom.dcmread(path).ImageType]
    two = [truth for truth in demo_exams.truths if truth.patient_id == "SYN-003"]
    studies = {images(truth.path)[0].StudyInstanceUID for truth in two}
    assert len(localizers) == 1
    assert (len(two), len(studies)) == (2, 1)


def test_anatomy_changes_little_from_slice_to_slice_and_more_over_many(demo_exams: DemoExams) -> None:
    slices = [hounsfield(image).clip(-1000, 400) for image in images(demo_exams.truth("SYN-001").path)]
    near = np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(slices)])
    far = np.abs(slices[0] - slices[-1]).mean()
    assert 5 < near < far


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    make_exams(tmp_path / "a", patients=1, slices=1, workers=1)
    make_exams(tmp_path / "b", patients=1, slices=1, workers=2)
    make_exams(tmp_path / "c", patients=1, slices=1, workers=1, seed=1)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_no_uid_is_random_and_ours_is_named_as_the_writer(demo_exams: DemoExams) -> None:
    for truth in demo_exams.truths:
        for image in images(truth.path):
            assert image.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
            assert image.SOPInstanceUID.startswith("2.25.")


def test_a_set_of_no_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="at least 1 patient"):
        make_exams(tmp_path, patients=0)
