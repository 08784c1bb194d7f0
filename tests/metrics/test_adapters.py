"""LPIPS, NIQE and MA of the real packages: the numbers of our own, nothing downloaded, reasons for exceptions.

`make test-pyiqa` runs this in an environment with `pyiqa`, `lpips` and `torchvision`.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from ctsr.metrics.lpips_niqe import TOO_FLAT, TOO_SMALL
from ctsr.metrics.perceptual import BackendChoice, LpipsTrunk, PerceptualMetric, choose_metric
from ctsr.weights import load_weights
from tests.golden.quality_images import DISTORTIONS, distorted, original
from tests.needs import needs_pyiqa, needs_weights

SIDE = 288
"""Pixels that are looked at: nine of NIQE's blocks."""


@pytest.fixture(scope="module")
def cache() -> Path:
    """The folder of fetched weights."""
    needs_pyiqa()
    return needs_weights("alexnet", "lpips-alex", "vgg16", "lpips-vgg", "niqe")


@pytest.fixture(autouse=True)
def hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PyTorch's cache folder, which is empty; and every connection is refused."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


def batch(*names: str) -> Tensor:
    return torch.stack([torch.from_numpy(distorted(name)[:SIDE, :SIDE])[None].double() / 255 for name in names])


def numbers(chosen: PerceptualMetric) -> list[float | None]:
    assert chosen.backend != "none", chosen.reason
    return [one.value for one in chosen.function(batch(*DISTORTIONS), batch("original"))]


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("backend", ["pyiqa", "lpips"])
def test_lpips_agrees_with_our_own(backend: BackendChoice, net: LpipsTrunk, cache: Path) -> None:
    ours, theirs = (choose_metric("LPIPS", one, net, cache) for one in ("builtin", backend))
    assert theirs.backend == backend
    assert theirs.version[0].isdigit()
    assert numbers(theirs) == pytest.approx(numbers(ours), abs=1e-5)


def test_niqe_agrees_with_our_own(cache: Path) -> None:
    ours, theirs = (choose_metric("NIQE", one, cache=cache) for one in ("builtin", "pyiqa"))
    assert numbers(theirs) == pytest.approx(numbers(ours), abs=1e-4)


def test_auto_goes_to_pyiqa_and_then_to_lpips_by_what_pytorch_has_cached(
    hub: Path, cache: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    assert [choose_metric(name, cache=empty).backend for name in ("LPIPS", "NIQE")] == ["none", "none"]
    put(hub / "checkpoints" / "alexnet-owt-7be5be79.pth", load_weights("alexnet", cache))
    assert choose_metric("LPIPS", cache=empty).backend == "lpips"
    heads = {
        f"{key}.model.1.weight": value.view(1, -1, 1, 1) for key, value in load_weights("lpips-alex", cache).items()
    }
    put(hub / "pyiqa" / "LPIPS_v0.1_alex-df73285e.pth", heads)
    model = load_weights("niqe", cache)
    parameters = {"mu_prisparam": model["mean"].numpy()[None], "cov_prisparam": model["covariance"].numpy()}
    savemat(hub / "pyiqa" / "niqe_modelparameters.mat", parameters)
    for name in ("LPIPS", "NIQE"):
        found = choose_metric(name, cache=empty)
        assert found.backend == "pyiqa"
        assert numbers(found) == pytest.approx(numbers(choose_metric(name, "builtin", cache=cache)), abs=1e-4)


def put(path: Path, state: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True)
    torch.save(state, path)


def test_niqe_of_images_with_little_or_no_texture_is_that_of_our_own(cache: Path) -> None:
    ours, theirs = (choose_metric("NIQE", one, cache=cache).function for one in ("builtin", "pyiqa"))
    flat = torch.full((1, 1, 200, 200), 0.5)
    stripes = torch.arange(200).remainder(2).double().expand(1, 1, 200, 200)
    one_textured_block = torch.zeros(1, 1, 200, 200)
    one_textured_block[..., :96, :96] = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    assert theirs(flat, flat)[0].reason == TOO_FLAT
    assert theirs(flat[..., :95], flat)[0].reason == TOO_SMALL
    assert theirs(flat * torch.nan, flat)[0].reason == "not finite"
    for image in (one_textured_block, flat, stripes):
        (own,), (its,) = ours(image, image), theirs(image, image)
        assert own.reason == its.reason
        assert its.value == pytest.approx(own.value, abs=1e-3)


def test_ma_without_its_file_says_how_to_get_it(hub: Path, cache: Path) -> None:
    chosen = choose_metric("MA", cache=cache)
    assert chosen.backend == "none"
    assert f"NRQM_model.mat is not in {hub / 'pyiqa'}" in chosen.reason
    assert "pyiqa.create_metric('nrqm')" in chosen.reason


def test_ma_is_what_pyiqa_says_of_the_picture_as_a_file(hub: Path, cache: Path, tmp_path: Path) -> None:
    """The forest is ours: its third tree tells an image on 0 … 255 from one that was scaled once too often."""
    from PIL import Image as Pillow
    from pyiqa import create_metric

    file = hub / "pyiqa" / "NRQM_model.mat"
    file.parent.mkdir(parents=True)
    savemat(file, {"model": forest()})
    chosen = choose_metric("MA", cache=cache)
    assert chosen.backend == "pyiqa"
    grey = original()[:96, :128]
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    wanted = float(
        create_metric("nrqm", device=torch.device("cpu"), pretrained_model_path=str(file))(str(tmp_path / "grey.png"))
    )
    image = torch.from_numpy(grey.copy())[None, None].double() / 255
    assert chosen.function(image, image)[0].value == pytest.approx(wanted, abs=1e-4)
    assert wanted == pytest.approx(8)
    assert [chosen.function(one, one)[0].reason for one in (image * 0, image[..., :63])] == [
        "uniform",
        "smaller than 64×64",
    ]


def forest() -> "np.ndarray[Any, Any]":
    """Three trees of one question each, in the layout of `NRQM_model.mat`; only the last one counts."""
    names = ("left", "right", "unused", "unused2", "threshold", "answer", "feature")
    columns = ([2, 0, 0], [3, 0, 0], [0], [0], [2.0, 0, 0], [0, 4.0, 8.0], [1, 0, 0])
    tree = np.zeros((1, 1), dtype=[(name, object) for name in names])
    for name, column in zip(names, columns, strict=True):
        tree[name][0, 0] = np.array(column)[:, None]
    trees = np.empty((1, 3), dtype=object)
    trees[0] = [tree, tree, tree]
    model = np.zeros((1, 1), dtype=[("linear", object), ("rf", object)])
    model["linear"][0, 0], model["rf"][0, 0] = np.array([[0.0], [0.0], [0.0], [1.0]]), trees
    return model
