"""Quantized models: what was trained is what runs, it lies beside its model, and only if it is as good."""

import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctsr.checkpoint import Model, load_model
from ctsr.checkpoint.model_lookup import BUNDLED, check_own_folder
from ctsr.cli.main import main
from ctsr.errors import CheckpointError, DomainError, UsageError
from ctsr.exams import scan
from ctsr.hashing import pseudonym
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import EngineRequest, choose_engine, open_engine
from ctsr.infer.engine import OpenvinoEngine, converted, openvino_core
from ctsr.models import Architecture, build
from ctsr.quantization.calibration import (
    MAX_WEIGHT_STEP,
    NUM_LEVELS,
    ExamSlices,
    FakeQuantize,
    QuantizedConv2d,
    build_quantized,
    calibrate_ranges,
    correct_bias,
    fake_quantized,
    input_quantizers,
)
from ctsr.quantization.quantized_model import (
    Int8Network,
    QuantizationRecord,
    QuantizedModel,
    load_quantized,
    quantized_path,
    save_quantized,
)
from tests.made.exams import NAMES, save_patient, save_patients
from tests.made.listener import Listener
from tests.made.model import save_model
from tests.needs import needs
from tests.quantization.test_calibration import check, sample_pairs

FAMILIES = ["edsr", "plain", "rrdb", "rrdb_skip", "real_esrgan"]


@pytest.fixture(autouse=True)
def _fast() -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(Architecture(name, 2, nf=8, nb=1, gc=4)).eval()


def images() -> list[Tensor]:
    return [pair.lr for pair in sample_pairs(seed=20)]


def calibrated_ranges_of(net: nn.Module) -> nn.Module:
    quantized = fake_quantized(net)
    calibrate_ranges(quantized, images())
    return quantized


def quantized_convs(net: nn.Module) -> list[QuantizedConv2d]:
    return [one for one in net.modules() if isinstance(one, QuantizedConv2d)]


def shift_last(net: nn.Module, by: float) -> None:
    *_, last = (one for one in net.modules() if isinstance(one, nn.Conv2d))
    assert last.bias is not None
    last.bias.data += by


def record(generator: Model) -> QuantizationRecord:
    return QuantizationRecord(generator.sha256, ("anna",), 0, 0.01, 0.1, 4)


@dataclass(frozen=True)
class Recorder:
    """An engine that keeps its inputs."""

    seen: list[Tensor]
    name = "recorder"

    def __call__(self, lr: Tensor) -> Tensor:
        self.seen.append(lr)
        return nn.functional.interpolate(lr, scale_factor=2.0)


def save_beside(path: Path, quantized: nn.Module | None = None) -> Model:
    generator = load_model(path)
    save_quantized(
        quantized_path(path), QuantizedModel(quantized or calibrated_ranges_of(generator.net), record(generator))
    )
    return generator


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_computes_what_fake_quantization_computes(name: str, tmp_path: Path) -> None:
    quantized = calibrated_ranges_of(network(name))
    (lr, *_) = images()
    with torch.inference_mode():
        expected = quantized(lr)
    answer = OpenvinoEngine(converted(quantized, tmp_path), "int8")(lr)
    # A sum that lies between two levels may go to either side; what it was rounded by is far more than that.
    hu = (answer - expected) * DEFAULT_RANGE.hu_per_unit
    assert float(hu.abs().mean()) < 0.05
    assert float(hu.abs().max()) < 3
    assert abs(float(hu.mean())) < 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_of_the_trunk_is_quantized_and_no_other(name: str) -> None:
    net = network(name)
    found = {name for name, one in fake_quantized(net).named_modules() if isinstance(one, QuantizedConv2d)}
    convs = {name for name, one in net.named_modules() if isinstance(one, nn.Conv2d)}
    assert found == {name for name in convs if name.split(".")[0] in {"trunk", "RRDB_trunk", "body"}}
    assert 0 < len(found) < len(convs)


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_runs_the_trunk_in_integers(name: str, tmp_path: Path) -> None:
    quantized = calibrated_ranges_of(network(name))
    core = openvino_core()
    model = core.read_model(converted(quantized, tmp_path))
    model.reshape([1, 1, 32, 32])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    convs = [
        str(node["runtimePrecision"].astype(str)) for node in nodes if node["layerType"].astype(str) == "Convolution"
    ]
    assert sum("8" in one for one in convs) == len(quantized_convs(quantized))


def test_levels_hold_zero_and_the_whole_range() -> None:
    one = FakeQuantize()
    one.set_range(-1.0, 3.0)
    low, zero, high, beyond = one(torch.tensor([-1.0, 0.0, 3.0, 5.0])).tolist()
    assert zero == 0
    assert (low, high) == pytest.approx((-1, 3), abs=4 / (NUM_LEVELS - 1))
    assert beyond == high
    one.set_range(1.0, 2.0)
    assert float(one(torch.tensor(0.0))) == 0


def test_weights_keep_to_seven_bits_however_they_are_trained() -> None:
    conv = quantized_convs(calibrated_ranges_of(network("plain")))[0]
    conv.weight.data *= 3
    conv.clamp_weights()
    steps = (conv.weight.detach() / conv.weight_scale[:, None, None, None]).abs()
    assert float(steps.max()) == pytest.approx(MAX_WEIGHT_STEP)


def test_gradients_pass_quantizers() -> None:
    quantized = calibrated_ranges_of(network("edsr"))
    torch.autograd.backward(quantized(images()[0]).mean())
    gradients = [one.weight.grad for one in quantized_convs(quantized)]
    assert len(gradients) == 3
    assert all(one is not None and bool(one.abs().sum() > 0) for one in gradients)


@pytest.mark.parametrize("name", FAMILIES)
def test_bias_correction_gives_the_quantized_network_the_mean_of_its_model(name: str) -> None:
    net = network(name)
    quantized = calibrated_ranges_of(net)
    shift_last(quantized, 0.01)
    correct_bias(quantized, net, images())
    with torch.inference_mode():
        shift = sum(float((quantized(image) - net(image)).mean()) for image in images())
    assert shift == pytest.approx(0, abs=1e-5)


def test_scales_and_weights_survive_the_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "best.pth")
    generator = load_model(path)
    quantized = calibrated_ranges_of(generator.net)
    save_beside(path, quantized)
    found = load_quantized(generator)
    assert found is not None
    assert found.record == record(generator)
    state = found.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in quantized.state_dict().items())
    (lr, *_) = images()
    with torch.inference_mode():
        assert torch.equal(found.net(lr), quantized(lr))
    assert all(float(one.scale) < 1 for _, one in input_quantizers(found.net))


def test_files_with_the_former_names_of_quantizers_are_read(tmp_path: Path) -> None:
    path = save_model(tmp_path / "best.pth")
    generator = save_beside(path)
    file = quantized_path(path)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    state = {key.replace(".input_quantizer.", ".entry."): value for key, value in load_file(file).items()}
    assert any(".entry." in key for key in state)
    expected = load_quantized(generator)
    save_file(state, file, metadata=header)
    found = load_quantized(generator)
    assert found is not None
    assert expected is not None
    assert str(found.net.state_dict()) == str(expected.net.state_dict())


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_a_quantized_model_that_comes_with_the_package_fits_its_model(name: str) -> None:
    quantized = load_quantized(load_model(BUNDLED[name].file))  # which refuses those of other weights
    assert quantized is None or quantized.record.acceptance.passes


def test_a_model_that_is_not_quantized_has_no_quantized_version(tmp_path: Path) -> None:
    assert load_quantized(load_model(save_model(tmp_path / "best.pth"))) is None


def test_the_quantized_version_of_another_model_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "best.pth")
    save_beside(path)
    save_model(path, seed=4)
    with pytest.raises(CheckpointError, match="made from a model other than"):
        load_quantized(load_model(path))


@pytest.mark.parametrize("damage", ["cut", "foreign", "misfit"])
def test_a_damaged_quantized_model_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = save_model(tmp_path / "best.pth")
    save_beside(path, calibrated_ranges_of(network("plain")) if damage == "misfit" else None)
    quantized = quantized_path(path)
    if damage == "cut":
        quantized.write_bytes(quantized.read_bytes()[:100])
    if damage == "foreign":
        save_file({"a": torch.zeros(1)}, quantized)
    with pytest.raises(CheckpointError, match=r"best\.int8\.safetensors"):
        load_quantized(load_model(path))


def test_ranges_of_another_network_do_not_fit() -> None:
    with pytest.raises(DomainError, match="not those of a quantized"):
        build_quantized(Architecture("plain", 2, nf=8, nb=1, gc=0), calibrated_ranges_of(network("edsr")).state_dict())


def chosen(path: Path, net: nn.Module, quantized: nn.Module) -> tuple[str, str]:
    """The engine that is used where a quantized lies beside a model, and what was said of it; nothing is calibrated."""
    generator = replace(save_beside(save_model(path / "best.pth", nf=4), quantized), net=net)
    listener = Listener()
    spec = choose_engine(
        generator, EngineRequest("openvino", "int8", cache=path / "cache", int8=Int8Network()), check, listener
    )
    assert any("best.int8.safetensors" in note for note in listener.notes)
    return open_engine(spec, generator).name, listener.notes[-1]


def test_a_quantized_model_that_is_as_good_is_used(bilinear_net: nn.Module, tmp_path: Path) -> None:
    name, note = chosen(tmp_path, bilinear_net, calibrated_ranges_of(bilinear_net))
    assert name.startswith("openvino int8 quantized ")
    assert "in use" in note


def test_a_quantized_model_that_is_worse_gives_way_to_fp32_and_says_so(bilinear_net: nn.Module, tmp_path: Path) -> None:
    quantized = calibrated_ranges_of(bilinear_net)
    shift_last(quantized, 0.001)  # 1.5 HU
    name, note = chosen(tmp_path, bilinear_net, quantized)
    assert name == "openvino fp32"
    assert "too much, computing in fp32" in note


def test_a_quantized_model_is_not_checked_on_patients_it_was_made_with(bilinear_net: nn.Module, tmp_path: Path) -> None:
    root = save_patients(tmp_path / "exams", ("anna", "bert"), slices=3, size=32)
    anna, bert = scan(root, patient_ids={"anna": "anna", "bert": "bert"}).all_series()
    path = save_model(tmp_path / "best.pth", nf=4)
    generator = replace(save_beside(path, calibrated_ranges_of(bilinear_net)), net=bilinear_net)
    int8 = Int8Network()
    seen: dict[str, list[Tensor]] = {"bert": [], "both": []}
    for name, series in (("bert", [bert]), ("both", [anna, bert])):
        engine = Recorder(seen[name])
        int8.check_on_series(generator, series)(engine, engine)
    assert len(seen["bert"]) > 0
    assert all(map(torch.equal, seen["both"], seen["bert"]))
    # All patients were used for calibration: the stored result is 0.01 dB, 0.1 HU, 4 slices.
    listener = Listener()
    asked = EngineRequest("openvino", "int8", cache=tmp_path / "cache", int8=int8)
    choose_engine(generator, asked, int8.check_on_series(generator, [anna]), listener)
    assert "loses 0.010 dB" in listener.notes[-1]
    assert "on 4 slices" in listener.notes[-1]


@pytest.mark.parametrize("how", ["quantized on", "calibrated on"])
def test_whom_it_was_made_with_is_known_by_the_headers(how: str, bilinear_net: nn.Module, tmp_path: Path) -> None:
    """The exam lies in another folder, and in smaller pixels."""
    save_patient(tmp_path / "made_with", "anna", slices=5, size=40)
    save_patient(tmp_path / "exams", "anna", slices=5, size=64, series="1.4")
    (tmp_path / "exams" / "anna").rename(tmp_path / "exams" / "aaa")
    save_patient(tmp_path / "exams", "bert", slices=5, size=64, seed=1)
    path = save_model(tmp_path / "best.pth", nf=4)
    calibration = ExamSlices.below(tmp_path / "made_with")
    if how == "quantized on":
        of_anna = replace(record(load_model(path)), patients=(), identities=tuple(calibration.identities))
        save_quantized(quantized_path(path), QuantizedModel(calibrated_ranges_of(bilinear_net), of_anna))
    int8 = Int8Network(calibration if how == "calibrated on" else None)
    seen: dict[str, list[Tensor]] = {"both": [], "bert": []}
    both = list(scan(tmp_path / "exams").all_series())
    assert [series.patient_id for series in both] == ["aaa", "bert"]
    for name, series in (("both", both), ("bert", both[1:])):
        engine = Recorder(seen[name])
        int8.check_on_series(load_model(path), series)(engine, engine)
    assert len(seen["bert"]) > 0
    assert all(map(torch.equal, seen["both"], seen["bert"]))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and the exams it was trained on, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_patients(Path("preprocessed_data"), NAMES, slices=2, size=64)
    return save_model(tmp_path / "best.pth")


QUANTIZE = ["quantize", "best.pth", "--steps", "2", "--patch_size", "32", "--batch_size", "2", "--lr", "1e-6"]


def test_quantize_writes_a_model_that_upscale_uses(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(QUANTIZE) == 0
    found = load_quantized(load_model(trained))
    assert found is not None
    assert found.record.patients == tuple(sorted(map(pseudonym, ("anna", "bert", "cleo"))))
    assert found.record.steps == 2
    assert main(["upscale", "preprocessed_data/fred", "sr", "--model_path", "best.pth", "--precision", "int8"]) == 0
    assert "openvino int8 quantized" in capsys.readouterr().err
    assert main(QUANTIZE) == 2
    assert "already exists; pass --overwrite" in capsys.readouterr().err
    assert main([*QUANTIZE, "--overwrite", "--seed", "1"]) == 0
    again = load_quantized(load_model(trained))
    assert again is not None
    assert str(again.net.state_dict()) != str(found.net.state_dict())


def test_quantize_does_not_write_what_its_check_refuses(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUANTIZE, "--lr", "1"]) == 1  # leaves nothing of what was trained
    assert "not written" in capsys.readouterr().err
    assert not quantized_path(trained).exists()


def test_quantize_leaves_the_model_as_it_was(trained: Path) -> None:
    before = trained.read_bytes()
    assert main([*QUANTIZE, "--out", "elsewhere.safetensors"]) == 0
    assert trained.read_bytes() == before
    assert not quantized_path(trained).exists()
    assert Path("elsewhere.safetensors").is_file()


def test_quantize_refuses_a_patch_larger_than_every_slice(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUANTIZE, "--patch_size", "5000"]) == 2
    assert "--patch_size 5000 is larger than every training slice; 64 fits" in capsys.readouterr().err
    assert not quantized_path(trained).exists()


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
    assert not quantized_path(trained).exists()
