"""A model's INT8 twin: what was trained is what runs, it is kept beside its model, and only where it is as good."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctsr.checkpoint import Generator, load_generator
from ctsr.checkpoint.bundled import BUNDLED, check_own_folder
from ctsr.checkpoint.int8 import Int8Twin, TwinNotes, int8_beside, read_int8, save_int8
from ctsr.cli.main import main
from ctsr.errors import CheckpointError, DomainError, UsageError
from ctsr.exams import scan
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer.calibration import trial_pairs
from ctsr.infer.choose import AskedFor, choose_engine, open_engine
from ctsr.infer.int8 import debias, set_ranges
from ctsr.infer.openvino_engine import OpenvinoEngine, converted
from ctsr.infer.private import import_openvino
from ctsr.models import Architecture, build
from ctsr.models.rounded import LEVELS, MOST_WEIGHT, RoundedConv, Rounding, rounded, rounded_like, roundings
from tests.infer.test_int8 import trial
from tests.made.exams import NAMES, save_patients
from tests.made.listener import Listener
from tests.made.model import save_model
from tests.needs import needs

FAMILIES = ["edsr", "plain", "rrdb", "rrdb_skip", "real_esrgan"]


@pytest.fixture(autouse=True)
def _fast() -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(Architecture(name, 2, nf=8, nb=1, gc=4)).eval()


def images() -> list[Tensor]:
    return [pair.lr for pair in trial(seed=20)]


def twin_of(net: nn.Module) -> nn.Module:
    twin = rounded(net)
    set_ranges(twin, images())
    return twin


def rounded_convs(net: nn.Module) -> list[RoundedConv]:
    return [one for one in net.modules() if isinstance(one, RoundedConv)]


def shift_last(net: nn.Module, by: float) -> None:
    *_, last = (one for one in net.modules() if isinstance(one, nn.Conv2d))
    assert last.bias is not None
    last.bias.data += by


def notes(generator: Generator) -> TwinNotes:
    return TwinNotes(generator.sha256, ("anna",), 0, 0.01, 0.1, 4)


def keep_twin(path: Path, twin: nn.Module | None = None) -> Generator:
    generator = load_generator(path)
    save_int8(int8_beside(path), Int8Twin(twin or twin_of(generator.net), notes(generator)))
    return generator


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_computes_what_was_rounded_in_pytorch(name: str, tmp_path: Path) -> None:
    twin = twin_of(network(name))
    (lr, *_) = images()
    with torch.inference_mode():
        expected = twin(lr)
    answer = OpenvinoEngine(converted(twin, tmp_path), "int8")(lr)
    # A sum that lies between two levels may go to either side; what it was rounded by is far more than that.
    hu = (answer - expected) * DEFAULT_RANGE.hu_per_unit
    assert float(hu.abs().mean()) < 0.05
    assert float(hu.abs().max()) < 3
    assert abs(float(hu.mean())) < 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_of_the_trunk_is_rounded_and_no_other(name: str) -> None:
    net = network(name)
    found = {name for name, one in rounded(net).named_modules() if isinstance(one, RoundedConv)}
    convs = {name for name, one in net.named_modules() if isinstance(one, nn.Conv2d)}
    assert found == {name for name in convs if name.split(".")[0] in {"trunk", "RRDB_trunk", "body"}}
    assert 0 < len(found) < len(convs)


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_runs_the_trunk_in_integers(name: str, tmp_path: Path) -> None:
    twin = twin_of(network(name))
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(converted(twin, tmp_path))
    model.reshape([1, 1, 32, 32])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    convs = [
        str(node["runtimePrecision"].astype(str)) for node in nodes if node["layerType"].astype(str) == "Convolution"
    ]
    assert sum("8" in one for one in convs) == len(rounded_convs(twin))


def test_levels_hold_zero_and_the_whole_range() -> None:
    one = Rounding()
    one.cover(-1.0, 3.0)
    low, zero, high, beyond = one(torch.tensor([-1.0, 0.0, 3.0, 5.0])).tolist()
    assert zero == 0
    assert (low, high) == pytest.approx((-1, 3), abs=4 / (LEVELS - 1))
    assert beyond == high
    one.cover(1.0, 2.0)
    assert float(one(torch.tensor(0.0))) == 0


def test_weights_keep_to_seven_bits_however_they_are_trained() -> None:
    conv = rounded_convs(twin_of(network("plain")))[0]
    conv.weight.data *= 3
    conv.hold()
    steps = (conv.weight.detach() / conv.weight_scale[:, None, None, None]).abs()
    assert float(steps.max()) == pytest.approx(MOST_WEIGHT)


def test_gradients_pass_roundings() -> None:
    twin = twin_of(network("edsr"))
    torch.autograd.backward(twin(images()[0]).mean())
    gradients = [one.weight.grad for one in rounded_convs(twin)]
    assert len(gradients) == 3
    assert all(one is not None and bool(one.abs().sum() > 0) for one in gradients)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mean_of_a_twin_is_that_of_its_model(name: str) -> None:
    net = network(name)
    twin = twin_of(net)
    shift_last(twin, 0.01)
    debias(twin, net, images())
    with torch.inference_mode():
        shift = sum(float((twin(image) - net(image)).mean()) for image in images())
    assert shift == pytest.approx(0, abs=1e-5)


def test_scales_and_weights_survive_the_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "best.pth")
    generator = load_generator(path)
    twin = twin_of(generator.net)
    keep_twin(path, twin)
    found = read_int8(generator)
    assert found is not None
    assert found.notes == notes(generator)
    state = found.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in twin.state_dict().items())
    (lr, *_) = images()
    with torch.inference_mode():
        assert torch.equal(found.net(lr), twin(lr))
    assert all(float(one.scale) < 1 for _, one in roundings(found.net))


def test_a_model_without_a_twin_has_none(tmp_path: Path) -> None:
    assert read_int8(load_generator(save_model(tmp_path / "best.pth"))) is None


def test_the_twin_of_another_model_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "best.pth")
    keep_twin(path)
    save_model(path, seed=4)
    with pytest.raises(CheckpointError, match="made from another model"):
        read_int8(load_generator(path))


@pytest.mark.parametrize("damage", ["cut", "foreign", "misfit"])
def test_a_damaged_twin_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = save_model(tmp_path / "best.pth")
    keep_twin(path, twin_of(network("plain")) if damage == "misfit" else None)
    twin = int8_beside(path)
    if damage == "cut":
        twin.write_bytes(twin.read_bytes()[:100])
    if damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, twin)
    with pytest.raises(CheckpointError, match=r"best\.int8\.safetensors"):
        read_int8(load_generator(path))


def test_ranges_of_another_network_do_not_fit() -> None:
    with pytest.raises(DomainError, match="not those of a rounded"):
        rounded_like(Architecture("plain", 2, nf=8, nb=1, gc=0), twin_of(network("edsr")).state_dict())


def chosen(path: Path, net: nn.Module, twin: nn.Module) -> tuple[str, str]:
    """The engine that is used where a twin lies beside a model, and what was said of it; nothing is calibrated."""
    generator = replace(keep_twin(save_model(path / "best.pth", nf=4), twin), net=net)
    listener = Listener()
    spec = choose_engine(generator, AskedFor("openvino", "int8", cache=path / "cache"), trial, listener)
    assert any("best.int8.safetensors" in note for note in listener.notes)
    return open_engine(spec, generator).name, listener.notes[-1]


def test_a_twin_that_is_as_good_is_used(bilinear_net: nn.Module, tmp_path: Path) -> None:
    name, note = chosen(tmp_path, bilinear_net, twin_of(bilinear_net))
    assert name.startswith("openvino int8 twin ")
    assert "in use" in note


def test_a_twin_that_is_worse_gives_way_to_fp32_and_says_so(bilinear_net: nn.Module, tmp_path: Path) -> None:
    twin = twin_of(bilinear_net)
    shift_last(twin, 0.001)  # 1.5 HU
    name, note = chosen(tmp_path, bilinear_net, twin)
    assert name == "openvino fp32"
    assert "too much, computing in fp32" in note


def test_a_twin_is_not_checked_on_patients_it_has_learned_from(bilinear_net: nn.Module, tmp_path: Path) -> None:
    root = save_patients(tmp_path / "exams", ("anna", "bert"), slices=3, size=32)
    anna, bert = scan(root, patient_ids={"anna": "anna", "bert": "bert"}).all_series()
    path = save_model(tmp_path / "best.pth", nf=4)
    generator = replace(keep_twin(path, twin_of(bilinear_net)), net=bilinear_net)
    unseen, chosen_of_both = (trial_pairs(known, generator, None) for known in ([bert], [anna, bert]))
    assert all(one.hr.equal(other.hr) for one, other in zip(chosen_of_both, unseen, strict=True))
    # Where it knows everybody, the verdict that it was kept for holds: 0.01 dB, 0.1 HU, 4 slices.
    listener = Listener()
    asked = AskedFor("openvino", "int8", cache=tmp_path / "cache")
    choose_engine(generator, asked, lambda: trial_pairs([anna], generator, None), listener)
    assert "loses 0.010 dB" in listener.notes[-1]
    assert "on 4 slices" in listener.notes[-1]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and the exams it was trained on, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_patients(Path("preprocessed_data"), NAMES, slices=2, size=64)
    return save_model(tmp_path / "best.pth")


QUANTIZE = ["quantize", "best.pth", "--steps", "2", "--patch_size", "32", "--batch_size", "2", "--lr", "1e-6"]


def test_quantize_writes_a_twin_that_upscale_uses(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(QUANTIZE) == 0
    found = read_int8(load_generator(trained))
    assert found is not None
    assert found.notes.patients == ("anna", "bert", "cleo")
    assert found.notes.steps == 2
    assert main(["upscale", "preprocessed_data/fred", "sr", "--model_path", "best.pth", "--precision", "int8"]) == 0
    assert "openvino int8 twin" in capsys.readouterr().err
    assert main(QUANTIZE) == 2
    assert "is there already; pass --overwrite" in capsys.readouterr().err
    assert main([*QUANTIZE, "--overwrite", "--seed", "1"]) == 0
    again = read_int8(load_generator(trained))
    assert again is not None
    assert str(again.net.state_dict()) != str(found.net.state_dict())


def test_quantize_does_not_write_what_its_check_refuses(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUANTIZE, "--lr", "1"]) == 1  # leaves nothing of what was trained
    assert "not written" in capsys.readouterr().err
    assert not int8_beside(trained).exists()


def test_quantize_leaves_the_model_as_it_was(trained: Path) -> None:
    before = trained.read_bytes()
    assert main([*QUANTIZE, "--out", "elsewhere.safetensors"]) == 0
    assert trained.read_bytes() == before
    assert not int8_beside(trained).exists()
    assert Path("elsewhere.safetensors").is_file()


def test_quantize_refuses_a_patch_larger_than_every_slice(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUANTIZE, "--patch_size", "5000"]) == 2
    assert "--patch_size 5000 is larger than every slice to train on; 64 fits" in capsys.readouterr().err
    assert not int8_beside(trained).exists()


def test_quantize_never_replaces_the_model_itself(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.read_bytes()
    assert main([*QUANTIZE, "--out", "best.pth", "--overwrite"]) == 2
    assert "is the model itself" in capsys.readouterr().err
    assert trained.read_bytes() == before


@pytest.mark.usefixtures("trained")
def test_nothing_is_written_into_the_installed_package_unless_its_file_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = BUNDLED["ctsr-x2"]
    there = set(model.file.parent.iterdir())
    for words in (["quantize", model.name, *QUANTIZE[2:], "--overwrite"], ["blend", "best.pth", model.name]):
        assert main(words) == 2
        assert "name the file to write with --out" in " ".join(capsys.readouterr().err.split())
    assert set(model.file.parent.iterdir()) == there
    assert main(["export", "copy.safetensors", "--model_path", model.name]) == 0
    with pytest.raises(UsageError, match="comes with ctsr"):
        check_own_folder(model.file)
    check_own_folder(Path("copy.safetensors"))


def test_quantize_refuses_a_split_that_trains_on_who_judged_the_model(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"train": ["fred", "anna", "bert"], "val": ["dora"], "test": ["cleo", "emil"]}
    splits = {part: [{"patient_id": name} for name in names] for part, names in parts.items()}
    Path("other.json").write_text(json.dumps({"splits": splits}), encoding="utf-8")
    assert main([*QUANTIZE, "--split_json", "other.json"]) == 1
    assert "was not trained on fred" in capsys.readouterr().err
    assert not int8_beside(trained).exists()
