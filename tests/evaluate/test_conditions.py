"""What a conditional model is told of LR: drawn, estimated or fixed; told so, recorded so, and never mixed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctsr.checkpoint import Checkpoint, Meta, current_versions, save_checkpoint
from ctsr.data.datasets import open_exams
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation, DegradationParams, DegradationSampler
from ctsr.errors import UsageError
from ctsr.evaluate import DRAWN, ConditionsSource, EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate
from ctsr.evaluate.methods import (
    BICUBIC,
    ModelUnderTest,
    load_model_under_test,
    super_resolvers,
    told_conditions,
)
from ctsr.evaluate.output_folder import Row, Told, read_rows
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import telling
from ctsr.infer.conditions import LEAST_SHARE_ADDED, MOST_BLUR, MOST_NOISE, STRENGTHS, estimated_conditions
from ctsr.models import Architecture, build
from ctsr.padding import SlicePixels
from ctsr.quality.noise import measure_noise
from tests.made.listener import Listener
from tests.made.model import SPLIT
from tests.quality.images import Image, blurred_discs, ct_noise

METRICS = ("PSNR",)


@pytest.fixture(scope="module")
def conditional_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = Architecture("edsr", 2, nf=4, nb=1, gc=0, conditional=True)
    torch.manual_seed(1)
    meta = Meta(
        experiment="edsr_x2_blurnoise",
        architecture=architecture,
        seed=42,
        degradation=Degradation().as_dict(),
        split=SPLIT,
        versions=current_versions(),
    )
    path = tmp_path_factory.mktemp("conditional") / "best.pth"
    save_checkpoint(path, Checkpoint(meta, build(architecture).state_dict()))
    return path


@pytest.fixture
def told(root: Path, store: Path, conditional_path: Path, tmp_path: Path):
    """``told("0.8,5")`` evaluates fred, who has three slices."""

    def told(conditions: str, listener: Listener | None = None, **flags: Any) -> Evaluation:
        model = load_model_under_test(str(flags.pop("model", conditional_path)), device="cpu")
        options = EvaluateOptions(
            root=(root,),
            store=store,
            output_dir=tmp_path / "out",
            split="test",
            no_plots=flags.pop("no_plots", True),
            metrics=METRICS,
            conditions=conditions,
            **flags,
        )
        return evaluate([model], model.degradation, options, progress=listener or Listener())

    return told


def model_rows(evaluation: Evaluation) -> list[Row]:
    rows = read_rows(evaluation.folder / "metrics.csv")
    assert all(row.told is None for row in rows if row.method == BICUBIC)
    return [row for row in rows if row.method in evaluation.model_methods]


def test_drawn_is_what_lr_was_made_with(told) -> None:
    evaluation = told("drawn")
    rows = model_rows(evaluation)
    draw = DegradationSampler(Degradation()).draw("fred", rows[0].slice.series_uid, "", 0)
    expected = Told(draw.params.blur_sigma, draw.params.noise_std * DEFAULT_RANGE.hu_per_unit)
    assert [row.told for row in rows] == [expected] * 3
    recorded = json.loads((evaluation.folder / "summary.json").read_text())["conditions"]
    assert recorded["source"] == "drawn"
    assert recorded["by_patient"] == {"fred": {rows[0].slice.series_uid: expected._asdict()}}


def test_fixed_values_reach_the_network_the_rows_and_the_report(
    told, conditional_path: Path, root: Path, store
) -> None:
    evaluation, drawn = told("1.2,40"), told("drawn")
    assert evaluation.folder.name.split("__")[-2] == "told_1.2_40.0"
    assert "a blur of σ 1.2 HR pixels and noise of 40 HU" in (evaluation.folder / "report.html").read_text()
    rows = model_rows(evaluation)
    assert {row.told for row in rows} == {Told(1.2, 40)}
    pairs = zip(rows, model_rows(drawn), strict=True)
    assert all(ours.metrics["PSNR"] != theirs.metrics["PSNR"] for ours, theirs in pairs)
    # And to the network itself: the same slice by hand.
    model = load_model_under_test(str(conditional_path), device="cpu")
    (stored,) = open_exams([root], checkpoint_split=SPLIT).part("test", "evaluate", store).series
    sampler = DegradationSampler(Degradation())
    pair = slice_pair(stored, 0, sampler, DEFAULT_RANGE)
    conditions = told_conditions(ConditionsSource.parse("1.2,40"), stored, 0, sampler, DEFAULT_RANGE)
    error = model.super_resolve(pair.lr, conditions)[0, 0].numpy() - pair.hr[0, 0].numpy()
    psnr = -10 * np.log10(np.mean((error / 2) ** 2))
    assert rows[0].metrics["PSNR"].value == pytest.approx(psnr, abs=0.01)


def test_a_strength_tells_what_upscaling_tells(told, root: Path, store: Path) -> None:
    evaluation = told("strong")
    assert "`ctsr upscale --strength strong`" in (evaluation.folder / "report.html").read_text()
    (stored,) = open_exams([root], checkpoint_split=SPLIT).part("test", "evaluate", store).series
    sampler = DegradationSampler(Degradation())
    lr = [DEFAULT_RANGE.to_hu(slice_pair(stored, i, sampler).lr[0, 0].numpy()).astype(np.float32) for i in range(3)]
    padding = [stored.padding(i).reshape(25, 2, 25, 2).all(axis=(1, 3)) for i in range(3)]
    spacing = 2 * stored.pixel_spacing[0], 2 * stored.pixel_spacing[1]
    noise_hu = measure_noise(lr, spacing, padding).sigma_hu or 0.0
    expected = Told(STRENGTHS["strong"].sharpen * MOST_BLUR[2], MOST_NOISE * noise_hu)
    for row in model_rows(evaluation):
        assert row.told == pytest.approx(expected)


@pytest.mark.parametrize("sampling", ["volume", "slice"])
def test_estimated_is_measured_in_lr_alone(told, root: Path, store: Path, sampling) -> None:
    evaluation = told("estimated", degradation_sampling=sampling)
    rows = model_rows(evaluation)
    (stored,) = open_exams([root], checkpoint_split=SPLIT).part("test", "evaluate", store).series
    sampler = DegradationSampler(Degradation(), sampling)
    lr = [DEFAULT_RANGE.to_hu(slice_pair(stored, i, sampler).lr[0, 0].numpy()).astype(np.float32) for i in range(3)]
    padding = [stored.padding(i).reshape(25, 2, 25, 2).all(axis=(1, 3)) for i in range(3)]
    pixels = [SlicePixels(*pair) for pair in zip(lr, padding, strict=True)]
    groups = [pixels] * 3 if sampling == "volume" else [[image] for image in pixels]
    for row, slices in zip(rows, groups, strict=True):
        spacing = 2 * stored.pixel_spacing[0], 2 * stored.pixel_spacing[1]
        expected = estimated_conditions(slices, spacing, 2, DEFAULT_RANGE)
        assert row.told == Told(expected.blur_sigma, expected.noise_sigma * DEFAULT_RANGE.hu_per_unit)


def test_white_noise_is_told_from_a_scanners_own() -> None:
    rng = np.random.default_rng(3)
    quiet = blurred_discs(192, 0.5, rng)
    own, white = ct_noise(quiet.shape, 9.0, rng, 0.4, 0.8), rng.normal(0, 9.0, quiet.shape).astype(np.float32)

    def estimate(image: Image) -> float:
        told = estimated_conditions([SlicePixels(image, None)], (0.8, 0.8), 2, DEFAULT_RANGE)
        return told.noise_sigma * DEFAULT_RANGE.hu_per_unit

    assert estimate(quiet) < 0.5
    assert estimate(quiet + white) == pytest.approx(9, rel=0.1)
    # It might as well have been added: a part of it counts.
    assert LEAST_SHARE_ADDED * 8.5 < estimate(quiet + own) < 0.65 * 9
    assert 8.5 < estimate(quiet + own + white) < 11


def test_studies_of_lesions_tell_what_the_rows_say(told) -> None:
    estimated = told("estimated", hallucination=True, study_slices=1)
    row = model_rows(estimated)[0]
    assert row.told is not None
    fixed = told(f"{row.told.blur_sigma!r},{row.told.noise_hu!r}", hallucination=True, study_slices=1)
    drawn = told("drawn", hallucination=True, study_slices=1)

    def residual(evaluation: Evaluation) -> float:
        return json.loads((evaluation.folder / "hallucination.json").read_text())["summaries"][-1]["mean_abs_hu"]

    assert residual(estimated) == pytest.approx(residual(fixed), rel=1e-5)
    assert residual(estimated) != pytest.approx(residual(drawn), rel=1e-3)


def test_flagged_patches_are_drawn_as_the_network_was_told(real_ct: Path, tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "LIDC-IDRI-0001").symlink_to(real_ct / "patients" / "LIDC-IDRI-0001")
    split = {"splits": {"train": [], "val": [], "test": [{"patient_id": "LIDC-IDRI-0001"}]}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    model = load_model_under_test("ctsr-x2", device="cpu")
    options = EvaluateOptions(
        root=(tmp_path / "ct",),
        store=tmp_path / "store",
        output_dir=tmp_path / "out",
        split="test",
        split_json=tmp_path / "split.json",
        metrics=METRICS,
        max_slices_per_patient=1,
        hallucination=True,
        study_slices=1,
    )
    evaluation = evaluate([model], model.degradation, options, progress=Listener())
    summary = json.loads((evaluation.folder / "hallucination.json").read_text())["summaries"][-1]
    assert summary["flagged"] > 0
    assert (evaluation.folder / "plots" / "flagged_0.png").is_file()


def test_phantoms_are_measured_each_by_itself(conditional_path: Path) -> None:
    model = load_model_under_test(str(conditional_path), device="cpu")
    measuring, drawing = (super_resolvers([model], [], measured_mm=mm)[0] for mm in (1.6, None))
    rng = np.random.default_rng(1)
    for noise_hu in (2.0, 20.0):
        lr = rng.normal(40, noise_hu, (96, 96)).astype(np.float32)
        told = estimated_conditions([SlicePixels(lr, None)], (1.6, 1.6), 2, DEFAULT_RANGE)
        assert told.noise_sigma * DEFAULT_RANGE.hu_per_unit == pytest.approx(noise_hu, rel=0.15)
        params = DegradationParams(0.8, 5, 0.0, 1.0)
        found = telling(measuring, params)(lr)
        assert np.array_equal(found, telling(drawing, told)(lr))
        assert not np.array_equal(found, telling(drawing, params)(lr))


def test_other_conditions_do_not_continue_an_evaluation(told, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        told("0.8,5", Listener(stop_in="Evaluating slices", stop_after=1))
    (interrupted,) = (tmp_path / "out").iterdir()
    listener = Listener()
    assert told("0.8,6", listener).folder != interrupted
    assert not any("continuing" in note for note in listener.notes)
    assert told("0.8,5.0", listener).folder == interrupted


def test_what_cannot_be_told_is_refused(told, model_path: Path) -> None:
    with pytest.raises(UsageError, match="no model here is told"):
        told("estimated", model=model_path)


@pytest.mark.parametrize("text", ["blind", "0.8", "0.8,5,1", "-1,5", "0.8,inf", "nan,1"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`conditions`"):
        EvaluateOptions(conditions=text)


def test_a_source_is_read_back_from_what_is_recorded() -> None:
    for source in (DRAWN, ConditionsSource("estimated"), ConditionsSource("fixed", 0.8123456, 5.25)):
        assert ConditionsSource.parse(str(source)) == source


def test_the_viewer_tells_the_network_what_the_evaluation_did(told, conditional_path: Path, root: Path, store) -> None:
    from ctsr.viewer import ViewOptions
    from ctsr.viewer.session import ViewedSlice, open_session
    from ctsr.viewer.state import ViewRequest, prepare

    evaluation = told("estimated")
    model: ModelUnderTest = load_model_under_test(str(conditional_path), device="cpu")
    options = ViewOptions(store=store, eval_summary=evaluation.folder / "summary.json", conditions="2,2")
    listener = Listener()
    request = ViewRequest(root / "fred", model, model.degradation, options, frozenset({"conditions"}))
    session = open_session(prepare(request, listener), options)
    assert "warning: `eval_summary` overrules `conditions`" in listener.notes
    viewed = ViewedSlice(session.series[0], session.settings[0], 1)
    row = model_rows(evaluation)[1]
    assert row.told is not None
    shown = session.degradation(viewed)["told"]
    assert shown == {"source": "estimated", "sigma": row.told.blur_sigma, "noise_hu": row.told.noise_hu}
    session.close()
