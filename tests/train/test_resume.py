"""What a continued run keeps: its split, its options unless they are named, the sums of its steps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from ctsr.checkpoint import load_checkpoint
from ctsr.cli.main import main
from ctsr.data.split import PARTS
from ctsr.errors import CtsrError, UsageError
from ctsr.hashing import derived_uid
from ctsr.train import FinetuneOptions, TrainOptions, session
from ctsr.train import run as module
from ctsr.train.finetune import finetune
from ctsr.train.run import train
from tests.made.exams import save_patient, save_patients
from tests.made.listener import Listener
from tests.made.training import assert_same_state


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


def with_other_studies(root: Path, target: Path, *, grow: int = 0) -> Path:
    """Exams of other people under the same names of folders, with `grow` slices more of each."""
    for number, folder in enumerate(sorted(root.iterdir())):
        count = 4 + grow
        for path in save_patient(target, folder.name, slices=count, size=48, seed=100 + number):
            dataset = dcmread(path)
            dataset.StudyInstanceUID, dataset.PatientID = derived_uid("other", folder.name), f"STRANGER {folder.name}"
            dataset.save_as(path)
    return target


def test_whom_a_run_was_trained_on_is_known_after_its_data_was_replaced(options: TrainOptions, tmp_path: Path) -> None:
    data = shutil.copytree(options.data_root[0], tmp_path / "data")
    first = train(replace(options, data_root=(data,), epochs=1))
    before = load_checkpoint(first.folder / "last.pth").meta.trained_identities
    shutil.rmtree(data)
    with_other_studies(options.data_root[0], data)
    listener = Listener()
    resumed = TrainOptions(resume=str(first.folder), epochs=2, store=options.store, device="cpu")
    again = train(resumed, progress=listener)
    after = load_checkpoint(again.folder / "last.pth").meta.trained_identities
    assert set(before) < set(after)
    assert len(after) == 2 * len(before)
    (warning,) = [note for note in listener.notes if "is not what this run was trained on" in note]
    assert "exams it has not seen, of " in warning


def test_a_run_goes_on_with_more_slices_only_with_a_word(options: TrainOptions, tmp_path: Path) -> None:
    data = shutil.copytree(options.data_root[0], tmp_path / "data")
    first = train(replace(options, data_root=(data,), epochs=1))
    shutil.rmtree(data)
    save_patients(data, slices=5, size=48)
    listener = Listener()
    train(TrainOptions(resume=str(first.folder), epochs=2, store=options.store, device="cpu"), progress=listener)
    (warning,) = [note for note in listener.notes if "is not what this run was trained on" in note]
    assert "slices train 16, val 4 → train 20, val 5" in warning
    assert "has not seen" not in warning


def test_a_run_that_goes_on_with_its_own_data_is_not_warned_about(options: TrainOptions) -> None:
    first = train(replace(options, epochs=1))
    listener = Listener()
    train(TrainOptions(resume=str(first.folder), epochs=2, store=options.store, device="cpu"), progress=listener)
    assert not [note for note in listener.notes if "is not what this run was trained on" in note]


def test_a_fine_tuning_says_so_as_well(finetuning: FinetuneOptions, tmp_path: Path) -> None:
    data = shutil.copytree(finetuning.data_root[0], tmp_path / "data")
    first = finetune(replace(finetuning, data_root=(data,), epochs=1))
    listener = Listener()
    resumed = FinetuneOptions(resume=str(first.folder), epochs=2, store=finetuning.store, device="cpu")
    finetune(resumed, progress=listener)
    assert not [note for note in listener.notes if "is not what this run was trained on" in note]
    shutil.rmtree(data)
    with_other_studies(finetuning.data_root[0], data, grow=1)
    finetune(replace(resumed, epochs=3), progress=listener)
    (warning,) = [note for note in listener.notes if "is not what this run was trained on" in note]
    assert "has not seen" in warning


def test_a_checkpoint_beside_another_run_does_not_write_over_it(options: TrainOptions, tmp_path: Path) -> None:
    one = train(replace(options, epochs=1))
    other = train(replace(options, epochs=1, seed=7, runs=tmp_path / "others"))
    stray = Path(shutil.copy(one.folder / "last.pth", other.folder / "one.pth"))
    before = (other.folder / "last.pth").read_bytes()
    resumed = TrainOptions(resume=str(stray), epochs=2, store=options.store, device="cpu")
    with pytest.raises(UsageError, match=r"holds the last.pth of a run, which would be written over; move one.pth"):
        train(resumed)
    assert (other.folder / "last.pth").read_bytes() == before
    alone = tmp_path / "alone"
    alone.mkdir()
    assert train(replace(resumed, resume=shutil.move(stray, alone / "one.pth"))).folder == alone


def test_a_fine_tuning_beside_another_one_does_not_either(finetuning: FinetuneOptions) -> None:
    run = finetune(replace(finetuning, epochs=1))
    stray = shutil.copy(run.folder / "last.pth", run.folder / "epoch1.pth")
    with pytest.raises(UsageError, match="which would be written over"):
        finetune(FinetuneOptions(resume=str(stray), epochs=2, store=finetuning.store, device="cpu"))


def test_a_run_that_was_moved_without_its_best_epoch_has_it_again(options: TrainOptions) -> None:
    run = train(replace(options, epochs=1))
    before = load_checkpoint(run.best)
    run.best.unlink()
    worse = replace(options, resume=str(run.folder), epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.L1Stage, "score", lambda self, row: row.val_l1 + 1)
        again = train(worse)
    assert again.state.best_epoch == 1
    assert_same_state(load_checkpoint(run.best), before)


def test_a_finished_run_that_was_moved_without_its_best_epoch_has_it_again(options: TrainOptions) -> None:
    run = train(replace(options, epochs=1))
    before = load_checkpoint(run.best)
    run.best.unlink()
    train(replace(options, resume=str(run.folder), epochs=1))
    assert_same_state(load_checkpoint(run.best), before)


def test_a_run_goes_on_from_its_best_epoch_where_the_last_is_damaged(options: TrainOptions) -> None:
    run = train(replace(options, epochs=1))
    (run.folder / "last.pth").write_bytes(b"damaged")
    again = train(TrainOptions(resume=str(run.best), epochs=2, store=options.store, device="cpu"))
    assert (again.folder, again.state.epochs_done) == (run.folder, 2)


def test_a_best_epoch_that_is_gone_for_good_is_said_and_not_named_as_the_model(
    options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # the second epoch is worse
        patch.setattr(module.L1Stage, "score", lambda self, row: row.val_l1 - 1 / row.epoch)
        run = train(replace(options, epochs=2))
    assert run.state.best_epoch == 1
    run.best.unlink()
    words = ["train", "--resume", str(run.folder), "--device", "cpu", "--store", str(options.store)]
    assert main([*words, "--epochs", "3"]) == 1
    out, err = capsys.readouterr()
    assert "warning: " + f"{run.best}, of epoch 1, is not there" in err.replace("\n", " ")
    assert f"{run.best} is not there: it was moved or removed" in err.replace("\n", " ")
    assert "model:" not in out


def test_the_configuration_of_a_run_continues_it_and_begins_another(
    options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(replace(options, epochs=1))
    config = ["train", "--config", str(run.folder / "config.json")]
    assert main([*config, "--resume", str(run.folder), "--epochs", "2"]) == 0
    assert f"model: {run.best}" in capsys.readouterr().out
    assert json.loads((run.folder / "config.json").read_text())["resume"] is None
    assert main([*config, "--epochs", "1"]) == 0
    assert f"model: {run.best}" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("schedule", "epochs", "warned"), [("cosine", 3, True), ("cosine", 2, False), ("constant", 3, False)]
)
def test_a_schedule_that_a_run_goes_on_with_is_not_that_of_a_whole_run(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch, schedule: str, epochs: int, warned: bool
) -> None:
    fit = session.fit
    with monkeypatch.context() as patch:  # cut off after the first of two epochs
        patch.setattr(
            session, "fit", lambda stage, state, options, keep: fit(stage, state, replace(options, epochs=1), keep=keep)
        )
        run = train(replace(options, epochs=2, lr_schedule=schedule))  # type: ignore[arg-type]
    listener = Listener()
    train(TrainOptions(resume=str(run.folder), epochs=epochs, store=options.store, device="cpu"), progress=listener)
    found = [note for note in listener.notes if "where it fell on that of 2" in note]
    assert bool(found) is warned


def test_a_best_epoch_is_not_continued_over_later_ones(options: TrainOptions, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # the second epoch is worse
        patch.setattr(module.L1Stage, "score", lambda self, row: row.val_l1 - 1 / row.epoch)
        run = train(replace(options, epochs=2))
    before = (run.folder / "last.pth").read_bytes()
    resumed = TrainOptions(resume=str(run.best), epochs=3, store=options.store, device="cpu")
    with pytest.raises(UsageError, match=r"last.pth is at epoch 2, which going on from epoch 1 would write over"):
        train(resumed)
    assert (run.folder / "last.pth").read_bytes() == before
    alone = tmp_path / "alone"
    alone.mkdir()
    again = train(replace(resumed, resume=shutil.copy(run.best, alone)))
    assert (again.folder, again.state.epochs_done) == (alone, 3)
