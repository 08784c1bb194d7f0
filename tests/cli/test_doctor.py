"""`ctsr doctor`: what works here, and status 1 where something is broken."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ctsr import __version__
from ctsr.cli.main import main
from ctsr.demo import DemoResult
from ctsr.evaluate.evaluation import Evaluation


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_report_names_versions_codecs_models_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--no_timing"]) == 0
    report = capsys.readouterr().out
    for words in (
        __version__,
        "torch",
        "JPEG-LS: available",
        "ctsr-x2: bundled",
        "ctsr-z: bundled",
        "fast:",
        "nothing is broken",
    ):
        assert words in report


def test_a_cache_that_cannot_be_written_is_named_with_what_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be", encoding="utf-8")
    assert main(["doctor", "--no_timing"]) == 0
    said = capsys.readouterr().out
    assert "cannot be written" in said
    assert "CTSR_CACHE" in said


@pytest.mark.slow
def test_every_engine_that_is_installed_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "torch fp32:" in report
    assert ("openvino int8:" in report) == ("openvino fp32:" in report)


def test_a_demo_of_which_a_part_failed_does_not_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = SimpleNamespace(model_methods=("mine", "theirs"), folder=tmp_path)
    monkeypatch.setattr("ctsr.cli.training.show", lambda *_: None)
    for failed in (True, False):
        result = DemoResult(tmp_path, cast("Evaluation", evaluation), failed)
        monkeypatch.setattr("ctsr.demo.run_demo", lambda *_, result=result, **__: result)
        assert main(["demo", "--out_dir", str(tmp_path)]) == failed
    assert f"report:  {tmp_path / 'report.html'}" in capsys.readouterr().out
