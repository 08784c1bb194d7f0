"""`--baselines linear`: the best linear method for the degradation of the run, fitted without the test patients."""

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate import EvaluateOptions, methods
from ctsr.evaluate.evaluation import Evaluation, evaluate
from ctsr.evaluate.methods import BICUBIC, LINEAR, ModelUnderTest
from ctsr.evaluate.output_folder import read_rows
from ctsr.reporting import SILENT
from tests.made.exams import save_patients

BLUR = Degradation("blur", blur_sigma_range=(0.9, 0.9))


@pytest.fixture
def run(root: Path, store: Path, subject: ModelUnderTest, tmp_path: Path):
    def run(degradation: Degradation = BLUR, **flags: Any) -> Evaluation:
        settings = {
            "root": (root,),
            "store": store,
            "output_dir": tmp_path / "out",
            "split": "test",
            "no_plots": True,
            "metrics": ("PSNR",),
            "baselines": ("bicubic", "linear"),
        }
        return evaluate([subject], degradation, EvaluateOptions(**(settings | flags)), progress=SILENT)

    return run


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    return json.loads((evaluation.folder / "summary.json").read_text(encoding="utf-8"))


def test_it_beats_bicubic_where_lr_is_blurred_on_every_slice(run) -> None:
    rows = read_rows(run().folder / "metrics.csv")
    psnr = {(row.method, row.slice.slice_index): row.metrics["PSNR"].value or 0 for row in rows}
    gains = [psnr[LINEAR, i] - psnr[BICUBIC, i] for i in range(3)]
    assert min(gains) > 1.5, gains


def test_it_has_seen_training_patients_alone(run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[str]()
    original = methods.slice_pair

    def recorded(stored: Any, *rest: Any) -> SlicePair:
        seen.add(stored.patient_id)
        return original(stored, *rest)

    monkeypatch.setattr(methods, "slice_pair", recorded)
    found = summary_of(run())["linear_filter"]
    assert seen == {"anna", "bert", "cleo"} == set(found["patients"])
    assert len(found["slices"]) == 6
    # On the train part itself, who is measured is left out.
    seen.clear()
    run(split="train", max_patients=2)
    assert seen == {"cleo"}
    with pytest.raises(UsageError, match="has none that is not evaluated"):
        run(split="train")


def test_it_has_not_seen_the_patients_of_the_evaluation_under_another_folder(run, tmp_path: Path) -> None:
    """`fred` is a folder of the test part and `anna` one of the train part, and both are one person."""
    root = save_patients(tmp_path / "exams", slices=2, size=45)
    for path in (root / "anna").rglob("IM*"):
        ds = pydicom.dcmread(path)
        ds.PatientID = "PID fred"
        ds.save_as(path)
    found = summary_of(run(root=(root,), allow_train_patients=True))["linear_filter"]
    assert found["patients"] == ["bert", "cleo"]


def test_the_weights_belong_to_the_degradation_of_the_run_and_are_recorded(run) -> None:
    first, again, other = run(), run(), run(Degradation("blur", blur_sigma_range=(0.5, 0.5)))
    hashes = [summary_of(evaluation)["linear_filter"]["sha256"] for evaluation in (first, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert (first.folder / "metrics.csv").read_bytes() == (again.folder / "metrics.csv").read_bytes()
    assert summary_of(run(baselines=("bicubic",)))["linear_filter"] is None


def test_training_patients_that_cannot_be_used_are_said(run, root: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(root, tmp_path / "root")
    for file in sorted(copied.rglob("*")):
        if file.is_file() and {"anna", "bert", "cleo"} & set(file.parts):
            header = pydicom.dcmread(file)
            header.RescaleSlope = "0"
            header.save_as(file)
    with pytest.raises(UsageError, match="`baselines` linear: no training patient has a series"):
        run(root=(copied,))
