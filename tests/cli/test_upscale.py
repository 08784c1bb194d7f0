from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from ctsr.cli.main import main
from ctsr.exams import scan
from tests.made.ct import body, save_series
from tests.made.model import save_model


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command with a series, a result and a model."""
    save_series(tmp_path / "in", np.stack([body(), body(seed=1)]))
    model = save_model(tmp_path / "best.pth")
    return ["upscale", str(tmp_path / "in"), str(tmp_path / "out"), "--model_path", str(model), "--engine", "torch"]


def test_the_verb_makes_a_series_finer_and_shows_what_it_did(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    (series,) = scan(tmp_path / "out").all_series()
    assert (series.rows, series.pixel_spacing) == (80, (0.35, 0.35))
    shown = capsys.readouterr()
    assert "1 series made, 0 kept from before, 0 failed" in shown.out
    assert "not for diagnosis" in shown.out
    assert "engine: torch fp32" in shown.err
    assert main(words) == 0
    assert "0 series made, 1 kept from before, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--slices", "1-2"], ["--target_spacing", "0"], ["--precision", "int8"]])
def test_flags_that_cannot_be_are_wrong_usage(words: list[str], tmp_path: Path, flags: list[str]) -> None:
    assert main([*words, *flags]) == 2
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "in"]) == 2
    assert "ctsr upscale IN OUT" in capsys.readouterr().err


def test_a_series_that_cannot_be_decoded_is_told_once_and_no_result_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "in").iterdir():
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
        ds.PixelData = encapsulate([b"\xff\x4f\xff\x51no code stream\xff\xd9"])
        ds["PixelData"].is_undefined_length = True
        ds.save_as(path)
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert (out + err).count("cannot decode") == 1
    assert "failed, see above" in out
    assert "Results:" not in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to compute on")
def test_a_device_that_is_missing_is_named_at_the_end_again(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--device", "cuda"]) == 0
    lines = capsys.readouterr().err.splitlines()
    said = "warning: --device cuda: no GPU is available here; computing on the CPU, slowly"
    assert lines.count(said) == 2
    assert lines[-1] == said
