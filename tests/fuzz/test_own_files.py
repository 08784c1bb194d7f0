"""Mutants of files of ours are read, or refused in one line; damaged weights are never read as whole."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from safetensors.torch import load_file

from ctsr.checkpoint import load_checkpoint, load_model, save_checkpoint
from ctsr.checkpoint.files import save_packed
from ctsr.cli.exams import Scan
from ctsr.cli.flags import config_flags
from ctsr.data.split import read_split
from ctsr.errors import CtsrError
from ctsr.evaluate.output_folder import LOCK_FILE, LockFile
from ctsr.preprocess.manifest import MANIFEST, Manifest, read_log
from tests.fuzz.mutants import MUTANTS, Outcome, Tally
from tests.made.model import META, example

COUNT = int(os.environ.get("CTSR_FUZZ", "60")) // 2
"""Mutants of each seed."""
EXAMPLE = example()
WEIGHTS = {name: value.numpy() for name, value in EXAMPLE.weights.items()}
SPLIT = {
    "meta": {},
    "splits": {name: [{"patient_id": f"{name}{i}"} for i in range(2)] for name in ("train", "val", "test")},
}
ENTRY = {"output": "P1pp/IM1", "owner": "P1\n1.2", "made_from": "ab" * 16, "size": 1234}
LOG = [{"patient_id": "P1", "series_uid": "1.2", "num_slices": 3, "skipped": False, "orig_row_mm": 0.7, "source": "P1"}]
LOCK = {"fingerprint": "ab", "host": "here", "pid": 1, "started": 1.5}
CONFIG = b"hu_offset: -1024\nquality: true\njson: out.json\n"
HOSTILE: tuple[bytes, ...] = (
    *(b"null", b"[]", b"{}", b"-1", b"1e999", b"NaN", b'"x"', b"true", b"9" * 5000),
    *(b"[" * 50_000, b'{"a":' * 50_000, b'"' + b"\\u0000" * 9 + b'"'),
)


def same_weights(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)


def read_checkpoint(path: Path) -> bool:
    """Whether what was read is what was written: its ZIP has checksums."""
    found = load_checkpoint(path)
    load_model(path)
    return same_weights({name: value.numpy() for name, value in found.weights.items()}, WEIGHTS)


def read_packed_model(path: Path) -> bool:
    """Whether what was read is what the file says: safetensors has no checksums."""
    found = {name: value.numpy() for name, value in load_model(path).net.state_dict().items()}
    return same_weights(found, {name: value.numpy() for name, value in load_file(path).items()})


def read_manifest(path: Path) -> bool:
    target = path.parent / "out" / MANIFEST
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    with Manifest(path.parent / "out") as manifest:
        return all(isinstance(output, str) for output in manifest.outputs_of(ENTRY["owner"]))


def read_lock(path: Path) -> bool:
    path.replace(path.parent / LOCK_FILE)
    found = LockFile.read(path.parent)
    return found is None or not found.is_held(path.parent) or found.pid != os.getpid()


def reads(read: Callable[[Path], object]) -> Callable[[Path], bool]:
    def reader(path: Path) -> bool:
        read(path)
        return True

    return reader


READERS: dict[str, Callable[[Path], bool]] = {
    "best.pth": read_checkpoint,
    "model.safetensors": read_packed_model,
    "split.json": reads(read_split),
    "preprocess.jsonl": read_manifest,
    "preprocessing_log.json": reads(lambda path: read_log(path.parent)),
    "lock.json": read_lock,
    "config.yaml": reads(lambda path: config_flags(path, Scan)),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    save_checkpoint(folder / "best.pth", EXAMPLE)
    save_packed(folder / "model.safetensors", META, EXAMPLE.weights)
    documents = {"split.json": SPLIT, "preprocess.jsonl": ENTRY, "preprocessing_log.json": LOG, "lock.json": LOCK}
    found = {name: (folder / name).read_bytes() for name in ("best.pth", "model.safetensors")}
    found |= {name: json.dumps(document).encode() for name, document in documents.items()}
    return {**found, "config.yaml": CONFIG}


def mutant(content: bytes, rng: Generator) -> bytes:
    """A changed copy of a file."""
    start = int(rng.integers(len(content)))
    match int(rng.integers(6)):
        case 0 | 1:
            changed = bytearray(content)
            # Half of the places in the first 2,000 bytes: a header.
            near = min(len(content), 2000) if rng.random() < 0.5 else len(content)
            for place in rng.integers(near, size=int(rng.integers(1, 4))):
                changed[place] ^= 1 << int(rng.integers(8))
            return bytes(changed)
        case 2:
            return content[:start]
        case 3:
            return content[:start] + content[start // 2 :]
        case 4:
            # In the place of a value: from one of JSON's marks to the next.
            begin = content.find(b":", start) + 1 or start
            end = min((at for mark in b",}]\n" if (at := content.find(mark, begin)) >= 0), default=len(content))
            return content[:begin] + HOSTILE[int(rng.integers(len(HOSTILE)))] + content[end:]
        case _:
            encoding = ("utf-16", "utf-8-sig", "utf-32", "cp037")[int(rng.integers(4))]
            return content.decode("latin-1").encode(encoding, "replace")


def outcome(read: Callable[[Path], bool], path: Path) -> tuple[Outcome, str]:
    """Read a mutant, and judge it by what `read` says; what is no error of ours fails the test as it is."""
    try:
        return (Outcome.RIGHT, "") if read(path) else (Outcome.WRONG, "read as whole")
    except CtsrError as error:
        return (Outcome.NAMED, "") if "\n" not in str(error) else (Outcome.TRACEBACK, str(error))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_mutant_of_a_file_of_ours_is_read_or_refused_in_words(
    name: str, seeds: dict[str, bytes], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally(name)
    for number in range(COUNT):
        path = tmp_path / name
        path.write_bytes(mutant(seeds[name], np.random.default_rng([number, len(name)])))
        tally.judge(number, partial(outcome, READERS[name], path))
    record_property(MUTANTS, str(tally))
    assert tally.counts.total() == COUNT


@pytest.mark.parametrize("name", READERS)
def test_what_mutants_are_made_from_is_read(name: str, seeds: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(seeds[name])
    assert READERS[name](tmp_path / name)
