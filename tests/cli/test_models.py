"""`ctsr models`: what comes with the package, and what is written about it."""

import hashlib
from pathlib import Path

import pytest

from ctsr.checkpoint.files import read_card
from ctsr.checkpoint.model_lookup import BUNDLED
from ctsr.cli.main import main
from tests.made.exams import save_patients
from tests.made.model import save_model


def test_the_list_names_each_model_with_its_hash_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for model in BUNDLED.values():
        assert model.name in out
        assert model.licence in out
        assert hashlib.sha256(model.file.read_bytes()).hexdigest() in out


def test_a_name_shows_the_card_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "ctsr-x2"]) == 0
    assert capsys.readouterr().out.strip() == read_card(BUNDLED["ctsr-x2"].file).strip()


def test_a_model_without_a_card_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_model(tmp_path / "best.pth")
    assert main(["models", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path} carries no card; `ctsr models` lists models that do\n"


@pytest.mark.parametrize(
    "words",
    [
        ["upscale", "EXAMS/anna", "sr", "--engine", "torch"],
        ["evaluate", "--root", "EXAMS", "--split", "val", "--no_plots", "--lpips", "none"],
        ["view", "EXAMS/anna", "--snapshot", "slice.png"],
    ],
    ids=lambda words: words[0],
)
def test_without_any_run_the_bundled_model_is_used_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_patients(tmp_path / "EXAMS", slices=2, size=48)
    assert main(words) == 0
    said = "model: ctsr-x2, which comes with ctsr"
    # `upscale` takes it whatever has been trained; the others, because nothing has.
    assert (said if words[0] == "upscale" else f"{said}, as there is no run in") in capsys.readouterr().err


def test_a_card_in_another_encoding_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "card.md").write_text("# Büro", encoding="latin-1")
    words = ["--model_path", "ctsr-x2", "--card", str(tmp_path / "card.md")]
    assert main(["export", str(tmp_path / "x.safetensors"), *words]) == 2
    assert f"error: {tmp_path / 'card.md'} is not text in UTF-8; save it as such\n" in capsys.readouterr().err
