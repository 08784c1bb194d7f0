"""`ctsr split`: the table and the file say who is where, and what his series are."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctsr.cli.main import main
from ctsr.data.split import read_split, split_patients
from tests.made.ct import body, save_series
from tests.made.exams import NAMES, save_patients


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 2 slices; dora has a second series, longer and finer than her first."""
    folder = save_patients(tmp_path_factory.mktemp("exams"), slices=2, size=40)
    fine = {"SliceThickness": 1.25, "Manufacturer": "SIEMENS", "ManufacturerModelName": "Emotion 16"}
    save_series(folder / "dora" / "fine", [body(48)] * 3, series="1.4", spacing=(0.5, 0.625), **fine)
    return folder


@pytest.fixture
def document(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    assert main(["split", "--root", str(root)]) == 0
    return json.loads(Path("splits/patient_split_seed42.json").read_text(encoding="utf-8"))


def test_the_file_says_what_was_split_and_how(document: dict[str, Any], root: Path) -> None:
    assert document.keys() == {"meta", "counts", "splits"}
    meta = document["meta"]
    assert meta.keys() == {"timestamp", "root", "seed", "device", "device_name", "python", "platform"}
    assert (meta["root"], meta["seed"]) == (str(root), 42)
    assert document["counts"] == {
        "train": {"num_patients": 4, "total_slices": 11},
        "val": {"num_patients": 1, "total_slices": 2},
        "test": {"num_patients": 1, "total_slices": 2},
    }


def test_the_file_holds_the_split_that_every_verb_uses(document: dict[str, Any]) -> None:
    assert read_split(Path("splits/patient_split_seed42.json")) == split_patients(NAMES, 42)


def test_each_patient_is_described_by_his_longest_series(document: dict[str, Any], root: Path) -> None:
    rows = {row["patient_id"]: row for part in document["splits"].values() for row in part}
    assert rows.keys() == set(NAMES)
    assert rows["dora"] == {
        "patient_id": "dora",
        "path": "dora",
        "num_slices": 5,
        "modality": "CT",
        "device": "SIEMENS Emotion 16",
        "rows": 48,
        "cols": 48,
        "slice_thickness_mm": 1.25,
        "pixel_spacing_mm": [0.5, 0.625],
    }
    assert all((root / row["path"]).is_dir() for row in rows.values())


def test_the_table_shows_every_patient_in_his_part(root: Path, tmp_path: Path, capsys) -> None:
    assert main(["split", "--root", str(root), "--seed", "7", "--out_dir", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    table = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    split = split_patients(NAMES, 7)
    assert [row[:2] for row in table] == [
        [part, name] for part in ("train", "val", "test") for name in split.part(part)
    ]
    (dora,) = (row for row in table if row[1] == "dora")
    assert dora[2:] == ["5", "CT", "SIEMENS Emotion 16", "1.25", "0.5 × 0.625"]
    for word in ("Split of 6 patients with seed 7", "thickness mm", "spacing mm"):
        assert word in out
    assert str(tmp_path / "s" / "patient_split_seed7.json") in out.splitlines()[-1]


def test_fewer_than_three_patients_are_a_failure_of_one_line(tmp_path: Path, capsys) -> None:
    save_patients(tmp_path / "two", ("anna", "bert"), slices=1, size=20)
    assert main(["split", "--root", str(tmp_path / "two"), "--out_dir", str(tmp_path / "s")]) == 1
    assert "at least 3 are needed" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_folder_of_several_people_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(1, 5):
        uid = f"1.9.{k}"
        folder = tmp_path / "cd" / "DICOM" / f"0000{k}"
        save_series(folder, [body(20)], series=uid, PatientID=f"MRN001234{k}", StudyInstanceUID=uid)
    assert main(["scan", str(tmp_path / "cd")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "holds series of 4 people, by their PatientIDs" in said
    assert "give each patient a folder of their own" in said
    assert main(["split", "--root", str(tmp_path / "cd"), "--out_dir", str(tmp_path / "s")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "at least 3 are needed" in said
    assert said.count("holds series of 4 people, by their PatientIDs") == 2, "as a warning and in the error"


def test_a_negative_seed_is_wrong_usage_and_no_traceback(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", "--root", str(root), "--seed", "-3", "--out_dir", str(tmp_path)]) == 2
    assert "--seed" in capsys.readouterr().err


def test_a_split_that_no_command_takes_by_itself_says_how_it_is_taken(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["split", "--root", str(root), "--seed", "7"]) == 0
    path = Path("splits", "patient_split_seed7.json")
    assert f"other commands take it with --split_json {path}" in capsys.readouterr().out
    assert main(["split", "--root", str(root)]) == 0
    assert "--split_json" not in capsys.readouterr().out
