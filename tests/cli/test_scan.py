import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pydicom.fileset import FileSet

from ctsr.cli.main import main
from tests.made.ct import chest, ct_slice, save, slices, store, write, write_series


def test_the_table_tells_patient_series_and_geometry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "P1", 4)
    assert main(["scan", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for word in ("P1", "CHEST", "64 × 48", "0.7", "2.5", "STANDARD", "GE MEDICAL SYSTEMS"):
        assert word in printed
    assert "1 patient with 1 usable series, 4 slices" in printed


def test_what_is_wrong_left_out_and_ignored_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = slices(5)
    del made[2]
    write(tmp_path / "P1", made)
    save(ct_slice(chest(), uid="1.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "P1" / "scout")
    save(ct_slice(chest(), uid="1.8", Modality="SEG"), tmp_path / "P1" / "seg")
    (tmp_path / "P2").mkdir()
    (tmp_path / "P2" / "notes.txt").write_text("nothing")
    assert main(["scan", "--root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "slices are missing: 1 between z = 32.5 mm and z = 37.5 mm" in printed
    assert "a localizer" in printed
    assert "without usable CT: P2" in printed
    assert "ignored: 1 SEG, 1 not DICOM" in printed


def test_what_is_no_ct_is_told_by_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "P1", 3)
    for name in ("P2", "P3"):
        (tmp_path / name).mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "P2" / "picture.dat", format="png")
    FileSet().write(tmp_path / "P2")
    shutil.make_archive(str(tmp_path / "more"), "zip", tmp_path, "P1")
    assert main(["scan", str(tmp_path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "without usable CT: P2; empty folders: P3" in last
    assert "ignored: 1 DICOMDIR, 1 PNG, 1 zip archive; give a zip archive itself to look into it" in last


def test_an_empty_folder_is_called_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(tmp_path)]) == 1
    assert "the folder is empty" in capsys.readouterr().out


def test_the_inventory_can_be_had_as_json(tmp_path: Path) -> None:
    write_series(tmp_path / "exams" / "P1", 3)
    assert main(["scan", str(tmp_path / "exams"), "--json", str(tmp_path / "inventory.json")]) == 0
    inventory = json.loads((tmp_path / "inventory.json").read_text(encoding="utf-8"))
    (series,) = inventory["patients"][0]["series"]
    assert series["patient_id"] == "P1"
    assert [one["position"][2] for one in series["slices"]] == [30, 32.5, 35]


def test_a_broken_file_fails_the_scan_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "P1", 3)
    victim = max((tmp_path / "P1").iterdir())
    victim.write_bytes(victim.read_bytes()[:-100])
    assert main(["scan", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "100 bytes early" in printed
    assert "2 slices" in printed


def test_nothing_usable_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "P1").mkdir()
    assert main(["scan", str(tmp_path)]) == 1


def test_pixels_that_cannot_be_decoded_are_found_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def forget(ds: object, i: int) -> None:
        del ds.RescaleSlope  # pyright: ignore[reportAttributeAccessIssue]

    write(tmp_path / "P1", [store(ds, chest(), signed=True) for ds in slices(2, forget)])
    assert main(["scan", str(tmp_path)]) == 0
    assert main(["scan", str(tmp_path), "--pixels"]) == 1
    assert "no RescaleSlope" in capsys.readouterr().err
    assert main(["scan", str(tmp_path), "--pixels", "--assume_hu"]) == 0
    for words, found in (([], None), (["--pixels"], 2), (["--pixels", "--assume_hu"], 0)):
        main(["scan", str(tmp_path), *words, "--json", str(tmp_path / "all.json")])
        said = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
        assert said["people"] == []
        assert (None if found is None else len(said["pixels"])) == found
        assert all("no RescaleSlope" in line for line in said.get("pixels", ()))


def test_a_scan_of_nothing_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan"]) == 2
    assert "give a folder" in capsys.readouterr().err
    for command, flag in (("scan", "--root"), ("view", "--dicom_folder")):  # the second one was passed over
        assert main([command, "exams", flag, "others", *(["--no_model"] if command == "view" else [])]) == 2
        assert "at a time, got exams and others" in capsys.readouterr().err


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_noise_and_blur_are_measured_on_request(
    real_ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exams").mkdir()
    for patient in ("patients/KiTS-00072", "phantoms/imageQC/CTP591_06mm_se2_B60f"):
        (tmp_path / "exams" / Path(patient).name).symlink_to(real_ct / patient)
    assert main(["scan", str(tmp_path / "exams"), "--quality", "--json", str(tmp_path / "found.json")]) == 0
    out = capsys.readouterr().out
    assert all(column in out for column in ("noise HU", "noise 1/mm", "blur mm"))
    sharp, soft = json.loads((tmp_path / "found.json").read_text())["quality"]
    assert sharp["noise"]["sigma_hu"] > 3 * soft["noise"]["sigma_hu"] > 20
    assert sharp["sharpness"]["blur_sigma_mm"] < 0.6 * soft["sharpness"]["blur_sigma_mm"]
    assert len(soft["slice_indices"]) == 5


def test_quality_says_why_it_has_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "p1", 2)
    assert main(["scan", str(tmp_path), "--quality"]) == 0
    assert "no sharpness: " in capsys.readouterr().out


def test_a_slice_that_looks_unlike_hu_in_a_series_that_does_is_found_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = slices(5)
    made[0].PixelData = made[0].pixel_array.byteswap().tobytes()
    write(tmp_path / "P1", made)
    assert main(["scan", str(tmp_path)]) == 0
    assert main(["scan", str(tmp_path), "--pixels"]) == 1
    assert "unlike its series, its values do not look like HU" in capsys.readouterr().err
    assert main(["scan", str(tmp_path), "--pixels", "--assume_hu"]) == 0
