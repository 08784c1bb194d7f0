import csv
from pathlib import Path

import pytest

from ctsr.errors import MissingInputError
from ctsr.viewer.state import find_series
from tests.made.ct import chest, save_series, slices, write
from tests.made.exams import save_patient, save_patients
from tests.made.listener import Listener


def preprocessed(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        save_patient(root, f"{name}pp", slices=2, size=32, seed=seed)
    with (root / "preprocessing_log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["patient_id"], *([name] for name in names)])
    return root


def names(path: Path, known: tuple[str, ...] = ()) -> list[str]:
    return [one.patient_id for one in find_series(path, known=known).series]


def test_a_preprocessed_patient_goes_by_his_own_name_from_any_folder_inside(tmp_path: Path) -> None:
    root = preprocessed(tmp_path, "15041", "krupp")
    for path in (root / "15041pp", next((root / "15041pp").iterdir())):
        assert names(path) == ["15041"]
    assert names(root) == ["15041", "krupp"]


def test_a_folder_inside_a_patient_whom_the_model_knows_means_that_patient(tmp_path: Path) -> None:
    save_patient(tmp_path, "15041", slices=2, size=32, seed=1)
    save_patient(tmp_path, "15041", slices=3, size=32, seed=2)
    inner = tmp_path / "15041" / "1.3.2"
    found = find_series(inner, known={"15041"})
    assert [one.patient_id for one in found.series] == ["15041", "15041"]
    # The one inside the folder is shown first, though the other is longer.
    assert found.series[found.first].path == inner
    assert names(inner) == ["1.3.2"], "nothing tells that 15041 is a patient"


def test_a_folder_that_is_called_like_the_headers_patient_is_the_patient(tmp_path: Path) -> None:
    save_series(tmp_path / "P1" / "study" / "series", [chest(seed=i) for i in range(2)])
    assert names(tmp_path / "P1" / "study" / "series") == ["P1"]


def test_a_root_of_patients_is_told_from_a_patient(tmp_path: Path) -> None:
    save_patients(tmp_path / "known", ["anna", "bert"], slices=2, size=32)
    assert names(tmp_path / "known", ("anna", "cleo")) == ["anna", "bert"]
    for i, name in enumerate(("one", "two")):
        write(tmp_path / "headers" / name, slices(2, series=f"1.2.{i}", PatientID=name))
    assert names(tmp_path / "headers") == ["one", "two"]


def test_the_longest_series_comes_first(tmp_path: Path) -> None:
    save_patient(tmp_path, "anna", slices=2, size=32, seed=1)
    save_patient(tmp_path, "anna", slices=4, size=32, seed=2)
    found = find_series(tmp_path / "anna")
    assert len(found.series[found.first].slices) == 4


def test_what_cannot_be_shown_is_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path / "p" / "good", slices(2, series="1.2.1"))
    write(tmp_path / "p" / "bad", slices(2, series="1.2.2", RescaleSlope=None, RescaleIntercept=None))
    listener = Listener()
    found = find_series(tmp_path / "p", progress=listener)
    assert [one.series_uid for one in found.series] == ["1.2.1"]
    assert any("`assume_hu`" in note for note in listener.notes)
    assert len(find_series(tmp_path / "p", assume_hu=True).series) == 2


def test_patients_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    for i, name in enumerate(("one", "two", "three")):
        write(tmp_path / name, slices(2, series=f"1.2.{i}", PatientID=name))
    for path in (tmp_path / "two").iterdir():
        path.write_bytes(path.read_bytes()[:-99])
    listener = Listener()
    assert len(find_series(tmp_path, progress=listener).series) == 2
    assert [note for note in listener.notes if note.startswith("left out") and "two" in note]


def test_nothing_to_show_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no CT")
    with pytest.raises(MissingInputError, match="no CT series to show"):
        find_series(tmp_path)


def test_a_root_with_one_patient_is_not_the_patient(tmp_path: Path) -> None:
    write(tmp_path / "root" / "P7" / "study" / "series", slices(2, PatientID="P7"))
    assert names(tmp_path / "root") == ["P7"]
    assert names(tmp_path / "root" / "P7") == ["P7"]
    assert names(tmp_path / "root" / "P7" / "study") == ["P7"]
