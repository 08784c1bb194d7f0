"""What commands make of phases under one series UID, and in which order."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ctsr.cli.main import main
from ctsr.exams import scan_patient
from tests.made.ct import body, slices, write
from tests.made.exams import kinds

PLACES = 4


def test_each_phase_is_scanned_preprocessed_and_made_finer(
    tmp_path: Path, bilinear_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(ds: Dataset, i: int) -> None:
        ds.ImagePositionPatient = [-100, -120, 30 + 2.5 * (i // 2)]
        ds.AcquisitionNumber = 1 + i % 2

    write(tmp_path / "exams" / "P1", slices([body(24, seed=i) for i in range(2 * PLACES)], edit))
    exams = str(tmp_path / "exams")
    assert main(["scan", exams]) == 0
    shown = capsys.readouterr().out
    assert "1.2.3.4 AcquisitionNumber 2" in shown
    assert "one of 2 phases or reconstructions under one series UID: AcquisitionNumber 1, AcquisitionNumber 2" in shown

    out = tmp_path / "out"
    arguments = ["upscale", exams, str(out), "--model_path", str(bilinear_path), "--engine", "torch"]
    assert main([*arguments, "--no_picture"]) == 0
    folders = sorted(path.parent for path in out.rglob("run.json"))
    assert [folder.name.rsplit("_", 1)[0] for folder in folders] == [
        "CHEST_AcquisitionNumber_1",
        "CHEST_AcquisitionNumber_2",
    ]
    for folder, number in zip(folders, (1, 2), strict=True):
        written = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        assert [ds.AcquisitionNumber for ds in written] == [number] * PLACES
        assert json.loads((folder / "run.json").read_text())["source"]["phase"] == f"AcquisitionNumber {number}"
    assert len({pydicom.dcmread(folder / "0001.dcm").SeriesInstanceUID for folder in folders}) == 2

    again = [*arguments[:2], str(tmp_path / "two"), *arguments[3:], "--series", "1.2.3.4 AcquisitionNumber 2"]
    assert main(again) == 0
    assert len(list((tmp_path / "two").rglob("run.json"))) == 1

    resampled = tmp_path / "resampled"
    assert main(["preprocess", "--root", exams, "--out_dir", str(resampled), "--jobs", "1"]) == 0
    log = json.loads((resampled / "preprocessing_log.json").read_text())
    assert [row["num_slices"] for row in log] == [PLACES, PLACES]
    found = scan_patient(resampled / "P1pp").series
    assert len({series.series_uid for series in found}) == 2
    assert kinds(scan_patient(resampled / "P1pp")) == set()


def test_derived_slices_keep_the_order_of_the_sources_numbers(tmp_path: Path, bilinear_path: Path) -> None:
    def downwards(ds: Dataset, i: int) -> None:
        ds.InstanceNumber = 40 - 2 * i
        ds.SpacingBetweenSlices = -2.5

    write(tmp_path / "exams" / "P1", slices([body(24, seed=i) for i in range(3)], downwards))
    arguments = ["upscale", str(tmp_path / "exams"), str(tmp_path / "out"), "--model_path", str(bilinear_path)]
    assert main([*arguments, "--engine", "torch", "--no_picture"]) == 0
    written = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert [ds.InstanceNumber for ds in written] == [3, 2, 1]
    assert np.diff([ds.ImagePositionPatient[2] for ds in written]).tolist() == [2.5, 2.5]
    assert {float(ds.SpacingBetweenSlices) for ds in written} == {2.5}
