import json
import math
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ctsr.data.hu_cache import open_series
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation, DegradationSampler, Sampling, degrade
from ctsr.errors import MissingInputError, SplitError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate
from ctsr.evaluate.methods import BICUBIC, BILINEAR, LANCZOS, MODEL, ModelUnderTest, load_model_under_test
from ctsr.evaluate.output_folder import Row, read_rows
from ctsr.exams import scan_patient
from ctsr.hu import DEFAULT_RANGE
from ctsr.metrics import MetricValue
from ctsr.metrics.perceptual import PerceptualMetrics
from ctsr.reporting import SILENT, Progress
from tests.evaluate import made
from tests.made.ct import body, save_series
from tests.made.exams import NAMES, save_patient, save_patients
from tests.made.listener import Listener
from tests.made.model import SPLIT, save_model
from tests.made.moments import MOMENT
from tests.needs import needs


@pytest.fixture
def run(root: Path, store: Path, subject: ModelUnderTest, tmp_path: Path):
    def run(
        degradation: Degradation | None = None,
        listener: Progress = SILENT,
        model: ModelUnderTest | list[ModelUnderTest] | None = None,
        **flags: Any,
    ) -> Evaluation:
        settings = {"root": (root,), "store": store, "output_dir": tmp_path / "eval_results", "no_plots": True} | flags
        models = [model] if isinstance(model, ModelUnderTest) else model or [subject]
        return evaluate(models, degradation or models[0].degradation, EvaluateOptions(**settings), progress=listener)

    return run


def rows_of(evaluation: Evaluation) -> list[Row]:
    return read_rows(evaluation.folder / "metrics.csv")


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads((evaluation.folder / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)


def lasting(summary: dict[str, Any]) -> dict[str, Any]:
    """Without what names the moment and the place."""
    return {key: value for key, value in summary.items() if key not in {"created", "paths"}}


def test_every_slice_of_the_part_has_a_row_for_each_method(run) -> None:
    evaluation = run()
    rows = rows_of(evaluation)
    slices = list(dict.fromkeys(row.slice for row in rows))
    assert [(s.patient_id, s.slice_index) for s in slices] == [
        *(("dora", i) for i in (0, 1, 2)),
        *(("dora", i) for i in (0, 1)),
        *(("emil", i) for i in (0, 1, 2)),
    ]
    assert [row.method for row in rows] == list(made.METHODS) * 8
    assert (evaluation.num_patients, evaluation.num_slices) == (2, 8)
    assert {s.series_uid for s in slices if s.patient_id == "dora"} == {"1.3.4", "1.3.99"}
    assert [s.z_mm for s in slices[:3]] == [30.0, 32.5, 35.0]


def test_the_folder_is_named_by_split_model_window_and_limits(run) -> None:
    assert run().folder.name.startswith("val__best__globalHU_-1000_2000_on_val_set__20")
    limited = run(split="test", max_slices_per_patient=1, preset="soft_tissue")
    assert limited.folder.name.startswith("test__best__preset-soft_tissue_on_limited_test_set__20")


def test_numbers_are_those_of_scikit_image_on_the_dicom_files(run, root: Path) -> None:
    """The whole way by hand: stored value → HU → LR by the recorded draw → bicubic → [0, 1] → PSNR and SSIM."""
    evaluation = run(split="test", preset="lung")
    row = next(row for row in rows_of(evaluation) if row.method == BICUBIC and row.slice.slice_index == 1)
    (path,) = (
        p for p in (root / "fred").rglob("IM*") if pydicom.dcmread(p).SOPInstanceUID == row.slice.sop_instance_uid
    )
    ds = pydicom.dcmread(path)
    hu = ds.pixel_array.astype(float)[:50, :50] * ds.RescaleSlope + ds.RescaleIntercept
    hr = torch.from_numpy(DEFAULT_RANGE.to_unit(hu))[None, None]
    draw = DegradationSampler(Degradation()).draw("fred", row.slice.series_uid, row.slice.sop_instance_uid, 1)
    lr = degrade(hr, [draw.params], [draw.noise_seed], scale=2)
    sr = torch.nn.functional.interpolate(lr, scale_factor=2, mode="bicubic")[0, 0].clamp(-1, 1).double().numpy()
    ours, reference = (np.clip((x - -1350) / 1500, 0, 1) for x in ((sr + 1) * 1500 - 1000, hu))
    wanted = {
        "PSNR": peak_signal_noise_ratio(reference, ours, data_range=1),
        "SSIM": structural_similarity(
            reference, ours, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, win_size=11, data_range=1
        ),
        "MAE": np.abs(ours - reference).mean(),
        "BIAS_HU": ((sr + 1) * 1500 - 1000 - np.clip(hu, -1000, 2000)).mean(),
    }
    for name, value in wanted.items():
        assert row.metrics[name].value == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_two_evaluations_agree_to_the_last_digit(run) -> None:
    one, other = run(), run()
    assert one.folder != other.folder
    assert (one.folder / "metrics.csv").read_bytes() == (other.folder / "metrics.csv").read_bytes()
    assert lasting(summary_of(one)) == lasting(summary_of(other))


@pytest.mark.parametrize("cut", [0, 1, 200])
def test_an_interrupted_evaluation_is_continued_to_the_same_result(run, tmp_path: Path, cut: int) -> None:
    """`cut` bytes of the last row had not reached the disk when the process was killed."""
    whole = run(output_dir=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(listener=Listener(stop_in="Evaluating slices", stop_after=4))
    (folder,) = (tmp_path / "eval_results").iterdir()
    text = (folder / "metrics.csv").read_bytes()
    (folder / "metrics.csv").write_bytes(text[: len(text) - cut])
    assert not (folder / "summary.json").exists()
    listener = Listener()
    continued = run(listener=listener)
    assert continued.folder == folder
    assert f"continuing {folder}: {3 if cut else 4} of 8 slices are done" in listener.notes
    assert (folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    ours, theirs = lasting(summary_of(continued)), lasting(summary_of(whole))
    assert ours | {"config": None} == theirs | {"config": None}


@pytest.mark.parametrize("flags", [{"preset": "bone"}, {"deg_seed": 7}, {"max_slices_per_patient": 2}])
def test_other_settings_do_not_continue_it(run, tmp_path: Path, flags: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(listener=Listener(stop_in="Evaluating slices", stop_after=2))
    (folder,) = (tmp_path / "eval_results").iterdir()
    assert run(**flags).folder != folder


def test_the_window_changes_the_metrics_and_not_the_images(run) -> None:
    """LR made from windowed pixels would have another noise: 0.6 HU instead of 4.5 HU."""
    whole, soft = rows_of(run()), rows_of(run(preset="soft_tissue"))
    for one, other in zip(whole, soft, strict=True):
        assert one.metrics["RMSE_HU"] == other.metrics["RMSE_HU"]
        assert one.metrics["MAE"] != other.metrics["MAE"]


def test_hu_clip_reaches_the_metrics(run) -> None:
    """An error that both ranges show weighs twice as much in the one that is half as wide."""
    wide, narrow = run(split="test"), run(split="test", hu_clip=(-1000.0, 500.0))
    for one, other in zip(rows_of(wide), rows_of(narrow), strict=True):
        if one.method == BICUBIC:
            assert other.metrics["MAE"].value == pytest.approx(2 * (one.metrics["MAE"].value or 0), rel=0.05)
    assert summary_of(narrow)["metrics"]["PSNR"]["window"] == "globalHU_-1000_500"


def test_the_degradation_comes_from_the_checkpoint(run, tmp_path: Path) -> None:
    clean = load_model_under_test(str(save_model(tmp_path / "clean" / "best.pth", Degradation("clean"))), device="cpu")
    summary = summary_of(run(model=clean, split="test"))
    assert summary["degradation"]["mode"] == "clean"
    assert summary["patient_to_degradation_sampled"]["fred"]["noise_eff"] == 0


def test_a_net_for_scale_4_sees_slices_cropped_to_a_multiple_of_4(run, tmp_path: Path) -> None:
    four = load_model_under_test(str(save_model(tmp_path / "four" / "best.pth", Degradation(scale=4))), device="cpu")
    evaluation = run(model=four, split="test", no_plots=False)
    assert summary_of(evaluation)["model"]["scale"] == 4
    assert all(row.metrics["SSIM"].value is not None for row in rows_of(evaluation))
    with pytest.raises(UsageError, match="×2"):
        run(Degradation(scale=2), model=four)


def test_recorded_draws_are_those_the_images_were_made_with(run, root: Path) -> None:
    for sampling in ("slice", "det-slice"):
        evaluation = run(degradation_sampling=sampling)
        sampler = DegradationSampler(Degradation(), sampling)
        drawn = summary_of(evaluation)["patient_to_degradation_sampled"]
        for row in rows_of(evaluation)[::3]:
            ref = row.slice
            listed = drawn[ref.patient_id]["by_series"][ref.series_uid]["by_slice"][ref.slice_index]
            params = sampler.draw(ref.patient_id, ref.series_uid, ref.sop_instance_uid, ref.slice_index).params
            assert (listed["sigma"], listed["kernel"]) == (params.blur_sigma, params.blur_kernel)
            assert listed["noise_eff"] == params.noise_sigma / math.sqrt(params.dose)
            assert ref.deg_seed == sampler.patient_seed(ref.patient_id)


def test_limits_choose_slices_by_seed_and_patient_alone(run) -> None:
    def chosen(**flags: Any) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {}
        for row in rows_of(run(max_slices_per_patient=2, **flags))[::3]:
            found.setdefault(row.slice.patient_id, []).append((row.slice.series_uid, row.slice.slice_index))
        return found

    first = chosen(slice_sampling="first")
    assert first == {"dora": [("1.3.4", 0), ("1.3.4", 1)], "emil": [("1.3.5", 0), ("1.3.5", 1)]}
    assert chosen(seed=1)["dora"] == chosen(seed=1, max_patients=1)["dora"]
    assert len({str(chosen(seed=seed)) for seed in range(6)}) > 1
    assert all(slices == sorted(slices) for seed in range(6) for slices in chosen(seed=seed).values())


def test_the_seed_changes_no_number_where_all_slices_are_evaluated(run) -> None:
    assert rows_of(run(seed=1)) == rows_of(run(seed=2))


def test_patients_the_model_was_trained_on_are_refused(run, tmp_path: Path) -> None:
    moved = {"train": ("fred", "bert", "cleo"), "val": ("dora", "emil"), "test": ("anna",)}
    listed = {part: [{"patient_id": name} for name in names] for part, names in moved.items()}
    (tmp_path / "other.json").write_text(json.dumps({"splits": listed}), encoding="utf-8")
    flags = {"split": "test", "split_json": "other.json"}
    with pytest.raises(SplitError, match="trained on anna"):
        run(**flags)
    assert run(**flags, allow_train_patients=True).num_patients == 1
    assert run(split="train").num_patients == len(SPLIT["train"])


def test_trained_patients_are_noticed_under_the_names_that_preprocessing_gives_them(run, tmp_path: Path) -> None:
    """A preprocessed folder that was copied without its log: `anna` has become `annapp`."""
    exams = save_patients(tmp_path / "exams", [f"{name}pp" for name in NAMES], slices=1, size=40)
    path = save_model(tmp_path / "m" / "best.pth", split={"train": NAMES, "val": ("x",), "test": ("y",)})
    model = load_model_under_test(str(path), device="cpu")
    with pytest.raises(
        SplitError, match=r"trained on (\w+)pp \(there called \1\) of the val part .* put preprocessing_log"
    ):
        run(model=model, root=(exams,))
    assert run(model=model, root=(exams,), allow_train_patients=True).num_patients == 1


def test_who_is_known_by_his_own_name_is_not_taken_for_another(run, tmp_path: Path) -> None:
    names = ("kru", "krupp", "anna")
    exams = save_patients(tmp_path / "exams", names, slices=1, size=40)
    for path in (exams / "krupp").rglob("IM*"):
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = "1.2.4"  # another person's, as in life
        ds.save_as(path)
    path = save_model(tmp_path / "m" / "best.pth", split={"train": ("kru",), "val": ("krupp",), "test": ("anna",)})
    assert run(model=load_model_under_test(str(path), device="cpu"), root=(exams,)).num_patients == 1


def test_a_checkpoint_that_knows_nobody_is_a_warning(run, tmp_path: Path) -> None:
    strangers = save_model(tmp_path / "m" / "best.pth", split={"train": ("p",), "val": ("q",), "test": ("r",)})
    listener = Listener()
    run(model=load_model_under_test(str(strangers), device="cpu"), listener=listener)
    (warning,) = (note for note in listener.notes if note.startswith("warning: "))
    assert "names 3 patients in its split, and none of them is here" in warning
    listener = Listener()
    run(listener=listener)
    assert not [note for note in listener.notes if note.startswith("warning: ")]


def test_an_empty_part_is_an_error_that_says_so(run, tmp_path: Path) -> None:
    path = save_model(tmp_path / "m" / "best.pth", split=SPLIT | {"test": ()})
    with pytest.raises(SplitError, match="test part is empty"):
        run(model=load_model_under_test(str(path), device="cpu"), split="test")


def test_one_bad_series_does_not_stop_the_others(run, tmp_path: Path) -> None:
    exams = tmp_path / "exams"
    save_patients(exams, slices=2, size=40)
    without_rescale = next((exams / "dora").rglob("IM*"))
    ds = pydicom.dcmread(without_rescale)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.save_as(without_rescale)
    evaluation = run(root=(exams,))
    assert {row.slice.patient_id for row in rows_of(evaluation)} == {"emil"}
    assert len(evaluation.failures) == 1
    assert "dora" in evaluation.failures[0]
    assert summary_of(evaluation)["failures"] == list(evaluation.failures)
    with pytest.raises(MissingInputError, match="dora"):
        run(root=(exams,), max_patients=1)


def test_a_patient_whose_ct_cannot_be_read_is_a_failure(run, tmp_path: Path) -> None:
    exams = save_patients(tmp_path / "exams", slices=2, size=40)
    path = min((exams / "emil").rglob("IM*"))
    ds = pydicom.dcmread(path)
    del ds.ImagePositionPatient
    ds.save_as(path)
    evaluation = run(root=(exams,))
    (failure,) = evaluation.failures
    assert failure.startswith("emil: 1 images cannot be used")
    assert (evaluation.num_slices, summary_of(evaluation)["failures"]) == (3, [failure])


def test_several_roots_are_evaluated_together(run, tmp_path: Path) -> None:
    """What a model was trained on may lie in several places; its split names patients of all of them."""
    one = save_patients(tmp_path / "one", NAMES[:4], slices=1, size=40)
    other = tmp_path / "other"
    for seed, name in enumerate(NAMES[4:], start=4):
        save_patient(other, name, slices=1, size=40, seed=seed)
    evaluation = run(root=(one, other))
    assert {row.slice.patient_id for row in rows_of(evaluation)} == {"dora", "emil"}
    assert summary_of(evaluation)["paths"]["root"] == [str(one), str(other)]


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """`fred` has two reconstruct of other sizes under one series UID and the same SOP Instance UIDs."""
    exams = save_patients(tmp_path / "exams", slices=2, size=40)
    save_series(exams / "fred" / "wide", [body(60, seed=i, texture=400, smooth=1.2) for i in range(2)], series="1.3.6")
    return exams


def test_geometries_under_one_series_uid_are_told_apart(run, twice: Path) -> None:
    evaluation = run(root=(twice,), split="test")
    rows, summary = rows_of(evaluation), summary_of(evaluation)
    assert [row.slice.series_uid for row in rows[::3]] == ["1.3.6/1", "1.3.6/1", "1.3.6/2", "1.3.6/2"]
    per_series = summary["per_series"]["fred"]
    assert {name: found[BICUBIC]["MSE"]["n"] for name, found in per_series.items()} == {"1.3.6/1": 2, "1.3.6/2": 2}


@pytest.mark.parametrize("sampling", ["volume", "slice"])
def test_recorded_draws_of_a_shared_series_uid_are_those_of_the_images(run, twice: Path, sampling: Sampling) -> None:
    evaluation = run(root=(twice,), split="test", degradation_sampling=sampling)
    drawn = summary_of(evaluation)["patient_to_degradation_sampled"]["fred"]["by_series"]["1.3.6/2"]
    (series,) = (one for one in scan_patient(twice / "fred").series if one.rows == 60)
    pair = slice_pair(
        open_series(series, twice.parent / "store"), 1, DegradationSampler(Degradation(), sampling), DEFAULT_RANGE
    )
    recorded = drawn if sampling == "volume" else drawn["by_slice"][1]
    assert recorded["sigma"] == pair.draw.params.blur_sigma


def test_geometries_under_one_series_uid_do_not_lend_each_other_rows(run, twice: Path, tmp_path: Path) -> None:
    whole = run(root=(twice,), split="test", output_dir=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(root=(twice,), split="test", listener=Listener(stop_in="Evaluating slices", stop_after=2))
    continued = run(root=(twice,), split="test")
    rows = rows_of(continued)
    assert rows == rows_of(whole)
    assert rows[1].metrics != rows[7].metrics


def test_a_default_that_is_written_out_continues_the_same_evaluation(run, tmp_path: Path) -> None:
    """As `--config` does with the file that an evaluation leaves behind."""
    with pytest.raises(KeyboardInterrupt):
        run(listener=Listener(stop_in="Evaluating slices", stop_after=2))
    (folder,) = (tmp_path / "eval_results").iterdir()
    assert run(Degradation(blur_sigma_range=Degradation().sigma_range)).folder == folder


def test_flat_names_are_copies_beside_the_folders(run, tmp_path: Path) -> None:
    evaluation = run(flat_names=True, preset="soft_tissue")
    stem = "val_rrdb_x2_blurnoise_best__preset-soft_tissue"
    for kind, ending, original in (("metrics", "csv", "metrics.csv"), ("summary", "json", "summary.json")):
        copy = tmp_path / "eval_results" / f"{kind}_{stem}.{ending}"
        assert copy.read_bytes() == (evaluation.folder / original).read_bytes()


def test_plots_and_a_picture_come_with_the_numbers(run) -> None:
    evaluation = run(split="test", no_plots=False)
    assert sorted(p.name for p in (evaluation.folder / "plots").iterdir()) == [
        *("bar.png", "bar_patients.png", "best.png", "bland_altman.png", "box.png", "comparison.png"),
        *("correlation.png", "heatmap.png", "median.png", "position.png", "worst.png"),
    ]
    assert sorted(p.name for p in evaluation.folder.iterdir()) == [
        "config.json",
        "metrics.csv",
        "plots",
        "report.html",
        "summary.json",
    ]


def test_the_summary_is_what_its_readers_expect(run, model_path: Path) -> None:
    summary = summary_of(run())
    assert {"split", "num_patients", "paths", "config", "degradation_sampling", "deg_seed"} <= set(summary)
    assert {"deg_seeds_per_patient", "patient_to_degradation_sampled", "pi_kind", "versions"} <= set(summary)
    emil = summary["patient_to_degradation_sampled"]["emil"]
    assert all(isinstance(emil[key], float | int) for key in ("sigma", "kernel", "noise_sigma", "dose", "noise_eff"))
    assert emil["noise_eff"] == pytest.approx(emil["noise_sigma"] / math.sqrt(emil["dose"]))
    for table in (summary["global_per_slice"], summary["per_patient"]["emil"], summary["patient_level_aggregate"]):
        assert list(table) == list(made.METHODS)
        assert list(table[BICUBIC]) == list(made.NAMES)
        assert table[BICUBIC]["LPIPS"]["mean"] is None
    assert summary["paths"]["model_path"] == str(model_path)


def test_an_exam_compared_with_itself_has_no_psnr_and_does_not_count(run, tmp_path: Path) -> None:
    """Slices of air are reproduced exactly: infinite PSNR would vanish from the mean while n still counted it."""
    exams = tmp_path / "exams"
    save_patients(exams, slices=2, size=40)
    for path in (exams / "fred").rglob("IM1"):
        ds = pydicom.dcmread(path)
        ds.PixelData = np.full((40, 40), 24, dtype="<u2").tobytes()  # −1000 HU
        ds.save_as(path)
    found = summary_of(run(Degradation("clean"), root=(exams,), split="test"))["global_per_slice"][BICUBIC]
    assert (found["PSNR"]["n"], found["PSNR"]["not_computed"]) == (1, {"identical": 1})
    assert (found["MAE"]["n"], found["MAE"]["min"]) == (2, 0.0)


def test_another_engine_gives_the_same_numbers_to_rounding(run, tmp_path: Path) -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")
    plain, fast = run(), run(engine="openvino", output_dir=tmp_path / "fast")
    for one, other in zip(rows_of(plain), rows_of(fast), strict=True):
        assert (one.slice, one.method) == (other.slice, other.method)
        value, again = (row.metrics["PSNR"].value for row in (one, other))
        assert again == pytest.approx(value, abs=1e-3)
    config = json.loads((fast.folder / "config.json").read_text(encoding="utf-8"))
    assert config["engine"] == "openvino"


def test_a_precision_that_the_engine_lacks_is_wrong_usage(run) -> None:
    with pytest.raises(UsageError, match="no `precision` int8"):
        run(engine="torch", precision="int8")


def test_several_windows_masks_and_models_are_measured_on_the_same_lr(run, tmp_path: Path) -> None:
    other = save_model(tmp_path / "runs" / "other" / "best.pth", seed=9)
    models = [load_model_under_test(str(other), device="cpu")]
    alone = run(model=models, split="test", output_dir=tmp_path / "alone")
    flags = {"windows": ("global", "lung"), "mask": ("none", "body"), "baselines": ("lanczos", "bicubic")}
    found = run(model=[*models, load_model_under_test(str(other), device="cpu")], split="test", **flags)
    rows = rows_of(found)
    assert len(rows) == 3 * 2 * 2 * 4
    assert [row.method for row in rows[:4]] == [LANCZOS, BICUBIC, "Model (other 1)", "Model (other 2)"]
    assert [(row.window, row.mask) for row in rows[:16:4]] == [
        *(("globalHU_-1000_2000", "none"), ("preset-lung", "none")),
        *(("globalHU_-1000_2000", "body"), ("preset-lung", "body")),
    ]
    ours = [row.metrics for row in rows if row.method == "Model (other 1)" and row.mask == "none"][::2]
    assert ours == [row.metrics for row in rows_of(alone) if row.method == MODEL]
    assert found.folder.name.startswith("test__best+1__globalHU_-1000_2000+preset-lung_none+body_on_test_set__")
    by_domain = summary_of(found)["by_domain"]
    assert list(by_domain) == [domain.tag for domain in found.domains]
    assert by_domain["preset-lung_body"]["patient_level_aggregate"][LANCZOS]["PSNR"]["n"] == 1


def test_models_that_need_another_lr_are_refused(run, subject: ModelUnderTest, tmp_path: Path) -> None:
    four = load_model_under_test(str(save_model(tmp_path / "four" / "best.pth", Degradation(scale=4))), device="cpu")
    with pytest.raises(UsageError, match=r"compared on the same LR: .* is ×2 .* is ×4"):
        run(model=[subject, four])


def test_only_the_metrics_that_were_asked_for_have_columns(run) -> None:
    rows = rows_of(run(split="test", metrics=("ssim", "PSNR")))
    assert {tuple(row.metrics) for row in rows} == {("PSNR", "SSIM")}
    report = run(split="test", metrics=("mae_hu",), no_plots=False).folder / "report.html"
    assert "MAE, HU" in report.read_text(encoding="utf-8")


def test_the_number_of_threads_changes_no_row(run) -> None:
    one, many = (rows_of(run(workers=workers)) for workers in (1, 5))
    assert one == many


def test_the_summary_tests_the_model_patient_by_patient_and_says_when_they_are_too_few(run) -> None:
    comparisons = summary_of(run())["by_domain"]["globalHU_-1000_2000"]["comparisons"]
    psnr = [one for one in comparisons if one["metric"] == "PSNR"]
    assert [(one["model"], one["baseline"]) for one in psnr] == [(MODEL, BILINEAR), (MODEL, BICUBIC)]
    assert {(one["p_value"], one["n"]) for one in psnr} == {(None, 2)}
    assert all("needs 7" in one["note"] for one in psnr)


def test_a_killed_evaluation_is_continued_to_the_same_bytes(
    root: Path, store: Path, model_path: Path, tmp_path: Path
) -> None:
    """The process is killed outright, in the middle of its rows; what is left is what a run in one go writes."""
    command = [
        *(sys.executable, "-m", "ctsr", "evaluate", "--root", str(root), "--store", str(store), "--device", "cpu"),
        *("--model_path", str(model_path), "--split", "val", "--workers", "1", "--output_dir"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "in_one_go"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    cut = subprocess.Popen([*command, "cut_off"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    while not (found := list((tmp_path / "cut_off").glob("*/metrics.csv"))) or found[0].stat().st_size < 3000:
        assert cut.poll() is None, "it was done before it could be killed"
        time.sleep(0.002)
    cut.kill()
    cut.wait()
    subprocess.run([*command, "cut_off"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (whole,), (folder,) = ([*(tmp_path / name).iterdir()] for name in ("in_one_go", "cut_off"))
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in names:
        one, other = ((place / name).read_bytes() for place in (whole, folder))
        if name.suffix in {".html", ".json"}:
            one, other = (without_times(text.decode(), place) for text, place in ((one, whole), (other, folder)))
        assert one == other, name


def without_times(text: str, folder: Path) -> str:
    """A text without its folder's name and the moment it was written."""
    for word in (folder.name, folder.parent.name):
        text = text.replace(word, "")
    return MOMENT.sub("", text)


def test_ma_is_announced_and_may_be_computed_on_every_nth_slice_only(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of NRQM's forest, which no package holds, a number: what is tested is who gets it."""

    def constant(value: float):
        return lambda image, _: (MetricValue(value),) * len(image)

    functions = {"MA": constant(6.0), "NIQE": constant(4.0)}
    learned = PerceptualMetrics(functions, {"MA": {"backend": "x"}, "NIQE": {"backend": "y"}})
    monkeypatch.setattr("ctsr.evaluate.plan.choose_perceptual", lambda *_, **__: learned)
    listener = Listener()
    evaluation = run(metrics=("PI",), ma_every=3, listener=listener)
    rows = rows_of(evaluation)
    assert [row.metrics["MA"].value for row in rows[::3]] == [6.0, None, None, 6.0, None, 6.0, None, None]
    assert [row.metrics["PI"].value for row in rows[::3]] == [4.0, None, None, 4.0, None, 4.0, None, None]
    assert {row.metrics["PI"].reason for row in rows if row.metrics["PI"].value is None} == {
        "not on this slice (`ma_every`)"
    }
    (announced,) = (note for note in listener.notes if note.startswith("MA will take"))
    assert "for 9 images" in announced
    summary = summary_of(evaluation)
    assert summary["pi_kind"] == "ma+niqe"
    found = summary["global_per_slice"][MODEL]["PI"]
    assert (found["n"], found["not_computed"]) == (3, {"not on this slice (`ma_every`)": 5})
