"""Real series as they are: what the viewer shows is what `ctsr upscale` writes, and so are its figures."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from torch import Tensor, nn

from ctsr.checkpoint import Model
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.exams import read_slice
from ctsr.infer import EngineRequest
from ctsr.models.interpolation import enlarge
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from ctsr.viewer import ViewOptions
from ctsr.viewer.api import answer
from ctsr.viewer.embed import snapshot
from ctsr.viewer.native import NativeImages
from ctsr.viewer.samplers import Setting, with_strength
from ctsr.viewer.session import ViewedSlice, ViewerSession, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import body, padded, save_series
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.viewer.conftest import TURN

TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def bundled() -> ModelUnderTest:
    return load_model_under_test("ctsr-x2", device="cpu")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices with noise of 20 HU, padding outside of a circle, and half HU, which no store of whole HU keeps."""
    folder = tmp_path_factory.mktemp("native") / "P1" / "s"
    rng = np.random.default_rng(0)
    halves = [2 * body(96, radius=0.8, texture=0) + np.rint(rng.normal(0, 40, (96, 96))) for _ in range(3)]
    images = [padded(np.maximum(image, -2000), -4000) + 3000 for image in halves]  # stored unsigned
    save_series(folder, images, RescaleSlope="0.5", RescaleIntercept="-2012")
    return folder


@pytest.fixture
def open_native(tmp_path: Path) -> Iterator[Any]:
    opened: list[ViewerSession] = []

    def open_native(path: Path, model: ModelUnderTest | None, **options: object) -> ViewerSession:
        chosen = ViewOptions(native=True, store=tmp_path / "store", **options)  # pyright: ignore[reportArgumentType]
        degradation = model.degradation if model else Degradation()
        opened.append(open_session(prepare(ViewRequest(path, model, degradation, chosen), Listener()), chosen))
        return opened[-1]

    yield open_native
    for session in opened:
        session.close()


def settled(session: ViewerSession, setting: Setting, index: int) -> ViewedSlice:
    """Look at a slice until it, and what is measured of the series, are there."""
    viewed = ViewedSlice(session.series[0], setting, index)
    session.view(TURN, viewed)
    deadline = time.monotonic() + TIMEOUT_S
    while not (
        session.images.is_tuned(viewed.series, setting) and session.images.has("SR", viewed.series, setting, index)
    ):
        assert time.monotonic() < deadline, "what should have happened in the background did not"
        time.sleep(0.02)
    return viewed


def shown(session: ViewerSession, viewed: ViewedSlice, panel: Any) -> np.ndarray:
    image = session.image(panel, viewed, "axial", viewed.index)
    assert image.complete
    return image.int16(session.state.hu_range)


def written(source: Path, out: Path, model: Model, **options: object) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What `ctsr upscale` makes of it: whole HU of each slice, and `tuning` of run.json."""
    settings = UpscaleOptions(**({"picture": False} | options))  # pyright: ignore[reportArgumentType]
    assert upscale(source, out, model, EngineRequest("auto"), settings, progress=Listener()).failed == 0
    made = only_series(out)
    slices = [np.rint(read_slice(made, i).hu).astype(np.int16) for i in range(len(made.slices))]
    return slices, json.loads((out / "run.json").read_text())["tuning"]


@pytest.mark.parametrize(("denoise", "sharpen"), [(0.4, 0.25), (0.7, 0.6)])
def test_sr_and_figures_are_those_of_upscale(
    noisy: Path, tmp_path: Path, bundled: ModelUnderTest, open_native: Any, denoise: float, sharpen: float
) -> None:
    session = open_native(noisy, bundled)
    changes = json.dumps({"denoise": denoise, "sharpen": sharpen}).encode()
    number = json.loads(answer(session, "setting", "", changes).body)["setting"]
    assert (number == 0) == (denoise == 0.4), "the initial strength keeps its number"
    setting = session.settings[number]
    expected, tuning = written(noisy, tmp_path / "out", bundled.model, denoise=denoise, sharpen=sharpen)
    for index in range(3):
        viewed = settled(session, setting, index)
        np.testing.assert_array_equal(shown(session, viewed, "SR"), expected[index])
    described = json.loads(answer(session, "made_with", f"series=0&setting={number}&slice=0", None).body)
    assert {name: described[name] for name in tuning} == tuning


class Louder(nn.Module):
    """Doubles what differs from a smooth image: a network that takes noise for detail."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = net

    def forward(self, x: Tensor) -> Tensor:
        smooth = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return enlarge(x + 2 * (x - smooth), 2, "bilinear")


@pytest.fixture
def louder(model: ModelUnderTest) -> ModelUnderTest:
    return replace(model, model=replace(model.model, net=Louder(model.model.net)))


def test_a_share_of_interpolation_replaces_what_was_shown_before_it_was_known(
    noisy: Path, louder: ModelUnderTest, open_native: Any
) -> None:
    session = open_native(noisy, louder, engine="torch")
    viewed = ViewedSlice(session.series[0], session.settings[0], 1)
    session.images.compute_sr(viewed.series, viewed.setting, 1, lambda: False)
    before = shown(session, viewed, "SR")
    settled(session, session.settings[0], 1)
    assert isinstance(session.images, NativeImages)
    tuning = session.images.tuning(viewed.series, viewed.setting)
    assert tuning is not None
    assert 0 < tuning.network_share < 1
    assert tuning.before_after.noise_ratio == pytest.approx(1, abs=0.01)
    after = shown(session, viewed, "SR")
    assert (before != after).mean() > 0.1
    assert any("noisier" in line for line in session.made_with(viewed)["warnings"])
    unlimited = session.settings.add(session.settings.base, with_strength(UpscaleOptions(), {"limit_noise": False}))
    np.testing.assert_array_equal(shown(session, settled(session, unlimited, 1), "SR"), before)


def test_source_and_bicubic_are_the_images_as_they_are(noisy: Path, bundled: ModelUnderTest, open_native: Any) -> None:
    session = open_native(noisy, bundled)
    assert session.state.panels == ("Source", "Bicubic", "SR")
    series = session.series[0]
    assert series.geometry.shape == (3, 192, 192)
    assert series.geometry.spacing[1:] == pytest.approx([s / 2 for s in series.source.pixel_spacing])
    source = read_slice(series.source, 1).hu
    viewed = ViewedSlice(series, session.settings[0], 1, reformatted=True)
    np.testing.assert_array_equal(shown(session, viewed, "Source"), np.rint(source))
    import torch

    bicubic = enlarge(torch.from_numpy(source)[None, None], 2, "bicubic")[0, 0].numpy()
    np.testing.assert_array_equal(shown(session, viewed, "Bicubic"), np.rint(bicubic))
    for index in range(3):
        session.images.lr(series, session.settings[0], index)
    coronal = session.image("Bicubic", viewed, "coronal", 77).int16(session.state.hu_range)
    np.testing.assert_array_equal(coronal[1], np.rint(bicubic[77]))


def test_a_region_has_mean_and_sd_without_a_reference(noisy: Path, bundled: ModelUnderTest, open_native: Any) -> None:
    session = open_native(noisy, bundled)
    viewed = settled(session, session.settings[0], 1)
    query = "series=0&setting=0&slice=1&plane=axial&index=1&center=40&width=400&page=p&turn=0"
    reply = json.loads(answer(session, "numbers", f"{query}&top=80&left=80&rows=21&columns=30", None).body)
    assert reply["metrics"] == {}
    inside = shown(session, viewed, "SR")[80:101, 80:110].astype(float)
    mean, sd, count = reply["statistics"]["SR"]
    assert (mean, sd, count) == (pytest.approx(inside.mean(), abs=0.5), pytest.approx(inside.std(), abs=0.5), 630)
    assert reply["statistics"]["Source"][2] == 11 * 15
    assert reply["statistics"]["Source"][1] > sd, "noise was taken away"


def test_a_single_slice_is_measured_too(bundled: ModelUnderTest, open_native: Any, tmp_path: Path) -> None:
    noise = np.rint(np.random.default_rng(0).normal(0, 15, (96, 96))).astype(np.int16)
    save_series(tmp_path / "P1" / "s", [np.maximum(body(96, texture=0) + noise, -1000)])
    session = open_native(tmp_path / "P1", bundled)
    viewed = settled(session, session.settings[0], 0)
    assert session.made_with(viewed)["before_after"]["slices"] == 1


def test_a_picture_for_a_document_names_the_noise(
    noisy: Path, tmp_path: Path, bundled: ModelUnderTest, open_native: Any
) -> None:
    out = tmp_path / "picture.png"
    session = open_native(noisy, bundled, snapshot=out)
    snapshot(session, ViewOptions(native=True, snapshot=out), progress=Listener())
    assert matplotlib.image.imread(out).std() > 0.1


def test_what_does_not_go_with_images_as_they_are(noisy: Path, bundled: ModelUnderTest, open_native: Any) -> None:
    with pytest.raises(UsageError, match="needs a model"):
        open_native(noisy, None)
    with pytest.raises(UsageError, match="leave one of them out"):
        ViewOptions(native=True, eval_summary=Path("summary.json"))
    for changes in ({"denoise": 2}, {"sharpen": "much"}, {"sigma": 1}, {"limit_noise": 1}, {"denoise": float("nan")}):
        with pytest.raises(UsageError):
            with_strength(UpscaleOptions(), changes)
