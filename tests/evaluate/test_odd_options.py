"""What options do together that few people combine."""

import json
import re
from pathlib import Path
from typing import Any

import pydicom
import pytest

from ctsr.cli.console import Console
from ctsr.cli.training import show
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate
from ctsr.evaluate.methods import BICUBIC, ModelUnderTest, load_model_under_test
from ctsr.viewer.samplers import read_summary
from tests.made.exams import save_patients
from tests.made.listener import Listener
from tests.made.model import save_model


@pytest.fixture
def run(root: Path, store: Path, subject: ModelUnderTest, tmp_path: Path):
    def run(
        degradation: Degradation | None = None,
        models: list[ModelUnderTest] | None = None,
        listener: Listener | None = None,
        **flags: Any,
    ) -> Evaluation:
        settings = {"root": (root,), "store": store, "output_dir": tmp_path / "e", "split": "test"} | flags
        return evaluate(
            models or [subject],
            degradation or Degradation(),
            EvaluateOptions(**settings),
            progress=listener or Listener(),
        )

    return run


def page_of(evaluation: Evaluation) -> str:
    return (evaluation.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "metrics", [("BIAS_HU_soft", "MAE_HU_soft"), ("BIAS_HU_fat",), ("VIF",), ("hu",), ("structure",), ("LPIPS",)]
)
def test_any_subset_of_metrics_has_a_table_plots_and_a_report(
    run, metrics: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = run(metrics=metrics)
    assert (evaluation.folder / "plots" / "bar.png").is_file()
    assert "Bland–Altman" in page_of(evaluation)
    show(Console(), evaluation)
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Method"))
    assert "┃" in header, "there is a column beside the methods"


def test_hu_metrics_are_not_said_to_be_on_a_window(run) -> None:
    page = page_of(run(metrics=("hu",), windows=("lung", "bone"), mask=("none", "body")))
    assert re.findall(r"<h3>Means over (.*?)</h3>", page) == ["the whole image", "the body only"]
    groups = re.findall(r"<th[^>]*colspan[^>]*>(.+?)</th>", page)
    assert groups == ["HU, clipped to the model&#39;s range"] * 2  # no window is named


def test_a_baseline_that_is_named_twice_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="names one twice: bicubic bicubic"):
        EvaluateOptions(baselines=("bicubic", "bicubic"))


def test_a_run_that_is_called_like_a_baseline_does_not_take_its_place(run, tmp_path: Path) -> None:
    models = [
        load_model_under_test(str(save_model(tmp_path / name / "best.pth", seed=seed)), device="cpu")
        for seed, name in enumerate(("Bicubic", "HR"))
    ]
    found = run(models=models, hallucination=True, study_slices=1, metrics=("MAE",), no_plots=True)
    summary = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))
    assert [one["method"] for one in summary["hallucination"]] == summary["methods"]


def test_without_noise_there_is_no_detectability_and_no_frequency_of_noise(run) -> None:
    found = run(Degradation("clean"), physics=True, study_slices=1, metrics=("MAE",))
    physics = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))["physics"]
    interpolated = ("Bilinear", "Bicubic")  # an untrained network makes a pattern of its own
    assert {one["d_prime"] for one in physics["detectability"] if one["method"] in interpolated} == {None}
    assert {one["mean_per_mm"] for one in physics["noise"] if one["method"] in interpolated} == {None}


def test_pixels_that_are_not_square_are_left_out_of_the_studies_with_a_warning(run, tmp_path: Path) -> None:
    exams = save_patients(tmp_path / "exams", slices=2, size=40)
    for path in (exams / "emil").rglob("IM*"):
        ds = pydicom.dcmread(path)
        ds.PixelSpacing = [0.5, 1.0]
        ds.save_as(path)
    listener = Listener()
    found = run(root=(exams,), split="val", hallucination=True, metrics=("MAE",), no_plots=True, listener=listener)
    assert any("emil: pixels of 0.5 × 1 mm are not square" in note for note in listener.notes)
    slices = json.loads((found.folder / "hallucination.json").read_text(encoding="utf-8"))["slices"]
    assert {one["slice_name"].split()[0] for one in slices} == {"dora"}
    strata = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))["by_domain"]
    assert "0.5 mm × 1 mm" in strata["globalHU_-1000_2000"]["strata"]["pixel spacing"]


def flat_pixels(place: Path) -> Path:
    """Patients none of whom has square pixels."""
    for path in save_patients(place, slices=2, size=40).rglob("IM*"):
        ds = pydicom.dcmread(path)
        ds.PixelSpacing = [0.5, 1.0]
        ds.save_as(path)
    return place


def test_a_study_without_anything_to_study_costs_no_number(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a traceback after all slices, without tables, summary and report."""
    root = flat_pixels(tmp_path / "exams")
    found = run(root=(root,), physics=True, hallucination=True, metrics=("MAE",), no_plots=True)
    assert found.undone == tuple(f"{name}: no series has square pixels" for name in ("physics", "hallucination"))
    summary = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["patient_level_aggregate"][BICUBIC]["MAE"]["n"] == 1
    assert summary["failures"] == list(found.undone)
    assert "physics: no series has square pixels" in page_of(found)
    show(Console(), found)
    assert "physics: no series has square pixels" in capsys.readouterr().err


def test_a_plot_that_fails_costs_no_number_and_stale_ones_are_not_shown(run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(metrics=("MAE",))
    assert page_of(whole).count("data:image/png") > 5

    def fail(*_: object) -> None:
        raise ValueError("no such colour")

    with monkeypatch.context() as patch:
        patch.setattr("ctsr.evaluate.evaluation.example_figure", fail)
        found = run(metrics=("MSE",))
    assert found.undone == ("plots: no such colour",)
    assert "MSE" in page_of(found)
    assert (found.folder / "plots" / "bar.png").is_file()
    again = run(metrics=("MSE",), no_plots=True)  # continues it, and shows nothing of before
    assert again.folder == found.folder
    assert again.undone == ()
    assert "data:image/png" not in page_of(again)


def test_long_and_foreign_names_are_drawn_without_a_warning(
    run, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    names = ["a patient whose name is far too long for any axis of any plot that was ever made", "患者"]
    exams = save_patients(tmp_path / "exams", names, slices=1, size=40)
    split = {"train": (), "val": (), "test": tuple(names)}
    model = load_model_under_test(str(save_model(tmp_path / ("m" * 150 + ".pth"), split=split)), device="cpu")
    found = run(models=[model], root=(exams,), windows=("global", "lung", "bone", "brain", "liver"), flat_names=True)
    assert len(found.folder.name.encode()) < 255
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


def test_a_viewer_is_told_that_the_evaluation_was_on_the_body(run) -> None:
    found = run(mask=("body",), metrics=("MAE",), no_plots=True)
    assert read_summary(found.folder / "summary.json").mask == "body"


def test_lanczos_alone_is_enough_of_a_baseline(run) -> None:
    found = run(baselines=("lanczos",), metrics=("PSNR",))
    assert BICUBIC not in found.means
    assert "<td>Lanczos</td>" in page_of(found)
