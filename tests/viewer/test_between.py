"""Slices between slices in the viewer: what is shown is what `ctsr upscale --slice_spacing` writes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from ctsr.degrade import Degradation
from ctsr.errors import SeriesError, UsageError
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.exams import read_slice
from ctsr.infer import EngineRequest
from ctsr.through_plane import interpolation, super_resolver
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from ctsr.viewer import ViewOptions
from ctsr.viewer.api import answer
from ctsr.viewer.embed import snapshot
from ctsr.viewer.native import BetweenImages
from ctsr.viewer.samplers import SliceCache, StaleRequestError
from ctsr.viewer.session import Prefetcher, ViewedSlice, ViewerSession, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import body, padded, save_series
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.made.model import save_slice_model
from tests.viewer.conftest import TURN

TIMEOUT_S = 120.0
STEP, SPACING, COUNT = 4.0, 1.5, 9
WANTED = 22
"""From 0 to 31.5 mm; the last source slice lies at 32."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    path = save_slice_model(tmp_path_factory.mktemp("between") / "best.pth")
    return load_model_under_test(str(path), device="cpu", kind="between slices")


@pytest.fixture(scope="module")
def thick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body that changes from slice to slice, padded outside of a circle."""
    folder = tmp_path_factory.mktemp("thick") / "P1" / "s"
    images = [padded(body(48, seed=7, radius=0.5 + 0.03 * i, texture=200), -2000) + 1976 for i in range(COUNT)]
    save_series(folder, images, step=STEP, SliceThickness=5, RescaleIntercept="-3000")
    return folder


@pytest.fixture
def open_between(tmp_path: Path) -> Iterator[Any]:
    opened: list[ViewerSession] = []

    def open_between(path: Path, model: ModelUnderTest, **options: object) -> ViewerSession:
        settings = {"native": True, "slice_spacing": SPACING, "store": tmp_path / "store"} | options
        chosen = ViewOptions(**settings)  # pyright: ignore[reportArgumentType]
        opened.append(open_session(prepare(ViewRequest(path, model, Degradation(), chosen), Listener()), chosen))
        return opened[-1]

    yield open_between
    for session in opened:
        session.close()


def written(source: Path, out: Path, model: ModelUnderTest, **options: object) -> np.ndarray:
    """What `ctsr upscale` makes of it: (slices, rows, columns), whole HU."""
    settings: Any = {"picture": False, "slice_spacing": SPACING} | options
    done = upscale(
        source,
        out,
        model.model,
        EngineRequest("auto"),
        UpscaleOptions(**settings),
        between=model.model,
        progress=Listener(),
    )
    assert done.failed == 0
    made = only_series(out)
    return np.stack([np.rint(read_slice(made, index).hu).astype(np.int16) for index in range(len(made.slices))])


def looked_at(session: ViewerSession, index: int) -> ViewedSlice:
    """Look at coronal planes until every slice is there."""
    viewed = ViewedSlice(session.series[0], session.settings[0], index, reformatted=True)
    session.view(TURN, viewed)
    deadline = time.monotonic() + TIMEOUT_S
    while session.progress(viewed)["SR"] < WANTED or session.progress(viewed)["LR"] < WANTED:
        assert time.monotonic() < deadline, "what should have happened in the background did not"
        time.sleep(0.02)
    return viewed


def shown(session: ViewerSession, viewed: ViewedSlice, panel: Any, plane: Any, index: int) -> np.ndarray:
    image = session.image(panel, viewed, plane, index)
    assert image.complete
    return image.int16(session.state.hu_range)


@pytest.mark.parametrize("denoise", [None, 0.5])
def test_every_plane_shows_what_upscale_writes(
    thick: Path,
    tmp_path: Path,
    model: ModelUnderTest,
    open_between: Any,
    denoise: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(super_resolver, "MOST_KEPT", 8)  # slabs as a long series has them
    monkeypatch.setattr(super_resolver, "FEWEST_KEPT", 8)
    expected = written(thick, tmp_path / "out", model, denoise=denoise)
    assert len(expected) == WANTED
    session = open_between(thick, model, denoise=denoise)
    assert session.images.batch(session.series[0], 9) == range(8, 16)
    viewed = looked_at(session, 12)
    for index in (0, 7, 8, 21):
        np.testing.assert_array_equal(shown(session, viewed, "SR", "axial", index), expected[index])
    top_down = expected[list(session.series[0].geometry.z_rows)]
    for index in (11, 24, 40):
        np.testing.assert_array_equal(shown(session, viewed, "SR", "coronal", index), top_down[:, index])
        np.testing.assert_array_equal(shown(session, viewed, "SR", "sagittal", index), top_down[:, :, index])


@pytest.mark.parametrize("spacing", [(0.8, 0.8), (0.7, 1.1)])
def test_isotropic_voxels_are_those_that_upscale_writes(
    tmp_path: Path, model: ModelUnderTest, open_between: Any, spacing: tuple[float, float]
) -> None:
    images = [padded(body(48, seed=7, radius=0.5 + 0.03 * i, texture=200), -2000) + 1976 for i in range(COUNT)]
    source = tmp_path / "P1" / "s"
    save_series(source, images, step=STEP, SliceThickness=5, RescaleIntercept="-3000", spacing=spacing)
    expected = written(source, tmp_path / "out", model, slice_spacing=None, isotropic=SPACING)
    session = open_between(source, model, slice_spacing=None, isotropic=SPACING)
    viewed, geometry = looked_at(session, 12), session.series[0].geometry
    assert geometry.spacing == (SPACING, SPACING, SPACING)
    assert geometry.shape == expected.shape
    for index in (0, 9, 21):
        np.testing.assert_array_equal(shown(session, viewed, "SR", "axial", index), expected[index])
    middle = expected.shape[1] // 2
    np.testing.assert_array_equal(
        shown(session, viewed, "SR", "coronal", middle), expected[list(geometry.z_rows)][:, middle]
    )
    for panel in ("Source", "Cubic"):
        assert session.image(panel, viewed, "axial", 9).values.shape == expected.shape[1:]
        assert session.image(panel, viewed, "sagittal", 5).values.shape == (expected.shape[0], expected.shape[1])


def test_another_denoising_is_made_of_the_same_source(
    thick: Path, tmp_path: Path, model: ModelUnderTest, open_between: Any
) -> None:
    session = open_between(thick, model)
    looked_at(session, 12)

    def change(document: str) -> int:
        return json.loads(answer(session, "setting", "", document.encode()).body)["setting"]

    assert change('{"denoise": 0}') == 0, "as it was"
    number = change('{"denoise": 0.5}')
    assert number != 0
    viewed = ViewedSlice(session.series[0], session.settings[number], 12)
    session.images.compute_sr(viewed.series, viewed.setting, 12, lambda: False)
    expected = written(thick, tmp_path / "out", model, denoise=0.5)
    np.testing.assert_array_equal(shown(session, viewed, "SR", "axial", 12), expected[12])
    told = session.made_with(viewed)
    assert told["strength"] == {"denoise": 0.5, "sharpen": 0.0}
    assert told["told"]["noise_hu"] > 0
    assert session.made_with(ViewedSlice(session.series[0], session.settings[0], 12))["told"]["noise_hu"] == 0
    for step in range(6):  # a slider leaves no slabs behind
        setting = session.settings[change(f'{{"denoise": {0.6 + 0.05 * step}}}')]
        session.images.compute_sr(viewed.series, setting, 12, lambda: False)
    assert not session.images.has("SR", viewed.series, viewed.setting, 12)


def test_slices_unlike_the_training_are_said_as_upscale_says_them(
    thick: Path, tmp_path: Path, model: ModelUnderTest, open_between: Any
) -> None:
    written(thick, tmp_path / "out", model, slice_spacing=0.5)
    (record,) = (tmp_path / "out").rglob("run.json")
    expected = [line for line in json.loads(record.read_text())["warnings"] if "was trained on" in line]
    session = open_between(thick, model, slice_spacing=0.5)
    found = session.made_with(ViewedSlice(session.series[0], session.settings[0], 0))["warnings"]
    assert expected
    assert [line for line in found if "was trained on" in line] == [f"{e[:1].upper()}{e[1:]}." for e in expected]


def test_source_and_cubic_interpolation_stand_beside_it(thick: Path, model: ModelUnderTest, open_between: Any) -> None:
    session = open_between(thick, model)
    assert session.state.panels == ("Source", "Cubic", "SR")
    viewed, series = looked_at(session, 0), only_series(thick)
    source = np.stack([read_slice(series, index).hu for index in range(COUNT)])
    wanted = np.arange(WANTED) * SPACING
    nearest = source[np.rint(wanted / STEP).astype(int)]
    cubic = np.tensordot(interpolation("cubic", np.arange(COUNT) * STEP, wanted), source, 1)
    rows = list(session.series[0].geometry.z_rows)
    np.testing.assert_array_equal(session.image("Source", viewed, "sagittal", 20).values, nearest[rows][:, :, 20])
    for plane, found in (
        ("coronal", cubic[rows][:, 24]),
        ("sagittal", cubic[rows][:, :, 24]),
        ("axial", cubic[24 % 22]),
    ):
        index = 24 % 22 if plane == "axial" else 24
        np.testing.assert_allclose(session.image("Cubic", viewed, plane, index).values, found, atol=1e-2)


@pytest.mark.parametrize("rises", [True, False])
def test_positions_of_source_slices_are_on_their_rows(
    tmp_path: Path, model: ModelUnderTest, open_between: Any, rises: bool
) -> None:
    """Bright source slices show up where the marks are, whichever way the series runs."""
    images = [body(32, texture=0) + (500 if number == 3 else 0) for number in range(COUNT)]
    orientation = (1, 0, 0, 0, 1, 0) if rises else (1, 0, 0, 0, -1, 0)
    save_series(
        tmp_path / "P1" / "s",
        images,
        step=STEP,
        SliceThickness=4,
        ImageOrientationPatient=list(map(float, orientation)),
    )
    session = open_between(tmp_path / "P1", model)
    told = session.geometry(0)
    brightest = int(session.image("Cubic", looked_at(session, 0), "coronal", 16).values.mean(axis=1).argmax())
    bright = told["z_rows"][brightest]
    number = 3 if rises else COUNT - 1 - 3  # slices are counted along the normal
    assert abs(bright * SPACING - number * STEP) <= SPACING / 2
    assert abs(told["source_mm"][number] - (brightest + 0.5) * SPACING) <= SPACING / 2
    assert np.allclose(np.abs(np.diff(told["source_mm"])), STEP)
    assert len(told["source_mm"]) == COUNT
    assert len(told["z_mm"]) == told["shape"][0] == WANTED
    assert np.allclose(np.abs(np.diff(told["z_mm"])), SPACING)
    assert told["planes"]["coronal"]["pixel"][0] == SPACING


def test_rows_are_missing_until_they_are_made(thick: Path, model: ModelUnderTest, open_between: Any) -> None:
    session = open_between(thick, model)
    viewed = ViewedSlice(session.series[0], session.settings[0], 0, reformatted=True)
    for panel in ("Source", "Cubic", "SR"):
        image = session.image(panel, viewed, "coronal", 24)
        assert image.missing.all()
        assert not image.complete
    session.images.lr(viewed.series, viewed.setting, 0)
    image = session.image("Cubic", viewed, "coronal", 24)
    assert image.missing.any()
    assert np.isnan(image.values[image.missing]).all()


def test_a_slab_ends_where_it_is_not_wanted_any_more(thick: Path, model: ModelUnderTest, open_between: Any) -> None:
    session = open_between(thick, model)
    images, setting = session.images, session.settings[0]
    assert isinstance(images, BetweenImages)
    asked: list[bool] = []
    with pytest.raises(StaleRequestError):
        images.compute_sr(session.series[0], setting, 3, lambda: asked.append(True) or len(asked) > 20)
    assert len(asked) == 21, "asked before every plane"
    assert not images.has("SR", session.series[0], setting, 3)


def test_moving_within_a_slab_does_not_begin_it_anew(thick: Path, model: ModelUnderTest, open_between: Any) -> None:
    moved, begun = Event(), list[int]()

    class Waiting(BetweenImages):
        """Asks whether it is still wanted only after the page has moved."""

        def compute_sr(self, series: Any, setting: Any, index: int, is_cancelled: Any) -> None:
            begun.append(index)
            super().compute_sr(series, setting, index, lambda: moved.wait(TIMEOUT_S) and is_cancelled())

    session = open_between(thick, model)
    images = Waiting(SliceCache(2**24), model, assume_hu=False)
    prefetcher = Prefetcher(images, lambda *_: None)
    series, setting = session.series[0], session.settings[0]
    deadline = time.monotonic() + TIMEOUT_S
    for index in (3, 9):
        prefetcher.view(ViewedSlice(series, setting, index))
        while not begun:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    moved.set()
    while not images.has("SR", series, setting, 9):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    prefetcher.close()
    assert begun == [3], "one slab holds both"


def test_what_cannot_have_slices_between_is_said(tmp_path: Path, model: ModelUnderTest, open_between: Any) -> None:
    save_series(tmp_path / "thin" / "s", [body(32)] * 4, step=1.0)
    with pytest.raises(UsageError, match="makes nothing finer"):
        open_between(tmp_path / "thin", model).geometry(0)
    save_series(tmp_path / "one" / "s", [body(32)])
    with pytest.raises(SeriesError, match="a single slice"):
        open_between(tmp_path / "one", model).geometry(0)
    for wanted in ({"slice_spacing": 1.0}, {"isotropic": 1.0}):
        with pytest.raises(UsageError, match="`native`"):
            ViewOptions(**wanted)
    with pytest.raises(UsageError, match="leave those out"):
        open_between(tmp_path / "one", model, isotropic=1.0)
    with pytest.raises(UsageError, match="`sharpen` is for models in plane"):
        ViewOptions(native=True, isotropic=1.0, sharpen=0.5)


def test_the_page_is_told_what_the_network_is_told(thick: Path, model: ModelUnderTest, open_between: Any) -> None:
    session = open_between(thick, model)
    told = json.loads(answer(session, "made_with", "series=0&setting=0&slice=0", None).body)
    assert told["told"]["noise_hu"] == 0
    assert json.loads(answer(session, "state", "", None).body)["strength"]["slice_spacing"] == SPACING


def test_snapshot_of_a_coronal_plane(thick: Path, tmp_path: Path, model: ModelUnderTest, open_between: Any) -> None:
    session = open_between(thick, model)
    options = ViewOptions(
        native=True, slice_spacing=SPACING, plane="coronal", index=24, snapshot=tmp_path / "picture.png"
    )
    snapshot(session, options)
    assert matplotlib.image.imread(tmp_path / "picture.png").shape[2] in {3, 4}
