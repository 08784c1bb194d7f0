"""Training: what it writes, what it remembers, and that an interruption changes not a bit."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ctsr.checkpoint import load_checkpoint, load_model
from ctsr.data.hu_cache import open_series
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError, CtsrError, MissingInputError, UsageError
from ctsr.exams import scan_patient
from ctsr.preprocess import preprocess
from ctsr.train import TrainOptions
from ctsr.train.run import train
from tests.made.exams import save_patient, save_patients
from tests.made.listener import Listener
from tests.made.training import KILLERS, assert_same_state, killed, last


def test_a_run_folder_holds_what_a_user_looks_for(options: TrainOptions) -> None:
    result = train(replace(options, no_plots=False))
    names = {path.name for path in result.folder.iterdir()}
    assert result.folder.parent == options.runs
    assert result.folder.name.startswith("rrdb_x2_blurnoise_")
    assert {"best.pth", "last.pth", "config.json", "rrdb_x2_blurnoise.json", "metrics.csv"} <= names
    assert {"training_curve.png", "train.log"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    with (result.folder / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["epoch", "global_step", "train_l1", "val_l1", "lr", "time_sec"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["global_step"] for row in rows] == ["4", "8", "12"]
    assert min(float(row["val_l1"]) for row in rows) == result.state.best
    meta = json.loads((result.folder / "rrdb_x2_blurnoise.json").read_text())
    assert meta["scale"] == 2
    assert meta["degradation"]["mode"] == "blurnoise"


def test_a_training_says_whether_it_is_worth_more_than_interpolation(options: TrainOptions) -> None:
    """Untrained, a network with a skip is bilinear interpolation, which bicubic surpasses."""
    listener = Listener()
    result = train(replace(options, arch="edsr", epochs=1, lr=1e-9), progress=listener)
    kept = json.loads((result.folder / "validation.json").read_text())
    assert kept["best_l1"] == result.state.best > kept["bicubic_l1"] > 0
    (warning,) = (note for note in listener.notes if "is not below that of bicubic" in note)
    assert f"{kept['bicubic_l1']:.5f}" in warning
    assert warning.split("\n")[0].startswith("warning: ")


@pytest.mark.parametrize("arch", ["edsr", "rrdb_skip", "plain"])
def test_a_network_with_a_skip_is_trained_continued_and_found_by_its_weights(options: TrainOptions, arch: str) -> None:
    whole = train(replace(options, arch=arch, epochs=2))
    assert whole.folder.name.startswith(f"{arch}_x2_blurnoise_")
    part = train(replace(options, arch=arch, epochs=1))
    resumed = train(TrainOptions(resume=str(part.folder), epochs=2, store=options.store, device="cpu"))
    assert_same_state(last(whole), last(resumed))
    found = load_model(whole.best)
    assert (found.architecture.name, found.architecture.nf, found.architecture.nb) == (arch, 4, 1)
    assert found.architecture.gc == (2 if arch == "rrdb_skip" else 0)


def test_the_checkpoint_knows_what_evaluation_needs(options: TrainOptions) -> None:
    degradation = Degradation("blur", 2, blur_sigma_range=(0.6, 0.7))
    meta = last(train(replace(options, epochs=1), degradation)).meta
    assert Degradation.from_dict(meta.degradation) == degradation
    assert meta.card.slice_counts == {"train": 16, "val": 4}
    assert meta.card.kernels == {"STANDARD": 16}
    assert meta.card.pixel_spacing_mm == (0.7, 0.7)
    assert sorted(patient for part in meta.split.values() for patient in part) == [
        "anna", "bert", "cleo", "dora", "emil", "fred",
    ]  # fmt: skip
    split = json.loads((options.splits / "patient_split_seed42.json").read_text())
    assert {name: [row["patient_id"] for row in rows] for name, rows in split["splits"].items()} == {
        name: list(ids) for name, ids in meta.split.items()
    }


def test_a_conditional_network_is_trained_continued_and_known_as_one(options: TrainOptions) -> None:
    wide = Degradation(blur_sigma_range=(0, 1), noise_model=("white", "correlated"), downsampling=("bilinear", "area"))
    told = replace(options, arch="edsr", conditional=True, hr_reduction=(1.0, 2.0), epochs=2)
    whole = train(told, wide)
    part = train(replace(told, epochs=1, runs=told.runs / "part"), wide)
    resumed = train(TrainOptions(resume=str(part.folder), epochs=2, store=options.store, device="cpu"))
    assert [row.val_l1 for row in resumed.state.history] == [row.val_l1 for row in whole.state.history]
    generator = load_model(whole.best)
    assert generator.architecture.conditional
    assert generator.trained_for == wide
    assert generator.degradation == Degradation()


def test_training_lowers_the_loss(options: TrainOptions) -> None:
    history = train(replace(options, epochs=8, nf=8, gc=4, patches_per_slice=2)).state.history
    assert history[-1].val_l1 < 0.97 * history[0].val_l1


def test_best_is_the_epoch_with_the_least_validation_loss_and_last_the_last(options: TrainOptions) -> None:
    result = train(replace(options, epochs=4, lr=0.02))
    best = load_checkpoint(result.best).training["standing"]
    assert best["epochs_done"] == result.state.best_epoch
    assert min(row.val_l1 for row in result.state.history) == best["best"]
    assert last(result).training["standing"]["epochs_done"] == 4


def test_the_number_of_workers_changes_nothing(options: TrainOptions) -> None:
    assert_same_state(last(train(options)), last(train(replace(options, num_workers=2))))


def test_resuming_equals_not_having_stopped_to_the_bit(options: TrainOptions) -> None:
    whole = train(options)
    part = train(replace(options, epochs=1))
    resumed = train(TrainOptions(resume=str(part.folder), epochs=3, store=options.store, device="cpu"))
    assert resumed.folder == part.folder
    assert_same_state(last(whole), last(resumed))
    assert_same_state(load_checkpoint(whole.best), load_checkpoint(resumed.best))


@pytest.mark.parametrize("when", KILLERS)
def test_a_run_that_was_killed_is_continued_to_the_same_bits(options: TrainOptions, tmp_path: Path, when: str) -> None:
    whole = train(replace(options, runs=tmp_path / "whole"))
    folder = killed(options, tmp_path, command="train", when=when, updates=6)
    resumed = train(TrainOptions(resume=str(folder), store=options.store, device="cpu"))
    assert_same_state(last(whole), last(resumed))
    with (resumed.folder / "metrics.csv").open() as lines:
        assert [row["epoch"] for row in csv.DictReader(lines)] == ["1", "2", "3"]


def test_a_finished_run_is_not_trained_again(options: TrainOptions) -> None:
    result = train(replace(options, epochs=1))
    before = (result.folder / "last.pth").stat().st_mtime_ns
    listener = Listener()
    again = train(TrainOptions(resume=str(result.folder), store=options.store, device="cpu"), progress=listener)
    assert again.state.epochs_done == 1
    assert (result.folder / "last.pth").stat().st_mtime_ns == before
    assert any("has done its 1 epochs" in line for line in listener.notes)


def test_a_checkpoint_to_resume_that_is_not_there_is_an_error_rather_than_a_fresh_start(options: TrainOptions) -> None:
    with pytest.raises(MissingInputError, match="nothing/last"):
        train(replace(options, resume="nothing/last.pth"))
    assert not options.runs.exists()


def test_a_flag_that_does_not_fit_the_resumed_run_is_refused(options: TrainOptions) -> None:
    result = train(replace(options, epochs=1))
    resumed = TrainOptions(resume=str(result.folder), store=options.store, device="cpu", epochs=2)
    with pytest.raises(UsageError, match="`patch_size` 48 does not fit the run to be continued, which has 24"):
        train(replace(resumed, patch_size=48))
    with pytest.raises(UsageError, match="degradation asked for"):
        train(resumed, Degradation("clean"))


def test_a_bare_state_dict_cannot_be_resumed(options: TrainOptions) -> None:
    result = train(replace(options, epochs=1))
    torch.save(dict(load_model(result.best).net.state_dict()), result.folder / "last.pth")
    with pytest.raises(CheckpointError):
        train(TrainOptions(resume=str(result.folder), store=options.store, device="cpu", epochs=2))


def test_it_stops_when_patience_runs_out_and_says_so(options: TrainOptions) -> None:
    listener = Listener()
    # With a step this large the loss only grows after the first epochs.
    result = train(replace(options, epochs=30, patience=2, lr=0.3, clip_grad=1.0), progress=listener)
    assert result.state.epochs_done == result.state.best_epoch + 2 < 30
    assert any("stopped early" in line for line in listener.notes)
    assert last(result).training["standing"]["epochs_done"] == result.state.epochs_done


def test_micro_batches_give_the_step_of_the_whole_batch(options: TrainOptions) -> None:
    whole, parts = (last(train(replace(options, epochs=1, micro_batch=size))) for size in (4, 1))
    for name, value in whole.weights.items():
        assert torch.allclose(value, parts.weights[name], atol=2e-6), name


def test_a_loss_that_stays_not_finite_ends_the_training_with_advice(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctsr.train import run as module

    monkeypatch.setattr(module, "l1_loss", lambda sr, hr: (sr - hr).mean() * float("nan"))
    with pytest.raises(CtsrError, match=r"10 times in a row, at step 10: .* lower `lr`"):
        train(replace(options, batch_size=1))


def test_a_single_loss_that_is_not_finite_is_skipped_and_counted(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctsr.train import run as module

    real, calls = module.l1_loss, iter(range(10**6))
    poison = {2}
    wrong = (float("inf") if call in poison else 1.0 for call in calls)
    monkeypatch.setattr(module, "l1_loss", lambda sr, hr: real(sr, hr) * next(wrong))
    result = train(replace(options, epochs=1))
    assert result.state.skipped_steps == 1
    assert result.state.history[0].train_l1 < 1
    assert all(value.isfinite().all() for value in last(result).weights.values())


def test_the_test_part_is_never_read(options: TrainOptions, root: Path, tmp_path: Path) -> None:
    result = train(replace(options, epochs=1, store=tmp_path / "own"))
    split = last(result).meta.split
    decoded = {path.parent for path in (tmp_path / "own").rglob("hu.npy")}
    seen = [scan_patient(root / patient).series[0] for patient in (*split["train"], *split["val"])]
    assert decoded == {open_series(series, tmp_path / "own").folder for series in seen}
    assert len(decoded) == 5


def test_several_roots_are_one_set_of_patients(options: TrainOptions, root: Path, tmp_path: Path) -> None:
    save_patient(tmp_path / "more", "gina", slices=2, size=48, seed=50)
    result = train(replace(options, data_root=(root, tmp_path / "more"), epochs=1))
    assert "gina" in {patient for part in last(result).meta.split.values() for patient in part}


def test_patches_larger_than_every_slice_are_refused(options: TrainOptions) -> None:
    """They would be reflections for the most part, and the network would learn those without a word."""
    with pytest.raises(UsageError, match="`patch_size` 50 is larger than every training slice; 48 fits"):
        train(replace(options, patch_size=50))


def test_patches_of_means_larger_than_every_slice_are_refused(options: TrainOptions) -> None:
    with pytest.raises(
        UsageError, match="`patch_size` 24 at `hr_reduction` 4 is larger than every training slice; 12 f"
    ):
        train(replace(options, hr_reduction=(3.0, 4.0)))


def test_patches_larger_than_some_slices_are_said(options: TrainOptions, tmp_path: Path) -> None:
    root = save_patients(tmp_path / "exams", slices=2, size=48, grow=4)
    listener = Listener()
    train(replace(options, data_root=(root,), patch_size=60, epochs=1), progress=listener)
    (warning,) = (note for note in listener.notes if "continued by reflection" in note)
    assert warning.startswith("warning: `patch_size` 60 is larger than the slices of 1 of 4 training series")
    assert warning.endswith("; 56 fits all")
    fitting = Listener()
    train(replace(options, data_root=(root,), patch_size=48, epochs=1), progress=fitting)
    assert not [note for note in fitting.notes if "reflection" in note]


def test_training_images_that_preprocessing_upsampled_are_said(options: TrainOptions, tmp_path: Path) -> None:
    """Pixels of 0.7 mm; finer ones hold no more, and what is learned from them makes no more."""
    for spacing, warned in ((0.5, True), (0.9, False)):
        out = tmp_path / f"{spacing}"
        preprocess(options.data_root[0], out, target_spacing=spacing, workers=1)
        listener = Listener()
        train(replace(options, data_root=(out,), splits=tmp_path / f"s{spacing}", epochs=1), progress=listener)
        found = [note for note in listener.notes if "HR was upsampled" in note]
        assert len(found) == warned
        assert all("of 4 of 4 patients to train on" in note and "0.7 → 0.5 mm" in note for note in found)


def test_a_conditional_network_that_does_not_learn_what_it_will_be_told_is_said(options: TrainOptions) -> None:
    listener = Listener()
    narrow = replace(options, arch="edsr", conditional=True, epochs=1)
    train(narrow, progress=listener)
    (warning,) = (note for note in listener.notes if "tells conditional networks" in note)
    assert "a blur of 0 … 0.88 pixels and noise from 0 on; this one learns 0.7 … 0.9 pixels" in warning
    assert "noise of 2.1 … 9 HU: what it makes at strength faithful and standard and strong" in warning
    wide = Degradation(blur_sigma_range=(0, 1.3), noise_sigma_range=(0, 0.045), dose_factor_range=(1, 1))
    heeded = Listener()
    train(narrow, wide, progress=heeded)
    assert not [note for note in heeded.notes if "tells conditional networks" in note]


def test_a_patch_size_that_the_scale_does_not_divide_is_refused(options: TrainOptions) -> None:
    with pytest.raises(UsageError, match="not divisible by `scale`"):
        train(replace(options, patch_size=25))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"lr": 0.0}, "`lr` must be above 0"),
        ({"patience": -1}, "`patience` must not be negative"),
    ],
)
def test_impossible_settings_are_refused_by_name(options: TrainOptions, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        train(replace(options, **settings))


def test_the_cost_is_said_before_it_starts(options: TrainOptions) -> None:
    listener = Listener()
    train(replace(options, epochs=1), progress=listener)
    line = next(line for line in listener.notes if "a step takes about" in line)
    assert line.startswith("16 patches an epoch; ")
    assert "an epoch of 4 steps about" in line
    assert listener.notes.index(line) < next(i for i, text in enumerate(listener.notes) if text.startswith("epoch 1"))
