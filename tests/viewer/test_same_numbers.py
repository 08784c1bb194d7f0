"""The viewer shows what the evaluation measured: LR to the bit, metrics to the digit."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation
from ctsr.errors import ReadError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import BICUBIC, LANCZOS, LINEAR, MODEL, ModelUnderTest
from ctsr.evaluate.output_folder import Row, read_rows
from ctsr.viewer.roi_metrics import METRICS
from ctsr.viewer.session import ViewedSlice, ViewerSession
from tests.needs import needs
from tests.viewer.conftest import TURN, Open

BASELINES = ("bicubic", "lanczos", "linear")
SAMPLINGS = ("volume", "slice", "det-slice")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, root: Path, store: Path, model_path: Path):
    """``evaluated(sampling)`` → the folder of an evaluation of dora and emil, made once."""
    made: dict[str, Path] = {}

    def evaluated(sampling: str, **options: object) -> Path:
        key = f"{sampling} {options}"
        if key not in made:
            from ctsr.evaluate.methods import load_model_under_test

            model = load_model_under_test(str(model_path), device="cpu")
            out = tmp_path_factory.mktemp("evaluated")
            chosen = EvaluateOptions(
                root=(root,), store=store, output_dir=out, no_plots=True, degradation_sampling=sampling, **options
            )
            made[key] = evaluate([model], model.degradation, chosen).folder
        return made[key]

    return evaluated


def look(session: ViewerSession, index: int) -> ViewedSlice:
    return ViewedSlice(session.series[session.state.first], session.settings[0], index)


def shown(session: ViewerSession, index: int) -> dict[str, dict[str, float | None]]:
    """Method → metric → value, as the page gets them, after SR was computed."""
    seen = look(session, index)
    session.images.compute_sr(seen.series, seen.setting, index, lambda: False)
    answer = session.numbers(TURN, seen, "axial", index, session.state.window.window, None)
    # By way of JSON, as they travel.
    metrics = json.loads(json.dumps(answer["metrics"]))
    return {method: {name: one["value"] for name, one in found.items()} for method, found in metrics.items()}


def rows_of(folder: Path, patient: str) -> list[Row]:
    return [row for row in read_rows(folder / "metrics.csv") if row.slice.patient_id == patient]


def assert_same(session: ViewerSession, rows: list[Row]) -> None:
    assert len(rows) == 15
    for index in range(5):
        found = shown(session, index)
        for row in (row for row in rows if row.slice.slice_index == index):
            expected = {name: row.metrics[name].value for name in METRICS}
            assert found[row.method] == expected


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_metrics_equal_the_evaluations_csv_to_the_last_digit(
    evaluated, open_view: Open, root: Path, sampling: str
) -> None:
    session = open_view(root / "emil", preset="global", degradation_sampling=sampling)
    assert_same(session, rows_of(evaluated(sampling), "emil"))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_summary_replays_the_evaluation_whatever_the_flags_say(
    evaluated, open_view: Open, root: Path, listener, sampling: str
) -> None:
    folder = evaluated(sampling)
    session = open_view(
        root / "emil",
        eval_summary=folder / "summary.json",
        degradation=Degradation(mode="blur"),
        deg_seed=7,
        degradation_sampling="slice" if sampling == "volume" else "volume",
        given=("degradation", "deg_seed"),
    )
    assert_same(session, rows_of(folder, "emil"))
    assert session.degradation(look(session, 0))["departures"] == []
    assert any("overrules `degradation`, `deg_seed`" in note for note in listener.notes)


def test_the_same_window_gives_the_same_numbers(evaluated, open_view: Open, root: Path) -> None:
    folder = evaluated("volume", preset="soft_tissue")
    assert_same(open_view(root / "emil"), rows_of(folder, "emil"))
    # Left out, the window is the evaluation's.
    replay = open_view(root / "emil", eval_summary=folder / "summary.json")
    assert (replay.state.window.tag, replay.state.window.window.center) == ("preset-soft_tissue", 40)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_lr_is_the_evaluations_to_the_bit(
    open_view: Open, root: Path, model: ModelUnderTest, evaluated, sampling: str
) -> None:
    session = open_view(root / "dora", eval_summary=evaluated(sampling) / "summary.json")
    plain = open_view(root / "dora", degradation_sampling=sampling)
    for index in range(5):
        seen = look(session, index)
        lr = session.images.lr(seen.series, seen.setting, index)
        pair = slice_pair(seen.series.stored, index, plain.state.sampler, model.hu_range)
        np.testing.assert_array_equal(lr, pair.lr[0, 0].numpy())


def test_the_recorded_draw_counts_and_not_the_seed(evaluated, open_view: Open, root: Path, tmp_path: Path) -> None:
    document = json.loads((evaluated("volume") / "summary.json").read_text())
    for one in document["patient_to_degradation_sampled"]["emil"]["by_series"].values():
        one |= {"sigma": 0.7125, "kernel": 7, "noise_sigma": 0.002, "dose": 0.5}
    (tmp_path / "other.json").write_text(json.dumps(document))
    session = open_view(root / "emil", eval_summary=tmp_path / "other.json")
    drawn = session.degradation(look(session, 2))
    assert [drawn[name] for name in ("sigma", "kernel", "noise_sigma", "dose")] == [0.7125, 7, 0.002, 0.5]


def test_a_departure_from_the_evaluation_is_said(evaluated, open_view: Open, root: Path, listener) -> None:
    session = open_view(root / "anna", eval_summary=evaluated("volume") / "summary.json")
    (reason,) = session.degradation(look(session, 0))["departures"]
    assert reason == "the evaluation did not measure patient anna"
    assert any("none of these patients was evaluated (dora, emil were)" in note for note in session.state.notes)


def test_a_slice_that_was_not_measured_is_named(evaluated, open_view: Open, root: Path) -> None:
    folder = evaluated("slice", max_slices_per_patient=2, slice_sampling="first")
    session = open_view(root / "emil", eval_summary=folder / "summary.json")
    assert session.degradation(look(session, 1))["departures"] == []
    assert session.degradation(look(session, 4))["departures"] == ["the evaluation did not measure this slice"]


def test_the_evaluations_own_engine_gives_its_numbers_and_another_one_is_a_departure(
    evaluated, open_view: Open, root: Path
) -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")
    folder = evaluated("volume", engine="openvino")
    session = open_view(root / "emil", eval_summary=folder / "summary.json", engine="openvino")
    assert_same(session, rows_of(folder, "emil"))
    assert session.degradation(look(session, 0))["departures"] == []
    other = open_view(root / "emil", eval_summary=folder / "summary.json")
    (reason,) = other.degradation(look(other, 0))["departures"]
    assert reason == "the evaluation used the engine openvino fp32, the viewer uses torch fp32"
    assert [one.state.as_dict()["model"]["engine"] for one in (session, other)] == ["openvino fp32", "torch fp32"]


def test_an_evaluation_on_another_device_is_a_departure(evaluated, open_view: Open, root: Path, tmp_path: Path) -> None:
    document = json.loads((evaluated("volume") / "summary.json").read_text())
    document["config"]["device"] = "cuda:1"
    (tmp_path / "other.json").write_text(json.dumps(document))
    session = open_view(root / "emil", eval_summary=tmp_path / "other.json")
    (reason,) = session.degradation(look(session, 0))["departures"]
    assert reason == "the evaluation ran on cuda:1, the viewer runs on cpu"


def test_every_model_of_an_evaluation_is_known_and_another_one_is_a_departure(
    evaluated, open_view: Open, root: Path, tmp_path: Path
) -> None:
    document = json.loads((evaluated("volume") / "summary.json").read_text())
    (own,) = document["models"].values()
    for others, reasons in (({"Model (a)": own}, []), ({}, ["the evaluation used another model"])):
        document["models"] = {"Model (b)": own | {"sha256": "0"}} | others
        (tmp_path / "other.json").write_text(json.dumps(document))
        session = open_view(root / "emil", eval_summary=tmp_path / "other.json")
        assert session.degradation(look(session, 0))["departures"] == reasons


def test_the_linear_filter_is_the_evaluations_with_or_without_its_summary(
    evaluated, open_view: Open, root: Path
) -> None:
    folder = evaluated("volume", baselines=BASELINES)
    rows = rows_of(folder, "emil")
    assert {row.method for row in rows} == {BICUBIC, LANCZOS, LINEAR, MODEL}
    for given in ({"eval_summary": folder / "summary.json"}, {"preset": "global", "baselines": BASELINES}):
        session = open_view(root / "emil", **given)
        assert session.state.panels == ("LR", "Bicubic", "Lanczos", "Linear", "SR", "HR")
        for index in range(2):
            found = shown(session, index)
            for row in (row for row in rows if row.slice.slice_index == index):
                assert found[row.method] == {name: row.metrics[name].value for name in METRICS}


def test_a_line_of_the_linear_filter_is_that_of_the_whole_slice(open_view: Open, root: Path) -> None:
    session = open_view(root / "emil", baselines=BASELINES)
    seen = look(session, 2)
    whole = session.image("Linear", seen, "axial", 2).values
    for index in range(5):  # lines of other planes need LR of every slice
        session.images.lr(seen.series, seen.setting, index)
    row = list(seen.series.geometry.z_rows).index(2)
    for line in (0, 7, 20, whole.shape[0] - 1):
        coronal = session.image("Linear", seen, "coronal", line).values[row]
        np.testing.assert_allclose(coronal, whole[line], atol=1e-6)


def test_without_training_patients_beside_it_the_linear_filter_is_refused_in_one_line(
    open_view: Open, root: Path, tmp_path: Path
) -> None:
    alone = shutil.copytree(root / "emil", tmp_path / "alone" / "emil")
    with pytest.raises(UsageError, match="`baselines` linear is fitted on patients that the model was trained on"):
        open_view(alone, baselines=BASELINES)
    with pytest.raises(UsageError, match="leave linear out"):
        open_view(root / "emil", with_model=False, baselines=BASELINES)


def test_a_summary_without_weights_leaves_the_linear_filter_out_and_says_so(
    evaluated, open_view: Open, root: Path, tmp_path: Path, listener
) -> None:
    folder = evaluated("volume", baselines=BASELINES)
    document = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    del document["linear_filter"]["weights"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    session = open_view(root / "emil", eval_summary=tmp_path / "old.json")
    assert session.state.panels == ("LR", "Bicubic", "Lanczos", "SR", "HR")
    assert any("holds no weights of its linear filter" in note for note in listener.notes)
    document["linear_filter"]["weights"] = [[[[1.0, 2.0]]]]
    (tmp_path / "old.json").write_text(json.dumps(document))
    with pytest.raises(ReadError, match="is no summary"):
        open_view(root / "emil", eval_summary=tmp_path / "old.json")
