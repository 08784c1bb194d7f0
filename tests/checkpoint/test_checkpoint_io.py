import dataclasses
import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from ctsr.checkpoint import Meta, load_checkpoint, save_checkpoint
from ctsr.errors import CheckpointError, MissingInputError
from tests.made.model import META, example


def assert_same(one: object, other: object) -> None:
    """Equal in type, order and every bit."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    elif isinstance(one, Mapping):
        assert isinstance(other, Mapping)
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert type(one) is type(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert (type(one), one) == (type(other), other)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = example()
    save_checkpoint(tmp_path / "last.pth", saved)
    loaded = load_checkpoint(tmp_path / "last.pth")
    assert loaded.meta == saved.meta
    for field in ("weights", "ema", "training"):
        assert_same(getattr(saved, field), getattr(loaded, field))


def test_averaged_and_live_weights_keep_their_own_places(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pth", example())
    loaded = load_checkpoint(tmp_path / "last.pth")
    assert loaded.ema is not None
    assert not torch.equal(loaded.ema["conv_first.weight"], loaded.weights["conv_first.weight"])


def test_the_file_has_the_keys_that_the_users_other_programs_know(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pth", example())
    content = torch.load(tmp_path / "best.pth", weights_only=True)
    assert set(content) == {"model", "ema", "meta", "training"}
    assert content["meta"]["scale"] == 2
    assert content["model"].keys() >= {"conv_first.weight", "RRDB_trunk.0.rdb1.conv1.weight", "upsampler.0.weight"}


def test_meta_comes_back_by_way_of_json() -> None:
    read = Meta.from_plain(json.loads(json.dumps(META.to_plain(), allow_nan=False)))
    as_tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in read.degradation.items()}
    assert dataclasses.replace(read, degradation=as_tuples) == META


@pytest.mark.parametrize("key", ["architecture", "split", "degradation", "hu_range", "card"])
def test_meta_with_a_part_missing_is_refused(key: str) -> None:
    plain = META.to_plain()
    del plain[key]
    with pytest.raises(CheckpointError, match=key):
        Meta.from_plain(plain)


def test_meta_of_a_later_version_is_refused() -> None:
    with pytest.raises(CheckpointError, match="format 2"):
        Meta.from_plain(META.to_plain() | {"format": 2})


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (np.float64(0.5), "training.best is a float64"),
        (Path("x"), "training.best is a "),
        ({"deep": [1, {2}]}, "training.best.deep.1 is a set"),
        (object, "training.best is a type"),
    ],
)
def test_what_could_not_be_loaded_without_code_is_not_saved(tmp_path: Path, value: object, where: str) -> None:
    save_checkpoint(tmp_path / "last.pth", example())
    harmed = dataclasses.replace(example(1), training={"best": value})
    with pytest.raises(CheckpointError, match=where):
        save_checkpoint(tmp_path / "last.pth", harmed)
    assert_same(load_checkpoint(tmp_path / "last.pth").weights, example().weights)


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"last\.pth"):
        load_checkpoint(tmp_path / "last.pth")


def test_weights_alone_are_nothing_to_continue_from(tmp_path: Path) -> None:
    torch.save({"model": example().weights}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth is not a checkpoint to continue from.*'meta'"):
        load_checkpoint(tmp_path / "bare.pth")


def test_weights_that_contradict_the_meta_are_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(META, architecture=dataclasses.replace(META.architecture, gc=8))
    save_checkpoint(tmp_path / "last.pth", dataclasses.replace(example(), meta=other))
    with pytest.raises(CheckpointError, match=r"meta says .*gc 8, its weights are .*gc 4"):
        load_checkpoint(tmp_path / "last.pth")


SAVE_FOREVER = """
import dataclasses, sys, torch
from pathlib import Path
from ctsr.checkpoint import save_checkpoint
from tests.made.model import example

for epoch in range(1, 10_000):
    training = {"epoch": epoch, "bulk": torch.full((12_000_000,), float(epoch))}
    save_checkpoint(Path(sys.argv[1]), dataclasses.replace(example(), training=training))
"""


def kill_in_the_middle_of_a_save(path: Path) -> bool:
    """Start saving over and over, and kill the process once a save is under way and an earlier one complete."""
    saver = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(path)], cwd=Path(__file__).parents[2])
    until = time.monotonic() + 120
    try:
        while time.monotonic() < until:
            under_way = [part for part in path.parent.glob(f".{path.name}.*") if part.stat().st_size > 1_000_000]
            if under_way and path.exists():
                break
    except FileNotFoundError:  # it was finished between being listed and being looked at
        pass
    finally:
        saver.send_signal(signal.SIGKILL)
        saver.wait()
    return any(part.stat().st_size > 1_000_000 for part in path.parent.glob(f".{path.name}.*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_save_that_is_killed_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    assert any(kill_in_the_middle_of_a_save(path) for _ in range(5)), "no kill hit a save"
    training = load_checkpoint(path).training
    assert training["epoch"] >= 1
    assert training["bulk"].unique().tolist() == [training["epoch"]]
    save_checkpoint(path, example())
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"], "what the killed save left is cleared away"


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path: Path, seed: int) -> None:
    """PyTorch writes a checksum of every member and compares none: such files loaded, with another weight."""
    path = tmp_path / "best.pth"
    save_checkpoint(path, example())
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        weights = [member for member in file.infolist() if "/data/" in member.filename and member.file_size > 64]
    member = weights[seed % len(weights)]
    # The member's values begin behind its local header, whose padding aligns them to 64 bytes.
    names = int.from_bytes(content[member.header_offset + 26 : member.header_offset + 28], "little")
    extra = int.from_bytes(content[member.header_offset + 28 : member.header_offset + 30], "little")
    place = member.header_offset + 30 + names + extra + seed
    content[place] ^= 1 << (seed % 8)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: the checksum of .*/data/\d+ is wrong"):
        load_checkpoint(path)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ctsr.checkpoint import save_checkpoint
from tests.made.model import example

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint(Path(sys.argv[1]), example(1))
except OSError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a process's files")
def test_a_disk_that_refuses_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pth", example())
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "last.pth")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]
    assert_same(load_checkpoint(tmp_path / "last.pth").weights, example().weights)
