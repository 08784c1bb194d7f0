from collections.abc import Callable
from pathlib import Path

import pytest

from ctsr.errors import MissingInputError
from ctsr.exams import read_volume, scan, scan_patient
from tests.made.ct import chest, ct_slice, save, write_series
from tests.made.exams import only_series


def test_every_folder_is_a_patient_sorted_by_name_whatever_lies_below(tmp_path: Path) -> None:
    for name in ("P10", "P2", "a", "B"):
        write_series(tmp_path / name / "2020" / "ct", 2)
    (tmp_path / "empty").mkdir()
    inventory = scan(tmp_path)
    assert [patient.patient_id for patient in inventory.patients] == ["B", "P10", "P2", "a", "empty"]
    assert [patient.patient_id for patient in inventory.usable] == ["B", "P10", "P2", "a"]
    assert all(one.patient_id == patient.patient_id for patient in inventory.patients for one in patient.series)


def test_hidden_folders_are_no_patients(tmp_path: Path) -> None:
    write_series(tmp_path / "P1", 2)
    write_series(tmp_path / ".cache", 2)
    assert [patient.patient_id for patient in scan(tmp_path).patients] == ["P1"]


def test_a_patient_goes_by_the_name_he_is_given(tmp_path: Path) -> None:
    write_series(tmp_path / "Krupppp", 2)
    write_series(tmp_path / "Other", 2)
    inventory = scan(tmp_path, patient_ids={"Krupppp": "Krupp"})
    assert [patient.patient_id for patient in inventory.patients] == ["Krupp", "Other"]
    assert inventory.patients[0].series[0].patient_id == "Krupp"
    assert inventory.patients[0].path == tmp_path / "Krupppp"


def test_a_folder_of_slices_is_one_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "P7", 3)
    inventory = scan(tmp_path / "P7")
    assert [(one.patient_id, one.num_slices) for one in inventory.patients] == [("P7", 3)]


def test_slices_beside_folders_without_ct_are_one_patient_with_all_that_lies_below(tmp_path: Path) -> None:
    write_series(tmp_path / "P7", 3)
    (tmp_path / "P7" / "reports").mkdir()
    (tmp_path / "P7" / "reports" / "text.txt").write_text("normal")
    (patient,) = scan(tmp_path / "P7").patients
    assert (patient.patient_id, patient.num_slices, patient.ignored) == ("P7", 3, {"not DICOM": 1})


def test_slices_beside_patients_belong_to_nobody_and_are_reported(tmp_path: Path) -> None:
    write_series(tmp_path / "P1", 2)
    save(ct_slice(chest(), uid="1.9", series_uid="1.8"), tmp_path / "stray")
    inventory = scan(tmp_path)
    assert [patient.patient_id for patient in inventory.patients] == ["P1"]
    assert "no patient's folder" in inventory.excluded[0].reason


def test_a_single_file_is_a_patient(tmp_path: Path) -> None:
    path = save(ct_slice(chest()), tmp_path / "slice.dcm")
    assert scan_patient(path).num_slices == 1
    assert scan(path).usable[0].num_slices == 1


@pytest.mark.parametrize("read", [scan, scan_patient])
def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_a_volume_puts_each_slice_where_its_header_says(tmp_path: Path) -> None:
    series = only_series(write_series(tmp_path, 4))
    volume = read_volume(series)
    assert volume.grid.shape == (4, 64, 48)
    assert volume.grid.spacing == (2.5, 0.7, 0.7)
    assert volume.grid.directions == ((0, 0, 1), (0, 1, 0), (1, 0, 0))
    for i, header in enumerate(series.slices):
        assert volume.grid.position((i, 0, 0)) == pytest.approx(header.position, abs=1e-9)
        assert (volume.hu[i] == chest(seed=i)).all()
    assert volume.padding is None


def test_the_report_of_a_real_root_is_right(real_ct: Path) -> None:
    inventory = scan(real_ct / "patients")
    told = {
        one.patient_id: (
            len(one.slices),
            round(one.pixel_spacing[0], 3),
            one.slice_thickness,
            round(one.slice_step or 0, 2),
        )
        for one in inventory.all_series()
    }
    assert told == {
        "CMB-CRC-MSB-01068": (48, 0.898, 2.5, 2.5),
        "RIDER-0117": (48, 0.645, 1.25, 0.8),
        "LIDC-IDRI-0001": (52, 0.703, 2.5, 2.5),
        "LungFCP-01-0001": (44, 0.760, 2, 1),
        "ACRIN-013": (49, 1.367, 5, 4),
        "KiTS-00072": (18, 0.664, 3, 2.5),
        "C3L-00189": (35, 0.859, 5, 5),
    }
