"""Engines give the same image as PyTorch, whichever runs, and what was asked for is used or its absence said."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ctsr import infer
from ctsr.checkpoint import Model, load_model
from ctsr.errors import UsageError
from ctsr.infer import Engine, EngineRequest, TorchEngine, choose_engine, open_engine, super_resolve
from ctsr.infer.engine import OpenvinoEngine, computes_bf16, converted, weights_hash
from ctsr.models import Architecture, build
from ctsr.quantization.acceptance import Acceptance
from tests.made.listener import Listener
from tests.made.model import save_model
from tests.needs import needs


@pytest.fixture
def generator(tmp_path: Path) -> Model:
    return load_model(save_model(tmp_path / "best.pth"))


@pytest.fixture
def openvino() -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")


def asked(tmp_path: Path, engine: str = "openvino", precision: str = "fp32") -> EngineRequest:
    return EngineRequest(engine, precision, cache=tmp_path / "cache")  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("rrdb", 2, nf=8, nb=1, gc=4),
        Architecture("rrdb", 4, nf=8, nb=1, gc=4),
        Architecture("real_esrgan", 2, nf=8, nb=1, gc=4),
        Architecture("real_esrgan", 4, nf=8, nb=1, gc=4),
    ],
    ids=str,
)
def test_openvino_agrees_with_pytorch_at_every_size(architecture: Architecture, tmp_path: Path) -> None:
    from ctsr.infer.engine import OpenvinoEngine

    torch.manual_seed(0)
    net = build(architecture).eval()
    engine = OpenvinoEngine(converted(net, tmp_path))
    for size in ((16, 16), (17, 31), (64, 40)):
        lr = torch.rand(2, 1, *size) * 2 - 1
        assert (super_resolve(engine, lr) - super_resolve(net, lr)).abs().max() * 1500 < 0.01


INTERRUPTED_AFTER_TWO_ENGINES = """
import signal, sys
from pathlib import Path
import torch
from ctsr.infer.engine import OpenvinoEngine
engines = [OpenvinoEngine(Path(sys.argv[1])) for _ in range(2)]
for engine in engines:
    engine(torch.zeros(1, 1, 8, 8))
while engines:
    del engine
    engine = engines.pop(0)
del engine
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.usefixtures("openvino")
def test_a_process_can_be_interrupted_when_its_engines_are_gone(generator: Model, tmp_path: Path) -> None:
    """A core that was freed after another left the process a stack for signals that was freed, too."""
    command = [sys.executable, "-c", INTERRUPTED_AFTER_TWO_ENGINES, str(converted(generator.net, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("damaged", ["model.bin", "model.xml"])
def test_a_conversion_that_was_damaged_is_made_again(generator: Model, tmp_path: Path, damaged: str) -> None:
    xml = converted(generator.net, tmp_path)
    file = xml.with_name(damaged)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    engine = OpenvinoEngine(converted(generator.net, tmp_path))
    assert engine(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 16, 16)


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("file", ["model.bin", "model.xml"])
def test_a_conversion_of_which_a_bit_has_changed_is_made_again(generator: Model, tmp_path: Path, file: str) -> None:
    """OpenVINO reads it as it is: a weight of another exponent, or another padding, and other HU."""
    xml = converted(generator.net, tmp_path)
    path = xml.parent / file
    content = path.read_bytes()
    if file == "model.bin":
        damaged = bytearray(content)
        damaged[403] ^= 1
        path.write_bytes(damaged)
    else:
        path.write_bytes(content.replace(b'pads_begin="1, 1"', b'pads_begin="0, 2"', 1))
    changed = path.read_bytes()
    assert changed != content
    image = torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(3)) * 2 - 1
    answer = OpenvinoEngine(converted(generator.net, tmp_path))(image)
    assert path.read_bytes() != changed
    assert torch.allclose(answer, TorchEngine(generator.net)(image), atol=1e-5)


@pytest.mark.usefixtures("openvino")
def test_a_converted_network_is_kept_by_its_weights(generator: Model, tmp_path: Path) -> None:
    first = converted(generator.net, tmp_path)
    written = first.stat().st_mtime_ns
    assert converted(generator.net, tmp_path) == first
    assert first.stat().st_mtime_ns == written
    next(generator.net.parameters()).data[0] += 1e-3
    assert converted(generator.net, tmp_path) != first


def test_networks_that_differ_in_one_weight_have_other_hashes() -> None:
    torch.manual_seed(0)
    net = build(Architecture("rrdb", 2, nf=4, nb=1, gc=2))
    before = weights_hash(net)
    assert weights_hash(net) == before
    next(net.parameters()).data.view(-1)[0] += 1e-6
    assert weights_hash(net) != before


@pytest.mark.usefixtures("openvino")
def test_auto_takes_openvino_on_a_cpu(generator: Model, tmp_path: Path) -> None:
    spec = choose_engine(generator, asked(tmp_path, "auto"), tuple)
    assert open_engine(spec, generator).name == "openvino fp32"


def test_auto_without_openvino_takes_pytorch_and_says_how_to_get_it(
    generator: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "is_installed", lambda **_: False)
    listener = Listener()
    spec = choose_engine(generator, asked(tmp_path, "auto"), tuple, listener)
    assert open_engine(spec, generator).name == "torch fp32"
    assert "'.[fast]'" in listener.notes[0]
    with pytest.raises(UsageError, match=r"'\.\[fast\]'"):
        choose_engine(generator, asked(tmp_path, "openvino"), tuple)


@pytest.mark.parametrize(("engine", "precision"), [("torch", "int8"), ("torch", "bf16"), ("openvino", "fp16")])
def test_a_precision_that_an_engine_lacks_is_wrong_usage(
    generator: Model, tmp_path: Path, engine: str, precision: str
) -> None:
    with pytest.raises(UsageError, match=precision):
        choose_engine(generator, asked(tmp_path, engine, precision), tuple)


@pytest.mark.usefixtures("openvino")
def test_bf16_computes_in_fewer_bits_where_the_processor_has_it(generator: Model, tmp_path: Path) -> None:
    listener, compared = Listener(), list[str]()

    def check(engine: Engine, fp32: Engine) -> Acceptance:
        lr = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
        apart = (super_resolve(engine, lr) - super_resolve(fp32, lr)).abs().max()
        compared.append(f"{engine.name} beside {fp32.name}")
        assert 0 < apart < 0.05
        return Acceptance(loss_db=0.0, bias_hu=0.0, num_slices=1)

    spec = choose_engine(generator, asked(tmp_path, "openvino", "bf16"), check, listener)
    if computes_bf16():
        assert compared == ["openvino bf16 beside openvino fp32"]
        assert open_engine(spec, generator).name == "openvino bf16"
    else:
        assert not compared
        assert spec.precision == "fp32"
        assert "this processor has no instructions for it" in listener.notes[-1]


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("loss_db", [0.01, 0.2])
def test_bf16_gives_way_to_fp32_where_its_check_does_not_pass(
    generator: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss_db: float
) -> None:
    monkeypatch.setattr(infer, "computes_bf16", lambda: True)
    listener = Listener()
    found = Acceptance(loss_db=loss_db, bias_hu=0.0, num_slices=3)
    spec = choose_engine(generator, asked(tmp_path, "openvino", "bf16"), lambda *_: found, listener)
    assert spec.precision == ("bf16" if loss_db < 0.05 else "fp32")
    assert ("computing in fp32" in listener.notes[-1]) == (loss_db > 0.05)
    with pytest.raises(UsageError, match="bf16 cannot be checked"):
        choose_engine(generator, asked(tmp_path, "openvino", "bf16"), None)


@pytest.mark.usefixtures("openvino")
def test_a_processor_without_bf16_computes_in_fp32(
    generator: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "computes_bf16", lambda: False)
    listener = Listener()
    spec = choose_engine(generator, asked(tmp_path, "auto", "bf16"), None, listener)
    assert (spec.engine, spec.precision) == ("openvino", "fp32")
    assert "no instructions" in listener.notes[-1]


@pytest.mark.usefixtures("openvino")
def test_what_openvino_alone_computes_is_no_matter_of_installing_it_on_a_gpu(generator: Model, tmp_path: Path) -> None:
    listener = Listener()
    spec = choose_engine(generator, replace(asked(tmp_path, "auto", "bf16"), device="cuda"), None, listener)
    assert (spec.engine, spec.precision) == ("torch", "fp32")
    assert listener.notes == [
        "bf16 needs OpenVINO, which computes on the CPU, not on cuda: choose `engine=openvino` or `device=cpu`: "
        "computing in fp32"
    ]


def test_fp16_on_a_cpu_is_wrong_usage(generator: Model, tmp_path: Path) -> None:
    spec = choose_engine(generator, asked(tmp_path, "auto", "fp16"), tuple)
    with pytest.raises(UsageError, match="GPU"):
        open_engine(spec, generator)


def test_another_process_opens_the_same_engine_from_its_spec(generator: Model, tmp_path: Path) -> None:
    spec = replace(choose_engine(generator, asked(tmp_path, "torch"), tuple), threads=torch.get_num_threads())
    lr = torch.rand(1, 1, 12, 14) * 2 - 1
    assert torch.equal(super_resolve(open_engine(spec), lr), super_resolve(TorchEngine(generator.net), lr))
