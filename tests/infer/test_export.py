"""Exported networks do what PyTorch does, at every size, and say what they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctsr.checkpoint import Model, load_model
from ctsr.checkpoint.files import read_card
from ctsr.cli.main import main
from ctsr.data.datasets import trained_on
from ctsr.data.split import choose_split
from ctsr.errors import CheckpointError, UsageError
from ctsr.infer import export as module
from ctsr.infer.engine import openvino_core
from ctsr.infer.export import META_KEY, Format, export, target
from ctsr.models import Architecture, build
from tests.made.model import save_model


@pytest.fixture
def generator(tmp_path: Path) -> Model:
    return load_model(save_model(tmp_path / "best.pth"))


def meta_in(path: Path, kind: Format) -> dict[str, object]:
    match kind:
        case "onnx":
            import onnx

            return json.loads({prop.key: prop.value for prop in onnx.load(path).metadata_props}[META_KEY])
        case "openvino":
            return json.loads(openvino_core().read_model(path).get_rt_info([META_KEY]).astype(str))
        case "torchscript":
            files = {f"{META_KEY}.json": ""}
            torch.jit.load(path, _extra_files=files)
            return json.loads(files[f"{META_KEY}.json"])


@pytest.mark.parametrize(("kind", "name"), [("onnx", "m.onnx"), ("openvino", "m.xml"), ("torchscript", "m.pt")])
def test_a_file_agrees_with_pytorch_and_carries_its_meta(
    generator: Model, tmp_path: Path, kind: Format, name: str
) -> None:
    exported = export(generator, tmp_path / "out" / name, kind)
    assert len(exported.differences_hu) == 3
    assert max(exported.differences_hu.values()) < 0.01
    meta = meta_in(exported.path, kind)
    assert (meta["scale"], meta["hu_range"]) == (2, {"low": -1000.0, "high": 2000.0})
    assert meta["model_sha256"] == generator.sha256
    assert meta["card"] is not None
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("name", ["edsr", "rrdb_skip", "plain"])
@pytest.mark.parametrize("file", [("onnx", "m.onnx"), ("openvino", "m.xml"), ("torchscript", "m.pt")])
def test_networks_with_a_skip_are_exported_for_every_size(
    generator: Model, tmp_path: Path, name: str, file: tuple[Format, str]
) -> None:
    torch.manual_seed(0)
    net = build(Architecture(name, 2, nf=4, nb=1, gc=2)).eval()
    exported = export(replace(generator, net=net), tmp_path / file[1], file[0])
    assert max(exported.differences_hu.values()) < 0.01


def test_a_model_to_pass_on_is_a_model_again_with_its_card(generator: Model, tmp_path: Path) -> None:
    exported = export(generator, tmp_path / "m.safetensors", "safetensors", card="# About\n")
    assert max(exported.differences_hu.values()) == 0
    again = load_model(exported.path)
    assert (again.scale, again.degradation) == (generator.scale, generator.degradation)
    assert read_card(exported.path) == "# About\n"
    with pytest.raises(UsageError, match="`card` goes into a safetensors file; onnx cannot hold one"):
        export(generator, tmp_path / "m.onnx", "onnx", card="# About\n")
    with pytest.raises(CheckpointError, match="does not say how it was trained"):
        export(replace(generator, meta=None), tmp_path / "n.safetensors", "safetensors")


@pytest.mark.parametrize("off", [0.01, float("nan")])
def test_a_file_that_differs_is_not_left_behind(
    generator: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    monkeypatch.setitem(module.RUNNERS, "torchscript", lambda _: lambda lr: generator.net(lr) + off)
    with pytest.raises(CheckpointError, match="differs"):
        export(generator, tmp_path / "out" / "m.pt", "torchscript")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_verb_names_the_file_by_its_format(
    generator: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model_path", str(generator.path), "--format", "torchscript"]) == 0
    assert (tmp_path / "best.pt").is_file()
    assert "17 × 31" in capsys.readouterr().out


def test_the_ending_tells_the_format_where_none_is_given() -> None:
    found = {name: target(Path(name), None, Path("best.pth")) for name in ("a.xml", "b.pt", "c.safetensors", "d.onnx")}
    assert [(str(path), kind) for path, kind in found.values()] == [
        ("a.xml", "openvino"),
        ("b.pt", "torchscript"),
        ("c.safetensors", "safetensors"),
        ("d.onnx", "onnx"),
    ]
    assert target(Path("a.xml"), "openvino", Path("best.pth")) == found["a.xml"]


def test_a_name_without_a_known_ending_gets_the_formats_whole_behind_it() -> None:
    model = Path("runs/v1.5.pth")
    assert target(Path("out/v1.5"), "torchscript", model) == (Path("out/v1.5.pt"), "torchscript")
    assert target(Path("v1.5"), None, model) == (Path("v1.5.onnx"), "onnx")
    assert target(None, "openvino", model) == (Path("v1.5.xml"), "openvino")


def test_the_verb_refuses_an_ending_of_another_format_in_one_line(
    generator: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "b.onnx"
    assert main(["export", str(out), "--model_path", str(generator.path), "--format", "openvino"]) == 2
    assert "has the ending of onnx, not of --format openvino" in " ".join(capsys.readouterr().err.split())
    assert not out.parent.exists()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_the_model_itself_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overwrite: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    by_default = save_model(tmp_path / "net.pt")
    as_weights = save_model(tmp_path / "net.bin")
    before = by_default.read_bytes()
    assert main(["export", "--model_path", "net.pt", "--format", "torchscript", *overwrite]) == 2
    assert main(["export", "net.xml", "--model_path", "net.bin", *overwrite]) == 2
    assert capsys.readouterr().err.count("is the model itself") == 2
    assert by_default.read_bytes() == as_weights.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.pt"]


@pytest.mark.parametrize(("there", "name"), [("m.pt", "m.pt"), ("m.xml", "m.xml"), ("m.bin", "m.xml")])
def test_a_file_that_is_there_is_replaced_on_demand_only(
    generator: Model, tmp_path: Path, there: str, name: str
) -> None:
    (tmp_path / there).write_bytes(b"mine")
    words = ["export", str(tmp_path / name), "--model_path", str(generator.path)]
    assert main(words) == 2
    assert (tmp_path / there).read_bytes() == b"mine"
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / there).read_bytes() != b"mine"


def test_a_model_that_is_passed_on_again_keeps_its_card_unless_another_is_given(
    generator: Model, tmp_path: Path
) -> None:
    first, again, other = (tmp_path / f"{name}.safetensors" for name in ("first", "again", "other"))
    export(generator, first, "safetensors", card="# About\n")
    assert main(["export", str(again), "--model_path", str(first)]) == 0
    assert read_card(again) == "# About\n"
    (tmp_path / "card.md").write_text("# Other\n")
    assert main(["export", str(other), "--model_path", str(first), "--card", str(tmp_path / "card.md")]) == 0
    assert read_card(other) == "# Other\n"


def test_a_model_to_pass_on_names_no_folder_and_still_knows_whom_it_was_trained_on(
    generator: Model, tmp_path: Path
) -> None:
    assert generator.meta is not None
    names = {"train": ("Mueller_Anna", "4711"), "val": ("Weber_Bert",), "test": ("Koch_Cleo",)}
    named = replace(generator.meta, split=names, also_trained_on=("Haas_Dora",))
    exported = export(replace(generator, meta=named), tmp_path / "m.safetensors", "safetensors")
    content = exported.path.read_bytes()
    for name in (*names["train"], *names["val"], *names["test"], "Haas_Dora"):
        assert name.encode() not in content
    meta = load_model(exported.path).meta
    assert meta is not None
    asked = ["4711", "Haas_Dora", "Koch_Cleo", "Mueller_Annapp", "Stranger"]
    assert trained_on(asked, meta.split, meta.also_trained_on) == [
        "4711",
        "Haas_Dora",
        "Mueller_Annapp (there called Mueller_Anna)",
    ]
    everyone = [*names["train"], *names["val"], *names["test"]]
    split, source = choose_split(everyone, checkpoint=meta.split)
    assert (source, split.as_dict()) == ("the checkpoint", {part: list(found) for part, found in names.items()})
