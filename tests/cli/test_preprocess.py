from pathlib import Path

import numpy as np
import pytest
import yaml

from ctsr.cli.main import main
from ctsr.exams import scan
from tests.made.ct import body, ct_slice, save, save_series


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_series(tmp_path / "exams" / "P1", np.stack([body(), body(seed=1)]))
    return tmp_path / "exams"


def test_the_verb_resamples_a_root_and_shows_what_it_did(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "D" / "preprocessed"
    assert main(["preprocess", "--root", str(root), "--out_dir", str(out), "--target_spacing", "0.5"]) == 0
    (series,) = scan(out).all_series()
    assert series.pixel_spacing == (0.5, 0.5)
    shown = capsys.readouterr()
    assert "2 slices written, 0 kept from before, 0 series failed" in shown.out
    assert "2 slices to write" in shown.err


def test_the_output_goes_to_preprocessed_data_by_default(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["preprocess", "--root", str(root)]) == 0
    assert (tmp_path / "here" / "preprocessed_data" / "P1pp" / "IM1").is_file()


def test_hyphens_are_accepted_and_the_configuration_is_written_beside_the_result(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["preprocess", "--root", str(root), "--out-dir", str(out), "--no-antialias", "--workers", "1"]) == 0
    config = yaml.safe_load((out / "preprocess_config.yaml").read_text())
    assert (config["antialias"], config["target_spacing"], config["workers"]) == (False, 0.8, 1)
    again = ["preprocess", "--config", str(out / "preprocess_config.yaml"), "--out_dir", str(tmp_path / "again")]
    assert main(again) == 0
    one, two = (next(folder.rglob("IM1")).read_bytes() for folder in (out, tmp_path / "again"))
    assert one == two


def test_a_failed_series_makes_the_exit_status_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(ct_slice(body(), series_uid="1.8", RescaleSlope=None, RescaleIntercept=None), root / "P2" / "s")
    out = root.parent / "out"
    assert main(["preprocess", "--root", str(root), "--out_dir", str(out)]) == 1
    shown = capsys.readouterr()
    assert "--assume_hu" in shown.out
    assert "1 series failed" in shown.out
    assert (out / "P1pp" / "IM1").is_file()


def test_an_output_inside_the_root_is_wrong_usage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preprocess", "--root", str(root), "--out_dir", str(root / "out")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (root / "out").exists()
