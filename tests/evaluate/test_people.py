"""Statistics over patients are over people: several folders of one of them count once, slices are compared in pairs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, BILINEAR, MODEL, ModelUnderTest
from ctsr.evaluate.plan import plan_evaluation
from ctsr.evaluate.planes import ThroughPlanePlan
from ctsr.evaluate.statistics import by_method, compare, patient_level, uneven
from ctsr.evaluate.summary import ResultTables
from ctsr.files import write_json
from ctsr.hashing import People
from ctsr.metrics import MetricValue
from ctsr.metrics.perceptual import PerceptualMetrics
from ctsr.reporting import SILENT
from tests.evaluate.made import rows
from tests.made.exams import NAMES, only_series, save_patient

TWICE = {"anna2": "anna1", "anna1": "anna1"}


def value(patient: str, _index: int, method: str) -> float:
    """Anna's two folders: 10 and 20; six others: 30."""
    return {"anna1": 10.0, "anna2": 20.0}.get(patient, 30.0) + (1.0 if method == MODEL else 0.0)


def test_the_folders_of_one_person_are_one_value_the_mean_over_all_their_slices() -> None:
    made = rows(value, {"anna1": 1, "anna2": 3, "bert": 2})
    found = patient_level(made, TWICE)[BICUBIC]["PSNR"]
    assert found.n == 2
    assert found.mean == pytest.approx(((10 + 3 * 20) / 4 + 30) / 2)


def test_copies_of_a_patient_make_no_interval_and_no_test() -> None:
    """Seven folders, of two people: no interval, and no p."""
    made = rows(value, {"anna1": 2, "bert": 2, **{f"exam{number}": 2 for number in range(5)}})
    people = dict.fromkeys(("bert", *(f"exam{number}" for number in range(5))), "bert")
    apart = compare(made, [MODEL], [BICUBIC])[0]
    assert (apart.n, apart.p_value is None, apart.ci95.low is None) == (7, False, False)
    together = compare(made, [MODEL], [BICUBIC], people)[0]
    assert (together.n, together.p_value, together.ci95.low) == (2, None, None)


def test_methods_are_compared_on_the_slices_where_both_have_a_value() -> None:
    """The interpolation is exact on every second slice, and has no PSNR there; elsewhere the model is 1 dB better."""

    def half(_patient: str, index: int, method: str) -> float | None:
        if index % 2:
            return None if method == BICUBIC else 20.0
        return 31.0 if method == MODEL else 30.0

    made = rows(half, {str(number): 4 for number in range(8)})
    (found,) = [one for one in compare(made, [MODEL], [BICUBIC]) if one.metric == "PSNR"]
    assert (found.n, found.better_on, found.difference) == (8, 8, 1.0)


def test_an_evaluation_counts_people_and_says_which_folders_are_one(
    tmp_path: Path, store: Path, subject: ModelUnderTest
) -> None:
    root = tmp_path / "root"
    files = {name: save_patient(root, name, slices=2, size=64, seed=seed) for seed, name in enumerate(NAMES)}
    for path in files["fred"]:
        dataset = dcmread(path)
        dataset.PatientID = "PID emil"
        dataset.save_as(path)
    parts = {"train": ["anna"], "val": ["bert"], "test": ["cleo", "dora", "emil", "fred"]}
    splits = {part: [{"patient_id": name} for name in names] for part, names in parts.items()}
    write_json(tmp_path / "split.json", {"splits": splits})
    options = EvaluateOptions(
        root=(root,),
        split="test",
        split_json=tmp_path / "split.json",
        store=store,
        output_dir=tmp_path / "results",
        metrics=("fidelity",),
        allow_train_patients=True,
    )
    found = evaluate([subject], subject.degradation, options)
    summary = json.loads((found.folder / "summary.json").read_bytes())
    assert found.num_patients == summary["num_patients"] == 3
    assert summary["patient_level_aggregate"][BICUBIC]["MAE"]["n"] == 3
    assert summary["global_per_slice"][BICUBIC]["MAE"]["n"] == 8
    assert summary["caveats"]["together"] == [["emil", "fred"]]
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert "emil, fred are one patient, by their headers, and count as one." in page
    assert "of 3 patients" in page
    fewer = plan_evaluation([subject], subject.degradation, replace(options, max_patients=3), SILENT)
    assert {planned.ref.patient_id for planned in fewer.slices} == {"cleo", "dora", "emil", "fred"}
    assert fewer.num_patients == 3


def test_the_first_people_are_counted_by_person_in_the_order_of_their_names() -> None:
    people = People(groups=(("anna", "zoe"), ("bert", "cleo")))
    names = ("cleo", "zoe", "dora", "bert", "anna")
    assert people.first(names, 1) == ("cleo", "bert")
    assert people.first(names, 2) == ("cleo", "zoe", "bert", "anna")
    assert people.first(names, 0) == ()
    assert people.first(names, None) == people.first(names, 9) == names


def test_thin_series_of_one_person_are_one_patient_between_slices_too(tmp_path: Path) -> None:
    first = save_patient(tmp_path, "anna", slices=3, size=32)
    for path in save_patient(tmp_path, "berta", slices=3, size=32, seed=1):
        dataset = dcmread(path)
        dataset.PatientID = dcmread(first[0]).PatientID
        dataset.save_as(path)
    series = tuple(only_series(tmp_path / name) for name in ("anna", "berta"))
    plan = ThroughPlanePlan((), EvaluateOptions(), (), (), PerceptualMetrics({}, {}), series, ())
    assert plan.people == {"anna": "anna", "berta": "anna"}


def test_means_over_different_slices_are_said() -> None:
    """The interpolation equals the reference on one slice of two: its mean lacks its best image."""
    made = rows(lambda _p, i, m: None if i and m == BICUBIC else 30.0, {"anna": 2, "bert": 2})
    lines = uneven(by_method(made))
    (line,) = [line for line in lines if line.startswith("PSNR ")]
    assert f"({BILINEAR} 4, {BICUBIC} 2, {MODEL} 4)" in line
    assert not [line for line in lines if line.startswith("LPIPS")]  # computed by none
    assert uneven(by_method(rows(value, {"anna1": 2, "bert": 1}))) == []


def test_means_over_different_slices_are_said_of_every_window(
    root: Path, store: Path, subject: ModelUnderTest, tmp_path: Path
) -> None:
    settings = EvaluateOptions(
        root=(root,), store=store, output_dir=tmp_path / "e", windows=("global", "brain"), metrics=("PSNR",)
    )
    plan = plan_evaluation([subject], subject.degradation, settings, SILENT)
    made = rows(lambda _p, i, m: None if i == 1 and m == BICUBIC else 30.0, {"dora": 3})
    shown = [replace(row, slice=planned.ref) for row, planned in zip(made, np.repeat(plan.slices[:3], 3), strict=True)]
    whole = [replace(row, metrics={"PSNR": MetricValue(30.0)}) for row in shown]
    brain = [replace(row, metrics={"PSNR": row.metrics["PSNR"]}, window="preset-brain") for row in shown]
    (line,) = ResultTables.of(plan, [*whole, *brain]).cautions
    assert line.startswith("In brain, C 40 W 80 HU, PSNR has values on different numbers of slices")
    assert f"{BICUBIC} 2" in line
