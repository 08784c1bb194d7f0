"""Fine-tuning: what it writes, who plays when, and that an interruption changes not a bit."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from ctsr.checkpoint import load_checkpoint, load_model
from ctsr.checkpoint.model_lookup import BUNDLED
from ctsr.data.datasets import trained_on
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError, CtsrError, MissingInputError, SplitError, UsageError
from ctsr.models import StateDict
from ctsr.train import FinetuneOptions, TrainOptions, adversarial
from ctsr.train import finetune as finetune_module
from ctsr.train.context import Validation
from ctsr.train.finetune import finetune
from ctsr.train.run import train
from ctsr.train.run_folder import FinetuneRow
from tests.made.listener import Listener
from tests.made.training import KILLERS, assert_same_gradients, assert_same_state, gradients, killed, last
from tests.needs import needs_weights

COLUMNS = [
    *("epoch", "global_step", "train_total", "train_total_no_gan", "train_l1", "train_perc", "train_gan"),
    *("train_l1_weighted", "train_perc_weighted", "train_gan_weighted"),
    *("val_total", "val_total_no_gan", "val_l1", "val_perc", "val_gan"),
    *("val_l1_weighted", "val_perc_weighted", "val_gan_weighted", "psnr", "mae", "hu_bias", "lr", "time_sec"),
]


def same(one: StateDict, other: StateDict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def close(one: StateDict, other: StateDict, tolerance: float) -> bool:
    return all(torch.allclose(value, other[name], atol=tolerance, rtol=0) for name, value in one.items())


def test_a_run_folder_holds_what_a_user_looks_for(finetuning: FinetuneOptions) -> None:
    result = finetune(replace(finetuning, no_plots=False))
    names = {path.name for path in result.folder.iterdir()}
    assert result.folder.parent == finetuning.runs
    assert result.folder.name.startswith("finetune_x2_blurnoise_")
    assert {"best.pth", "last.pth", "config.json", "finetune_x2_blurnoise.json", "metrics.csv", "train.log"} <= names
    assert {"loss_total.png", "loss_total_no_gan.png", "loss_components.png", "loss_components_weighted.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert sorted(path.name for path in (result.folder / "samples").iterdir()) == [
        f"epoch_{epoch:03d}-1.png" for epoch in range(4)
    ]
    with (result.folder / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    assert list(rows[0])[len(COLUMNS) :] == ["train_disc", "train_consistency", "train_artifact", "val_consistency_hu"]
    assert [row["global_step"] for row in rows] == ["4", "8", "12"]


def test_without_plots_there_are_numbers_only(finetuning: FinetuneOptions) -> None:
    folder = finetune(replace(finetuning, epochs=1)).folder
    assert (folder / "metrics.csv").is_file()
    assert not list(folder.rglob("*.png"))


def test_columns_add_up_and_what_was_not_computed_is_empty(finetuning: FinetuneOptions) -> None:
    row: FinetuneRow = finetune(replace(finetuning, epochs=1, lambda_gan=0.5)).state.history[0]
    assert row.train_gan
    assert row.train_l1
    assert row.train_gan_weighted == pytest.approx(0.5 * row.train_gan)
    assert row.train_total_no_gan == row.train_l1_weighted == row.train_l1
    # Two of the four steps were without it.
    assert row.train_total == pytest.approx(row.train_l1 + 0.5 * row.train_gan * 2 / 4)
    assert row.val_total_no_gan == row.val_l1_weighted == row.val_l1 == pytest.approx(2 * row.mae)
    assert (row.val_total, row.val_gan, row.val_perc, row.train_perc, row.train_consistency) == (None,) * 5


def test_validation_computes_the_adversarial_loss_when_asked(finetuning: FinetuneOptions) -> None:
    history = finetune(replace(finetuning, epochs=2, warmup_g_only=6, val_compute_gan=True)).state.history
    assert [row.val_gan is None for row in history] == [True, False]
    assert history[0].train_total == history[0].train_total_no_gan
    assert history[0].val_total == history[0].val_total_no_gan
    assert history[1].val_total == pytest.approx(history[1].val_total_no_gan + 0.003 * history[1].val_gan)


def test_the_generator_alone_is_trained_while_warming_up(finetuning: FinetuneOptions) -> None:
    warming = last(finetune(replace(finetuning, epochs=1, warmup_g_only=4)))
    without = last(finetune(replace(finetuning, epochs=1, lambda_gan=0.0)))
    playing = last(finetune(replace(finetuning, epochs=1, warmup_g_only=3)))
    assert same(warming.weights, without.weights)
    assert not same(warming.weights, playing.weights)
    critics = [c.training["others"]["critic"]["weights"] for c in (warming, without, playing)]
    assert same(critics[0], critics[1])
    assert not same(critics[0], critics[2])


def test_the_average_has_a_key_of_its_own_and_is_what_is_used(finetuning: FinetuneOptions) -> None:
    result = finetune(finetuning)
    checkpoint = load_checkpoint(result.best)
    assert checkpoint.ema is not None
    assert not same(checkpoint.weights, checkpoint.ema)
    assert same(load_model(result.best).net.state_dict(), checkpoint.ema)
    assert same(load_model(result.best, use_ema=False).net.state_dict(), checkpoint.weights)


def test_the_average_follows_by_its_decay(finetuning: FinetuneOptions, pretrained: Path) -> None:
    one_step = replace(finetuning, epochs=1, batch_size=16, ema=0.75)
    start = load_checkpoint(pretrained / "best.pth").weights
    one = last(finetune(one_step))
    two = last(finetune(replace(one_step, epochs=2, lr_schedule="constant")))
    average = start
    for found in (one, two):
        average = {name: 0.75 * value + 0.25 * found.weights[name] for name, value in average.items()}
        assert found.ema is not None
        assert close(found.ema, average, 1e-6)


@pytest.mark.parametrize("options", [{}, {"discriminator": "unet", "gan_type": "hinge", "lambda_artifact": 1.0}])
def test_resuming_equals_not_having_stopped_to_the_bit(finetuning: FinetuneOptions, options: dict[str, Any]) -> None:
    # A schedule that does not know how long the run is meant to be.
    constant = replace(finetuning, lr_schedule="constant", **options)
    whole = finetune(constant)
    part = finetune(replace(constant, epochs=1))
    again = finetune(FinetuneOptions(resume=str(part.folder), epochs=3, store=finetuning.store, device="cpu"))
    assert again.folder == part.folder
    assert_same_state(last(whole), last(again))


@pytest.mark.parametrize("when", KILLERS)
def test_a_run_that_was_killed_is_continued_to_the_same_bits(
    finetuning: FinetuneOptions, tmp_path: Path, when: str
) -> None:
    whole = finetune(replace(finetuning, runs=tmp_path / "whole"))
    # The second epoch's second step, between generator and discriminator: two warm-up steps have one update each.
    folder = killed(finetuning, tmp_path, command="finetune", when=when, updates=2 + 2 * 2 + 4)
    resumed = finetune(FinetuneOptions(resume=str(folder), store=finetuning.store, device="cpu"))
    assert_same_state(last(whole), last(resumed))
    with (resumed.folder / "metrics.csv").open() as lines:
        assert [row["epoch"] for row in csv.DictReader(lines)] == ["1", "2", "3"]


def test_parts_of_a_batch_give_the_gradients_of_the_whole(finetuning: FinetuneOptions) -> None:
    """Also for relativistic means, which no part knows by itself."""
    one_step = replace(finetuning, epochs=1, batch_size=16, warmup_g_only=0, lambda_gan=1.0, lambda_consistency=0.5)
    whole, parts = (last(finetune(replace(one_step, micro_batch=size))) for size in (16, 5))
    assert [c.training["config"]["micro_batch"] for c in (whole, parts)] == [16, 4]
    assert_same_gradients(whole, parts)


def test_accumulated_batches_give_the_gradients_of_one_large_batch(finetuning: FinetuneOptions) -> None:
    short = replace(finetuning, epochs=1, warmup_g_only=0)
    large = finetune(replace(short, batch_size=16))
    accumulated = finetune(replace(short, batch_size=4, accumulate=4))
    assert large.state.global_step == accumulated.state.global_step == 1
    assert last(accumulated).training["config"]["micro_batch"] == 4
    assert_same_gradients(last(large), last(accumulated))


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    finetuning: FinetuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = adversarial.discriminator_loss, iter(range(10**6))
    poisoned = {1}
    monkeypatch.setattr(
        adversarial,
        "discriminator_loss",
        lambda *a, **k: real(*a, **k) * (float("nan") if next(calls) in poisoned else 1.0),
    )
    result = finetune(replace(finetuning, epochs=1, warmup_g_only=0))
    assert result.state.skipped_steps == 1
    checkpoint = last(result)
    for weights in (checkpoint.weights, checkpoint.training["others"]["critic"]["weights"]):
        assert all(value.isfinite().all() for value in weights.values())


def test_losses_that_stay_not_finite_end_the_run(finetuning: FinetuneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "discriminator_loss", lambda *a, **k: a[1].mean() * float("nan"))
    with pytest.raises(CtsrError, match="10 times in a row"):
        finetune(replace(finetuning, epochs=9, warmup_g_only=0))


def test_the_rate_falls_by_half_after_60_and_80_percent_of_the_epochs(finetuning: FinetuneOptions) -> None:
    history = finetune(replace(finetuning, epochs=5, lambda_gan=0.0, patience="none")).state.history
    assert [row.lr for row in history] == [1e-3, 1e-3, 1e-3, 5e-4, 2.5e-4]


@pytest.mark.parametrize("metric", ["total_no_gan", "mae", "psnr"])
def test_the_best_epoch_is_the_one_that_early_metric_says(finetuning: FinetuneOptions, metric: str) -> None:
    options = replace(finetuning, early_metric=metric, lr=0.02, patience=0, epochs=4)  # type: ignore[arg-type]
    state = finetune(options).state
    sign = -1 if metric == "psnr" else 1
    found = [sign * getattr(row, "val_total_no_gan" if metric == "total_no_gan" else metric) for row in state.history]
    assert state.best_epoch == 1 + found.index(min(found))


def test_patience_ends_a_run_that_makes_no_progress(finetuning: FinetuneOptions) -> None:
    listener = Listener()
    hopeless = replace(finetuning, epochs=30, patience=2, lr=0.3, ema=0.0)
    state = finetune(hopeless, progress=listener).state
    assert state.epochs_done == state.best_epoch + 2 < 30
    assert "stopped early: no progress for 2 epochs" in listener.notes


def test_out_dir_receives_the_run_itself_and_keeps_an_earlier_one(finetuning: FinetuneOptions, tmp_path: Path) -> None:
    here = replace(finetuning, epochs=1, lambda_gan=0.0, out_dir=tmp_path / "finetune_outputs", no_plots=False)
    first = finetune(here)
    assert first.folder == tmp_path / "finetune_outputs"
    (first.folder / "notes.txt").write_text("mine")
    for made_of_it in ("best_alpha0.3.pth", "best.int8.safetensors"):
        (first.folder / made_of_it).write_text("of the first run")
    weights = (first.folder / "best.pth").read_bytes()
    again = finetune(replace(here, seed=43))
    assert again.folder == first.folder
    (aside,) = (path for path in first.folder.iterdir() if path.is_dir() and path.name != "samples")
    assert aside.name.startswith("finetune_x2_blurnoise_")
    assert (aside / "best.pth").read_bytes() == weights
    assert (first.folder / "best.pth").read_bytes() != weights
    assert (first.folder / "notes.txt").read_text() == "mine"
    assert {"best_alpha0.3.pth", "best.int8.safetensors"} <= {path.name for path in aside.iterdir()}
    assert {path.name for path in first.folder.glob("best*")} == {"best.pth"}


def test_the_generators_split_degradation_and_scale_hold(finetuning: FinetuneOptions, tmp_path: Path) -> None:
    root = finetuning.data_root[0]
    l1 = TrainOptions(
        data_root=(root,), scale=4, epochs=1, batch_size=8, patch_size=24, num_workers=0, nf=4, nb=1, gc=2,
        device="cpu", store=finetuning.store, runs=tmp_path / "l1", splits=tmp_path / "splits",
    )  # fmt: skip
    first = train(l1, Degradation("blur", 4, blur_sigma_range=(1.1, 1.2)))
    result = finetune(replace(finetuning, pretrained_g=str(first.folder), epochs=1))
    ours, theirs = last(result).meta, last(first).meta
    assert (ours.degradation, ours.split, ours.scale) == (theirs.degradation, theirs.split, 4)
    assert ours.experiment == "finetune_x4_blur"
    with pytest.raises(UsageError, match="a network for ×4"):
        finetune(replace(finetuning, pretrained_g=str(first.folder), scale=2))


def test_a_generator_trained_on_patients_that_are_to_judge_it_is_refused(
    finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path
) -> None:
    split = load_checkpoint(pretrained / "best.pth").meta.split
    swapped = {"train": split["val"], "val": split["train"], "test": split["test"]}
    path = tmp_path / "swapped.json"
    path.write_text(json.dumps({"splits": {n: [{"patient_id": p} for p in ids] for n, ids in swapped.items()}}))
    with pytest.raises(SplitError, match=r"was trained on .* of the val part"):
        finetune(replace(finetuning, split_json=path))
    assert finetune(replace(finetuning, split_json=path, allow_train_patients=True, epochs=1)).state.epochs_done == 1


def test_left_out_the_generator_is_the_newest_l1_run(
    finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = Listener()
    without = finetune(replace(finetuning, pretrained_g=None, epochs=1, lambda_gan=0.0), progress=listener)
    assert any(note.startswith("model: ctsr-x2, which comes with ctsr") for note in listener.notes)
    assert load_model(without.best).architecture == load_model(BUNDLED["ctsr-x2"].file).architecture
    shutil.copytree(pretrained, tmp_path / "runs" / pretrained.name)
    finetune(replace(finetuning, epochs=1, lambda_gan=0.0))
    listener = Listener()
    finetune(replace(finetuning, pretrained_g=None, epochs=1, lambda_gan=0.0), progress=listener)
    chosen = Path("runs") / pretrained.name / "best.pth"
    (note,) = (note for note in listener.notes if note.startswith("model: "))
    assert note.startswith(f"model: {chosen}, the newest L1 run (choose another with `pretrained_g`)")
    assert "best.pth is no better than bicubic interpolation" in note, "an epoch is no training"


def test_each_kind_of_run_is_continued_by_its_own_command(finetuning: FinetuneOptions, pretrained: Path) -> None:
    with pytest.raises(CheckpointError, match="made by `ctsr train`"):
        finetune(FinetuneOptions(resume=str(pretrained), epochs=5, store=finetuning.store))
    tuned = finetune(replace(finetuning, epochs=1, lambda_gan=0.0))
    with pytest.raises(CheckpointError, match="made by `ctsr finetune`"):
        train(TrainOptions(resume=str(tuned.folder), epochs=5, store=finetuning.store))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"patch": 25}, "`patch` 25 is not divisible by `scale` 2; 24 is"),
        ({"lambda_gan": -1.0}, "`lambda_gan` must not be negative"),
        ({"lambda_artifact": 1.0, "ema": 0.0}, "needs `ema` above 0"),
        ({"perc_layers": ("conv5_3",), "perc_weights": (1.0, 2.0)}, "2 values for 1 `perc_layers`"),
        ({"ema": 1.0}, r"`ema` must be in \[0, 1\)"),
        ({"accumulate": 0}, "`accumulate` must be at least 1"),
        ({"lambda_l1": 0.0}, "`early_metric` total_no_gan is 0 in every epoch"),
        (
            {"lambda_l1": 0.0, "lambda_gan": 0.0, "lambda_artifact": 1.0},
            "neither the adversarial nor the artifact loss",
        ),
    ],
)
def test_impossible_settings_are_refused_by_name(
    finetuning: FinetuneOptions, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        finetune(replace(finetuning, **settings))


def test_without_the_perceptual_weights_the_error_says_which_command_brings_them(
    finetuning: FinetuneOptions, tmp_path: Path
) -> None:
    with pytest.raises(MissingInputError, match=r"`ctsr weights fetch vgg16 --cache .*` brings them"):
        finetune(replace(finetuning, perceptual="vgg16", cache=tmp_path / "empty"))


def test_all_that_is_missing_is_named_at_once(finetuning: FinetuneOptions, tmp_path: Path) -> None:
    gone = replace(
        finetuning,
        pretrained_g="no_such_run",
        data_root=(Path("no_exams"), Path("none_either")),
        split_json=Path("no_split.json"),
        perceptual="vgg16",
        cache=tmp_path / "empty",
    )
    with pytest.raises(MissingInputError) as raised:
        finetune(gone)
    for what in ("no model no_such_run", "no_exams:", "none_either:", "no_split.json:", "ctsr weights fetch vgg16"):
        assert what in str(raised.value)


def test_half_precision_is_close_to_single(finetuning: FinetuneOptions) -> None:
    rows = [
        finetune(replace(finetuning, epochs=2, patch=16, precision=p)).state.history[-1] for p in ("32", "bf16-mixed")
    ]  # type: ignore[arg-type]
    assert rows[1].train_l1 == pytest.approx(rows[0].train_l1, rel=0.05)
    assert rows[1].train_disc == pytest.approx(rows[0].train_disc, rel=0.5)
    assert rows[1].train_l1 != rows[0].train_l1


def test_the_real_trunk_makes_the_perceptual_loss(finetuning: FinetuneOptions) -> None:
    cache = needs_weights("vgg16")
    options = replace(finetuning, epochs=1, perceptual="vgg16", cache=cache, lambda_l1=0.0, lambda_gan=0.0)
    start = load_model(Path(options.pretrained_g or "") / "best.pth").net.state_dict()
    result = finetune(replace(options, perc_layers=("conv2_2", "conv5_3"), perc_weights=(0.5, 1.0)))
    row: FinetuneRow = result.state.history[0]
    assert row.train_perc
    assert row.val_perc
    assert row.train_total_no_gan == pytest.approx(0.08 * row.train_perc)
    # With nothing but the perceptual loss the generator moves: its gradient reaches the weights.
    assert not same(last(result).weights, start)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_parts_of_a_batch_work_in_every_precision(finetuning: FinetuneOptions, precision: str) -> None:
    one_step = replace(finetuning, epochs=1, batch_size=8, patch=16, warmup_g_only=0, precision=precision)  # type: ignore[arg-type]
    rows = [finetune(replace(one_step, micro_batch=size)).state.history[0] for size in (8, 3)]
    assert rows[1].train_l1 == pytest.approx(rows[0].train_l1, rel=1e-2)
    assert rows[1].val_l1 == pytest.approx(rows[0].val_l1, rel=1e-2)


def test_gradients_survive_the_scale_of_half_precision(
    finetuning: FinetuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in parts is differentiated twice: what the first pass has scaled, the second must not scale again."""

    def scaled(*args: object, **keywords: object) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        fabric = Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        fabric.launch()
        return fabric

    one_step = replace(finetuning, epochs=1, batch_size=8, patch=16, warmup_g_only=0, clip_grad=0.0)
    monkeypatch.setattr(finetune_module, "launch", scaled)
    whole, parts = (gradients(last(finetune(replace(one_step, micro_batch=size)))) for size in (16, 4))
    for name, value in whole.items():
        if name.startswith("generator"):
            assert float(parts[name].norm()) == pytest.approx(float(value.norm()), rel=0.05, abs=1e-6), name


def test_a_run_goes_on_in_another_precision(finetuning: FinetuneOptions) -> None:
    part = finetune(replace(finetuning, epochs=1))
    again = FinetuneOptions(
        resume=str(part.folder), epochs=2, precision="bf16-mixed", store=finetuning.store, device="cpu"
    )
    assert finetune(again).state.epochs_done == 2


def test_whom_the_generator_was_trained_on_is_not_forgotten(
    finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path
) -> None:
    """Also where the fine-tuning trains on fewer: evaluation must still refuse them."""
    split = load_checkpoint(pretrained / "best.pth").meta.split
    kept, *others = split["train"]
    fewer = {"train": (kept,), "val": split["val"], "test": split["test"]}
    path = tmp_path / "fewer.json"
    path.write_text(json.dumps({"splits": {n: [{"patient_id": p} for p in ids] for n, ids in fewer.items()}}))
    meta = last(finetune(replace(finetuning, split_json=path, epochs=1))).meta
    assert meta.split["train"] == (kept,)
    assert meta.also_trained_on == tuple(sorted(others))
    assert trained_on(others, meta.split, meta.also_trained_on) == sorted(others)


def test_the_command_of_a_run_continues_it_with_resume(finetuning: FinetuneOptions, pretrained: Path) -> None:
    part = finetune(replace(finetuning, epochs=1))
    again = FinetuneOptions(
        resume=str(part.folder), pretrained_g=pretrained.name, epochs=2, store=finetuning.store, device="cpu"
    )
    assert finetune(again, given={"resume", "pretrained_g", "epochs", "store", "device"}).state.epochs_done == 2


def test_out_dir_does_not_take_the_place_of_an_l1_run(finetuning: FinetuneOptions, pretrained: Path) -> None:
    with pytest.raises(UsageError, match="is a run of `ctsr train`"):
        finetune(replace(finetuning, out_dir=pretrained))
    assert (pretrained / "best.pth").is_file()


def test_patches_larger_than_every_slice_are_refused(finetuning: FinetuneOptions) -> None:
    with pytest.raises(UsageError, match="`patch` 64 is larger than every training slice; 48 fits"):
        finetune(replace(finetuning, patch=64))


def test_the_best_epoch_of_an_adversarial_loss_alone_is_told_by_another_measure(finetuning: FinetuneOptions) -> None:
    state = finetune(replace(finetuning, epochs=1, lambda_l1=0.0, early_metric="mae")).state
    assert state.best == state.history[0].mae > 0


def test_what_so_short_a_fine_tuning_does_not_come_to_is_said(finetuning: FinetuneOptions) -> None:
    """One epoch of four steps."""
    listener = Listener()
    short = replace(finetuning, epochs=1, ema=0.999, warmup_g_only=4)
    finetune(short, progress=listener)
    (average,) = (note for note in listener.notes if "average of the weights (`ema` 0.999) still holds" in note)
    assert "after 4 steps" in average
    assert "100% of those that training begins with" in average
    assert average.endswith("pass `ema=0.3`")
    assert [
        note for note in listener.notes if "the adversarial loss takes no part: training ends after 4 steps" in note
    ]
    heeded = Listener()
    finetune(replace(short, ema=0.3, warmup_g_only=3), progress=heeded)
    assert not [note for note in heeded.notes if "still holds" in note or "takes no part" in note]


def test_a_conditional_generator_is_judged_by_a_draw_for_each_slice(
    options: TrainOptions, finetuning: FinetuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `train` judges it: over the range that it is made for, of which one draw for a series says little."""
    run = train(replace(options, arch="edsr", conditional=True, epochs=1))
    drawn: list[float] = []
    real = Validation.pair

    def noted(self: Validation, stored: StoredSeries, index: int) -> SlicePair:
        pair = real(self, stored, index)
        drawn.append(pair.draw.params.blur_sigma)
        return pair

    monkeypatch.setattr(Validation, "pair", noted)
    finetune(replace(finetuning, pretrained_g=str(run.folder), epochs=1))
    assert len(set(drawn)) == len(drawn) == 4


def test_a_generator_that_does_not_say_how_it_was_trained_is_said(
    finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.pth"
    torch.save(load_model(pretrained / "best.pth").net.state_dict(), bare)
    listener = Listener()
    finetune(replace(finetuning, pretrained_g=str(bare), epochs=1), progress=listener)
    (said,) = (note for note in listener.notes if "does not say how it was trained" in note)
    assert "it is shown -1000 … 2000 HU, and the default degradation" in said.split("\n")[1]
    told = Listener()
    finetune(replace(finetuning, epochs=1), progress=told)
    assert not [note for note in told.notes if "does not say" in note]
