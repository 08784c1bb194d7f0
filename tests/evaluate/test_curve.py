"""The perception–distortion curve: a point for each blend, an evaluation's numbers, continued when cut off."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctsr import __version__
from ctsr.checkpoint import Model, load_model
from ctsr.cli.main import main
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate import evaluation as curve_module
from ctsr.evaluate.evaluation import Curve, Evaluation, evaluate, evaluate_curve
from ctsr.evaluate.methods import MODEL, ModelUnderTest
from tests.made.listener import Listener
from tests.made.model import save_model
from tests.needs import needs_weights


@pytest.fixture
def options(root: Path, store: Path, tmp_path: Path) -> EvaluateOptions:
    return EvaluateOptions(
        root=(root,), store=store, output_dir=tmp_path / "eval_results", no_plots=True, max_slices_per_patient=1
    )


@pytest.fixture
def first(tmp_path: Path) -> Model:
    return load_model(save_model(tmp_path / "l1" / "best.pth", seed=8))


def drawn(
    first: Model,
    subject: ModelUnderTest,
    options: EvaluateOptions,
    *alphas: float,
    listener: Listener | None = None,
) -> Curve:
    progress = listener or Listener()
    return evaluate_curve(first, subject.model, alphas, subject.device, subject.degradation, options, progress=progress)


def test_each_end_has_the_numbers_of_that_generators_own_evaluation(
    first: Model, subject: ModelUnderTest, options: EvaluateOptions
) -> None:
    found = drawn(first, subject, options, 0, 0.5, 1)
    assert [point.alpha for point in found.points] == [0, 0.5, 1]
    for point, generator in zip((found.points[0], found.points[2]), (first, subject.model), strict=True):
        alone = evaluate([ModelUnderTest(generator, subject.device)], subject.degradation, options)
        assert point.psnr_db == alone.means[MODEL]["PSNR"].mean
        assert point.bias_hu == alone.means[MODEL]["BIAS_HU"].mean
    with (found.folder / "curve.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["psnr_db"]) for row in rows] == [point.psnr_db for point in found.points]
    assert (found.folder / "curve.png").is_file()
    blends = [
        json.loads((found.folder / p.folder / "summary.json").read_text())["model"]["blend"] for p in found.points
    ]
    assert [one["alpha"] for one in blends] == [0, 0.5, 1]


def test_a_curve_that_was_cut_off_is_continued(
    first: Model, subject: ModelUnderTest, options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawn(first, subject, options, 0, 0.25, 1).points
    calls: list[str] = []

    def once(*args: object, **keywords: object) -> object:
        if calls:
            raise KeyboardInterrupt
        calls.append("evaluated")
        return evaluate(*args, **keywords)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(curve_module, "evaluate", once)
        with pytest.raises(KeyboardInterrupt):
            drawn(first, subject, options, 0, 0.25, 1)
    listener = Listener()
    again = drawn(first, subject, options, 0, 0.25, 1, listener=listener)
    assert [note for note in listener.notes if note.startswith("alpha")] == ["alpha 0.25", "alpha 1"]
    assert [point.psnr_db for point in again.points] == [point.psnr_db for point in whole]


def test_a_curve_is_not_continued_on_another_engine(
    first: Model, subject: ModelUnderTest, options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first points were one engine's and its last ones another's."""
    with monkeypatch.context() as patch:
        patch.setattr(curve_module, "_curve_figure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            drawn(first, subject, options, 0, 1)
    listener = Listener()
    drawn(first, subject, replace(options, engine="auto"), 0, 1, listener=listener)
    assert [note for note in listener.notes if note.startswith("alpha")] == ["alpha 0", "alpha 1"]
    again = Listener()
    drawn(first, subject, options, 0, 1, listener=again)
    assert [note for note in again.notes if note.startswith("alpha")] == []


def test_points_that_lack_slices_are_computed_again(
    first: Model, subject: ModelUnderTest, options: EvaluateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means over other slices stayed in the curve, and an evaluation says that the same command tries again."""

    def failed(*args: Any, **keywords: Any) -> Evaluation:
        return replace(evaluate(*args, **keywords), failures=("dora: 1 slices not measured",))

    with monkeypatch.context() as patch:
        patch.setattr(curve_module, "evaluate", failed)
        assert drawn(first, subject, options, 0, 1).failures == ("dora: 1 slices not measured",)
    listener = Listener()
    again = drawn(first, subject, options, 0, 1, listener=listener)
    assert [note for note in listener.notes if note.startswith("alpha")] == ["alpha 0", "alpha 1"]
    assert again.failures == ()
    assert len(list(options.output_dir.iterdir())) == 1


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_with_weights_at_hand_lpips_is_computed(
    root: Path, store: Path, subject: ModelUnderTest, tmp_path: Path
) -> None:
    cache = needs_weights("alexnet", "lpips-alex")
    options = EvaluateOptions(
        root=(root,), store=store, output_dir=tmp_path, no_plots=True, cache=cache, flat_names=True
    )
    found = evaluate([subject], subject.degradation, options)
    values = {method: means["LPIPS"].mean for method, means in found.means.items()}
    assert all(value is not None and 0 < value < 1 for value in values.values())
    summary = json.loads((found.folder / "summary.json").read_text())
    assert summary["lpips"] == {"backend": "builtin", "version": __version__, "trunk": "alexnet"}


def test_without_weights_the_reason_stands_in_its_column_and_the_command_is_told(
    subject: ModelUnderTest, options: EvaluateOptions
) -> None:
    listener = Listener()
    found = evaluate([subject], subject.degradation, options, progress=listener)
    one = found.means[MODEL]["LPIPS"]
    assert one.mean is None
    assert "LPIPS is left out: weights not fetched (ctsr weights fetch alexnet lpips-alex)" in " ".join(listener.notes)
    summary = json.loads((found.folder / "summary.json").read_text())
    assert summary["lpips"] is None
    with (found.folder / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert all(row["LPIPS"] == "" and "LPIPS: weights not fetched" in row["not_computed"] for row in rows)


def test_the_verb_prints_the_table(
    root: Path, store: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("runs/rrdb_x2_blurnoise_20260101-120000/best.pth"), seed=8)
    save_model(Path("runs/finetune_x2_blurnoise_20260201-120000/best.pth"), seed=9)
    words = ["evaluate", "--root", str(root), "--store", str(store), "--device", "cpu", "--no_plots"]
    words += ["--model_path", str(model_path), "--max_patients", "1", "--max_slices_per_patient", "1"]
    assert main([*words, "--alphas", "0", "1"]) == 0
    out, err = capsys.readouterr()
    assert "the newest L1 run (choose another with --pretrained_g)" in err
    assert "rrdb_x2_blurnoise_20260101-120000" in err
    assert [line.split()[0] for line in out.splitlines() if line.strip()[:1] in {"0", "1"}] == ["0", "1"]
    assert main([*words, "--alphas", "2"]) == 2
    assert main([*words, "--pretrained_g", "runs"]) == 2
