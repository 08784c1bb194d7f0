import hashlib
import os
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ctsr.checkpoint import load_model, save_checkpoint, unusual
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError, MissingInputError
from ctsr.exams import only_series
from ctsr.models import Architecture
from tests.made.ct import chest, save_series
from tests.made.model import META, example
from tests.models.foreign import basicsr_forward, basicsr_state, user_forward, user_state


def image() -> Tensor:
    return torch.rand(1, 1, 10, 14, generator=torch.Generator().manual_seed(3)) * 2 - 1


def output_of(path: Path, *, use_ema: bool = True) -> Tensor:
    with torch.inference_mode():
        return load_model(path, use_ema=use_ema).net(image())


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", [None, "model"])
def test_files_from_before_ctsr_load(tmp_path: Path, scale: int, key: str | None, legacy: bool) -> None:
    state = OrderedDict(user_state(scale))
    earlier_meta = {"degradation": "blurnoise", "scale": scale}
    content = state if key is None else {key: state, "epoch": 7, "best": np.float64(0.25), "meta": earlier_meta}
    torch.save(content, tmp_path / "best.pth", _use_new_zipfile_serialization=not legacy)
    generator = load_model(tmp_path / "best.pth")
    assert (generator.architecture.name, generator.architecture.scale) == ("rrdb", scale)
    assert generator.meta is None
    assert_close(output_of(tmp_path / "best.pth"), user_forward(state, image()))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("key", ["params_ema", "params"])
def test_basicsr_files_load(tmp_path: Path, scale: int, key: str) -> None:
    state = basicsr_state(scale)
    torch.save({key: state}, tmp_path / "net_g.pth")
    colour = ((image() + 1) / 2).expand(-1, 3, -1, -1)
    assert_close(output_of(tmp_path / "net_g.pth"), basicsr_forward(state, colour).mean(1, keepdim=True) * 2 - 1)


def test_averaged_weights_are_used_unless_the_live_ones_are_asked_for(tmp_path: Path) -> None:
    saved = example()
    save_checkpoint(tmp_path / "best.pth", saved)
    assert saved.ema is not None
    assert_close(output_of(tmp_path / "best.pth"), user_forward(dict(saved.ema), image()))
    assert_close(output_of(tmp_path / "best.pth", use_ema=False), user_forward(dict(saved.weights), image()))


def test_basicsrs_averaged_weights_win_over_its_live_ones(tmp_path: Path) -> None:
    averaged, live = basicsr_state(4, channels=1, seed=1), basicsr_state(4, channels=1, seed=2)
    torch.save({"params": live, "params_ema": averaged}, tmp_path / "net_g.pth")
    grey = (image() + 1) / 2
    assert_close(output_of(tmp_path / "net_g.pth"), basicsr_forward(averaged, grey) * 2 - 1)
    assert_close(output_of(tmp_path / "net_g.pth", use_ema=False), basicsr_forward(live, grey) * 2 - 1)


def test_where_a_file_has_no_average_its_live_weights_are_used(tmp_path: Path) -> None:
    saved = example()
    torch.save({"model": dict(saved.weights), "ema": None, "meta": META.to_plain()}, tmp_path / "best.pth")
    assert_close(output_of(tmp_path / "best.pth"), user_forward(dict(saved.weights), image()))


def test_a_generator_tells_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, example())
    generator = load_model(path)
    assert generator.meta == META
    assert generator.path == path
    assert generator.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not generator.net.training


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "old plain pickle"])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "ran", tmp_path / "best.pth"
    content = {"model": user_state(2), "meta": Payload(trace)}
    if "pickle" in form:
        path.write_bytes(pickle.dumps(content["meta"], protocol=2 if "old" in form else 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="needs code to load"):
        load_model(path)
    assert not trace.exists()
    if "pickle" in form:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists(), "the file was harmless: this test proved nothing"


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(1, 1, 3), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"needs code to load \(torch\.nn\.modules\.conv\.Conv2d\)"):
        load_model(tmp_path / "net.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, share: float, legacy: bool) -> None:
    path = tmp_path / "best.pth"
    torch.save({"model": user_state(2)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"best\.pth cannot be read as a checkpoint"):
        load_model(path)


@pytest.mark.parametrize("content", [b"hello world\n", b"PK\x03\x04 not really", bytes(range(256)) * 40])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_model(tmp_path / "best.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, {"model": {}}, {"model": {"lr": 0.1}}, {}])
def test_a_file_without_weights_is_refused_by_what_it_holds(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"best\.pth.*holds no weights.*found"):
        load_model(tmp_path / "best.pth")


def test_a_list_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match="but a list"):
        load_model(tmp_path / "best.pth")


def test_weights_that_fit_no_network_are_refused_with_the_files_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: no known network has these weights"):
        load_model(tmp_path / "other.pth")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.pth"):
        load_model(tmp_path / "gone.pth")


@pytest.mark.parametrize(
    "change",
    [
        {"blur_kernel": 10**9 + 1},
        {"noise_sigma_range": ["a", "b"]},
        {"noise_sigma_range": [0.0, float("nan")]},
        {"noise_model": ["pink"]},
        {"scale": 3},
    ],
)
def test_a_degradation_in_the_meta_that_none_can_be_is_refused_when_loaded(
    tmp_path: Path, change: dict[str, object]
) -> None:
    checkpoint = example()
    meta = replace(checkpoint.meta, degradation=Degradation().as_dict() | change)
    save_checkpoint(tmp_path / "m.pth", replace(checkpoint, meta=meta))
    with pytest.raises(CheckpointError, match=r"m\.pth: its meta is incomplete or malformed"):
        load_model(tmp_path / "m.pth")


def test_our_checkpoint_with_a_damaged_meta_is_not_taken_for_another_program_s(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", example())
    container = torch.load(tmp_path / "m.pth", weights_only=True)
    torch.save(container | {"meta": 5}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="its meta is damaged or missing"):
        load_model(tmp_path / "m.pth")


def test_weights_without_values_are_refused(tmp_path: Path) -> None:
    state = {name: value.to("meta") for name, value in example().weights.items()}
    torch.save({"model": state}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="not plain numbers"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("conditional", "spacing", "warned"),
    [
        (True, 0.7, False),  # as the training images are
        (True, 1.6, False),  # as the LR made of them is
        (True, 0.3, True),
        (True, 2.5, True),
        (False, 0.7, True),
        (False, 1.6, False),
    ],
)
def test_pixel_spacing_is_warned_about_where_the_model_does_not_know_it(
    tmp_path: Path, conditional: bool, spacing: float, warned: bool
) -> None:
    save_series(tmp_path, [chest()], spacing=(spacing, spacing))
    meta = replace(META, architecture=Architecture("edsr", 2, nf=4, nb=1, gc=0, conditional=conditional))
    found = [line for line in unusual(only_series(tmp_path), meta) if line.startswith("pixel spacing")]
    assert bool(found) is warned
    assert all("compare the result with bicubic interpolation" in line for line in found)


@pytest.mark.parametrize(
    ("trained", "kernel", "said"),
    [
        ({"B30f": 9}, "B70f", "reconstruction kernel B70f: the model was trained on B30f;"),
        ({"B30f": 9}, "", "reconstruction kernel not named: the model was trained on B30f;"),
        (
            {"unknown": 9},
            "B30f",
            "reconstruction kernel B30f: the model was trained on series that do not name theirs;",
        ),
        ({"unknown": 9, "B30f": 1}, "", ""),
        ({"B30f": 9}, "B30f", ""),
    ],
)
def test_a_kernel_that_is_not_named_is_no_kernel_called_unknown(
    tmp_path: Path, trained: dict[str, int], kernel: str, said: str
) -> None:
    save_series(tmp_path, [chest()], ConvolutionKernel=kernel)
    meta = replace(META, card=replace(META.card, kernels=trained))
    found = [line for line in unusual(only_series(tmp_path), meta) if line.startswith("reconstruction kernel")]
    assert len(found) == bool(said)
    assert all(line.startswith(said) for line in found)
