"""Models that are passed on: weights, meta and card in one file that runs nothing."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ctsr.checkpoint import load_model
from ctsr.checkpoint.files import read_card, save_packed
from ctsr.errors import CheckpointError, MissingInputError
from ctsr.models import build
from tests.made.model import META

CARD = "# A model\nΣ of what is known, [with brackets] and | bars |\n"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    save_packed(path, META, build(META.architecture).state_dict(), CARD)
    return path


def test_weights_meta_and_card_come_back(packed: Path) -> None:
    torch.manual_seed(0)
    expected = build(META.architecture).state_dict()
    found = load_model(packed)
    assert found.meta is not None
    # As JSON has it, which knows no tuples.
    assert json.loads(json.dumps(found.meta.to_plain())) == json.loads(json.dumps(META.to_plain()))
    assert found.net.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.net.state_dict().items())
    assert read_card(packed) == CARD


def test_a_network_in_use_does_not_change_with_its_file(packed: Path) -> None:
    net = load_model(packed).net
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with packed.open("r+b") as file:  # as `cp` does: into the file that is there
        file.write(bytes(packed.stat().st_size))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_weights_of_others_load_without_meta(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {key: value.contiguous() for key, value in build(META.architecture).state_dict().items()}
    save_file(state, tmp_path / "bare.safetensors")
    found = load_model(tmp_path / "bare.safetensors")
    assert (found.architecture, found.meta) == (META.architecture, None)
    assert read_card(tmp_path / "bare.safetensors") == ""


@pytest.mark.parametrize("keep", [0, 5, 200, -10])
def test_a_damaged_file_is_an_error_of_one_line(packed: Path, keep: int) -> None:
    packed.write_bytes(packed.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors") as error:
        load_model(packed)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_meta_that_is_none_are_errors(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such checkpoint file"):
        load_model(tmp_path / "nowhere.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"ctsr": "{"})
    with pytest.raises(CheckpointError, match="its meta is not readable"):
        load_model(tmp_path / "odd.safetensors")


def test_a_meta_that_contradicts_the_weights_is_refused(packed: Path) -> None:
    content = packed.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["ctsr"] = header["__metadata__"]["ctsr"].replace('"nf": 8', '"nf": 9')
    altered = json.dumps(header).encode()
    packed.write_bytes(struct.pack("<Q", len(altered)) + altered + content[8 + length :])
    with pytest.raises(CheckpointError, match=r"its meta says .*nf 9"):
        load_model(packed)
