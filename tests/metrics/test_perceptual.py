"""The chooser of perceptual backends without the packages; `tests/metrics/test_adapters.py` has it with them."""

from pathlib import Path

import pytest
import torch

from ctsr import __version__
from ctsr.metrics import perceptual
from ctsr.metrics.lpips_niqe import LPIPS, NIQE
from ctsr.metrics.perceptual import BackendChoice, PerceptualName, choose_metric
from tests.needs import needs_weights


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "version_of", lambda package: None)


@pytest.mark.usefixtures("no_packages")
def test_auto_is_this_package_where_its_weights_were_fetched() -> None:
    cache = needs_weights("alexnet", "lpips-alex", "niqe")
    lpips, niqe = choose_metric("LPIPS", cache=cache), choose_metric("NIQE", cache=cache)
    assert isinstance(lpips.function, LPIPS)
    assert isinstance(niqe.function, NIQE)
    assert [(one.backend, one.version, one.reason) for one in (lpips, niqe)] == [("builtin", __version__, "")] * 2


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize(
    ("name", "backend", "reason"),
    [
        ("LPIPS", "auto", "weights not fetched (ctsr weights fetch vgg16 lpips-vgg)"),
        ("LPIPS", "builtin", "weights not fetched (ctsr weights fetch vgg16 lpips-vgg)"),
        ("LPIPS", "lpips", "lpips is not installed (pip install '.[pyiqa]' in the source folder of ctsr)"),
        ("NIQE", "auto", "weights not fetched (ctsr weights fetch niqe)"),
        ("NIQE", "pyiqa", "pyiqa is not installed (pip install '.[pyiqa]' in the source folder of ctsr)"),
        ("NIQE", "lpips", "lpips has no NIQE, builtin and pyiqa would"),
        ("MA", "auto", "pyiqa is not installed (pip install '.[pyiqa]' in the source folder of ctsr)"),
        ("MA", "builtin", "builtin has no MA, pyiqa would"),
    ],
)
def test_what_nobody_can_compute_has_a_reason_that_says_what_to_do(
    name: PerceptualName, backend: BackendChoice, reason: str, tmp_path: Path
) -> None:
    chosen = choose_metric(name, backend, "vgg", tmp_path)
    assert (chosen.backend, chosen.version, chosen.reason) == ("none", "", reason)
    image = torch.zeros(2, 1, 128, 128)
    assert [(one.value, one.reason) for one in chosen.function(image, image)] == [(None, reason)] * 2


def test_a_package_whose_import_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lpips.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(perceptual, "version_of", lambda package: "1.0")
    found = choose_metric("LPIPS", "lpips", cache=tmp_path)
    assert found.backend == "none"
    assert found.reason.startswith("lpips is installed, but its import fails: ")
    assert "torchvision::nms" in found.reason
