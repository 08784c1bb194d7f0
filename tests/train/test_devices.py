"""Training on several devices: one run folder, and the losses of a single device. CPU processes stand in for GPUs."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, root: Path, *flags: str) -> list[dict[str, str]]:
    """Train in a process of its own, as a user would; the rows of the one run folder that it makes."""
    ctsr = Path(sys.executable).with_name("ctsr")
    words = "train --epochs 2 --nf 4 --nb 1 --gc 2 --patch_size 24 --batch_size 4 --num_workers 0 --device cpu"
    done = subprocess.run(
        [ctsr, *words.split(), "--data_root", str(root), "--store", str(folder / "store"), *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1
    (made,) = (folder / "runs").iterdir()
    assert {"best.pth", "last.pth", "metrics.csv", "config.json"} <= {path.name for path in made.iterdir()}
    with (made / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_two_devices_make_one_run_with_the_losses_of_one_device(root: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = run(tmp_path / "one", root)
    two = run(tmp_path / "two", root, "--devices", "2")
    assert [row["global_step"] for row in one] == [row["global_step"] for row in two] == ["4", "8"]
    for name in ("train_l1", "val_l1"):
        assert [float(row[name]) for row in two] == pytest.approx([float(row[name]) for row in one], rel=1e-4)


def test_a_run_on_two_devices_is_continued_on_two(root: Path, tmp_path: Path) -> None:
    run(tmp_path, root, "--devices", "2")
    (made,) = (tmp_path / "runs").iterdir()
    rows = run(tmp_path, root, "--resume", str(made), "--epochs", "3")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]


def test_a_batch_that_the_devices_cannot_share_evenly_is_refused(root: Path, tmp_path: Path) -> None:
    ctsr = Path(sys.executable).with_name("ctsr")
    done = subprocess.run(
        [ctsr, "train", "--batch_size", "3", "--devices", "2"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "error: --batch_size 3 cannot be shared evenly by 2 devices\n"
