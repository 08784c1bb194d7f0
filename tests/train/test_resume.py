"""What a continued run keeps: its split, its options unless they are named, the sums of its steps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ctsr.checkpoint import load_checkpoint
from ctsr.cli.main import main
from ctsr.data.split import PARTS
from ctsr.errors import CtsrError, UsageError
from ctsr.train import TrainOptions
from ctsr.train import run as module
from ctsr.train.run import train


def write_split(path: Path, **parts: list[str]) -> Path:
    path.write_text(json.dumps({"splits": {name: [{"patient_id": p} for p in parts[name]] for name in PARTS}}))
    return path


def test_a_run_keeps_its_split_whatever_the_split_file_says_by_now(options: TrainOptions, tmp_path: Path) -> None:
    path = write_split(tmp_path / "s.json", train=["anna", "bert"], val=["cleo"], test=["dora"])
    first = train(replace(options, epochs=1, split_json=path))
    write_split(path, train=["dora", "bert"], val=["cleo"], test=["anna"])
    again = train(TrainOptions(resume=str(first.folder), epochs=2, store=options.store, device="cpu"))
    split = load_checkpoint(again.folder / "last.pth").meta.split
    assert split == {"train": ("anna", "bert"), "val": ("cleo",), "test": ("dora",)}


def test_an_option_that_is_named_counts_even_where_it_is_the_default(options: TrainOptions) -> None:
    run = train(replace(options, epochs=1))
    resumed = TrainOptions(resume=str(run.folder), store=options.store, device="cpu")
    with pytest.raises(UsageError, match="`batch_size` 10 does not fit the run to be continued, which has 4"):
        train(resumed, given={"resume", "batch_size"})
    again = train(replace(resumed, epochs=2), given={"resume", "epochs"})
    assert again.state.epochs_done == 2


def test_the_size_of_micro_batches_is_kept_so_that_memory_does_not_change_the_sums(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctsr.train import devices

    run = train(replace(options, epochs=1))
    assert load_checkpoint(run.best).training["config"]["micro_batch"] == 4
    monkeypatch.setattr(devices, "_free_bytes", lambda net, processes: 1)
    again = train(TrainOptions(resume=str(run.folder), epochs=2, store=options.store, device="cpu"))
    assert load_checkpoint(again.folder / "last.pth").training["config"]["micro_batch"] == 4


def test_losses_that_are_not_finite_add_up_over_epochs(options: TrainOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "l1_loss", lambda sr, hr: (sr - hr).mean() * float("nan"))
    with pytest.raises(CtsrError, match="10 times in a row, at step 10"):
        train(replace(options, batch_size=16, epochs=20, patience=0))


@pytest.mark.parametrize("seed", [7, 42])
def test_the_seed_of_a_training_leaves_the_split_alone(options: TrainOptions, seed: int) -> None:
    run = train(replace(options, epochs=1, seed=seed))
    assert [path.name for path in options.splits.iterdir()] == ["patient_split_seed42.json"]
    split = json.loads((options.splits / "patient_split_seed42.json").read_text())["splits"]
    meta = load_checkpoint(run.best).meta
    assert {name: [row["patient_id"] for row in split[name]] for name in PARTS} == {
        name: list(meta.split[name]) for name in PARTS
    }


def test_a_run_may_be_continued_with_its_own_degradation_spelled_out(
    options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    from ctsr.degrade import Degradation

    run = train(replace(options, epochs=1, scale=4), Degradation("blur", 4, blur_sigma_range=(1.0, 1.1)))
    resume = ["train", "--resume", str(run.folder), "--device", "cpu", "--store", str(options.store)]
    assert main([*resume, "--epochs", "2", "--degradation", "blur"]) == 0
    assert main([*resume, "--epochs", "3", "--degradation", "clean"]) == 2
    assert "the degradation asked for is not that of the run" in capsys.readouterr().err
