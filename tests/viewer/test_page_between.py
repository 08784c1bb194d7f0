"""The page on slices between slices: source, cubic interpolation, SR, and where the source slices lie."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import load_model_under_test
from ctsr.hu import Window
from ctsr.viewer import ViewOptions
from ctsr.viewer.server import ViewServer
from ctsr.viewer.state import ViewRequest
from tests.made.ct import body, save_series
from tests.made.model import save_slice_model
from tests.viewer.browser import BrowserPage, assert_shows, browser, opened, serving

__all__ = ["browser"]
"""A fixture."""


@pytest.fixture(scope="module")
def between_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    folder = tmp_path_factory.mktemp("between")
    images = [body(64, seed=7, radius=0.5 + 0.02 * i, texture=200) for i in range(12)]
    save_series(folder / "anna" / "s", images, step=4.0, SliceThickness=5, PatientID="anna")
    model = load_model_under_test(str(save_slice_model(folder / "best.pth")), device="cpu", kind="between slices")
    options = ViewOptions(native=True, slice_spacing=1.0, plane="coronal", store=folder / "store", slice_profile="5")
    with serving(ViewRequest(folder / "anna", model, Degradation(), options)) as server:
        yield server


@pytest.fixture
def view(browser: Any, between_server: ViewServer) -> Iterator[BrowserPage]:
    with opened(browser, between_server) as view:
        yield view


MADE = "now.drawn && stage.panes.every((pane) => pane.picture(0)?.complete && !pane.pending)"


def test_source_cubic_and_sr_stand_side_by_side_with_the_source_slices_marked(view: BrowserPage) -> None:
    view.settle(MADE)
    panels = ["Source", "Cubic", "SR"]
    assert view.js("stage.panes.map((pane) => pane.images[0])") == panels
    view.press("+", "+", "+")
    for number, panel in enumerate(panels):
        shown = view.hu(panel, "coronal", 32)
        assert shown.shape == (45, 64), "a row every millimetre"
        np.testing.assert_array_equal(view.js(f"Array.from(stage.panes[{number}].picture(0).data)"), shown.ravel())
        assert_shows(view, number, shown, Window(40, 400))
    view.press("0")
    for number in range(3):
        marks = np.array(view.js(f"stage.panes[{number}].sources"))
        scale, top = view.js(f"stage.panes[{number}].transform.scale"), view.js(f"stage.panes[{number}].transform.top")
        np.testing.assert_allclose(np.sort((marks - top) / scale), np.arange(12) * 4 + 0.5, atol=1e-6)
    view.shot("between")


def test_marks_are_drawn_on_coronal_and_sagittal_images_only(view: BrowserPage) -> None:
    view.settle(MADE)
    yellow = (
        "(() => { const pane = stage.panes[0], y = Math.round(pane.sources[5] * pane.ratio);"
        " const d = pane.marks.getContext('2d').getImageData(2, y - 1, 1, 3).data;"
        " return Math.max(d[0], d[4], d[8]) })()"
    )
    assert view.js(yellow) > 150
    view.press("a")
    view.settle(f"view.plane === 'axial' && {MADE}")
    assert view.js("stage.panes[0].sources") == []
    np.testing.assert_array_equal(
        view.js("Array.from(stage.panes[2].picture(0).data)"),
        view.hu("SR", "axial", view.js("view.cursor[0]")).ravel(),
    )


def test_the_sidebar_says_what_was_made_of_what(view: BrowserPage) -> None:
    view.settle(MADE)
    assert view.page.inner_text("#command") == "ctsr upscale IN OUT --slice_spacing 1.0 --slice_profile 5"
    assert "5 mm slices, 4 mm apart" in view.page.inner_text("#told")
    assert "no noise" in view.page.inner_text("#told")
    for choice in ("#sharpen", "#limit-noise", "#strengths", "#degradation"):
        assert not view.page.is_visible(choice)
    assert "measuring" not in view.page.inner_text("#side")


def test_the_slider_makes_the_slab_in_view_anew(view: BrowserPage) -> None:
    view.settle(MADE)
    before = view.js("Array.from(stage.panes[2].picture(0).data)")
    assert view.page.inner_text("[for=denoise]") == "0.00", "nothing is removed unless it is asked for"
    view.page.evaluate(
        "() => { const s = document.getElementById('denoise'); s.value = 0.6; s.dispatchEvent(new Event('input')); }"
    )
    view.settle(f"now.drawn?.strength.denoise === 0.6 && {MADE}")
    assert view.js("Array.from(stage.panes[2].picture(0).data)") != before
    shown = view.hu("SR", "coronal", 32)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[2].picture(0).data)"), shown.ravel())
    assert view.page.inner_text("#command").endswith("--slice_profile 5 --denoise 0.6")
    assert "noise of" in view.page.inner_text("#told")
    view.press("r")
    view.settle(f"view.setting === 0 && {MADE}")
    assert view.js("Array.from(stage.panes[2].picture(0).data)") == before
    assert view.page.inner_text("[for=denoise]") == "0.00"


def test_the_saved_picture_has_the_marks(view: BrowserPage, tmp_path: Path) -> None:
    view.settle(MADE)
    with view.page.expect_download() as picture:
        view.page.keyboard.press("p")
    picture.value.save_as(tmp_path / "view.png")
    image = matplotlib.image.imread(tmp_path / "view.png")
    places = view.js(
        "(() => { const p = stage.panes[0]; return [parseFloat(p.element.style.top), p.ratio, p.sources] })()"
    )
    top, ratio, sources = places
    for y in sources:
        row = round((top + y) * ratio)
        strip = image[max(0, row - 1) : row + 2, 2, :3]
        assert (strip[:, 0] > strip[:, 2] + 0.3).any(), "yellow"


def test_a_region_leaves_with_how_it_was_made(view: BrowserPage, tmp_path: Path) -> None:
    view.settle(MADE)
    view.press("Shift+P")
    assert "region" in view.page.inner_text("#news")
    view.press("o")
    view.drag(view.at(1, 15, 15), view.at(1, 30, 30))
    view.settle("now.region?.statistics.SR")
    with view.page.expect_download() as numbers:
        view.page.keyboard.press("Shift+P")
    numbers.value.save_as(tmp_path / "numbers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    assert [row["image"] for row in rows] == ["Source", "Cubic", "SR"]
    assert (rows[2]["slice_spacing_mm"], rows[2]["distance_mm"], rows[2]["told_noise_hu"]) == ("1", "4", "0")
    box = view.js("view.box")
    inside = view.hu("SR", "coronal", 32)[
        box["top"] : box["top"] + box["rows"], box["left"] : box["left"] + box["columns"]
    ]
    assert float(rows[2]["mean_hu"]) == pytest.approx(inside.mean(), abs=0.3), "shown as whole HU"
    with view.page.expect_download() as picture:
        view.page.keyboard.press("p")
    assert picture.value.suggested_filename == "ctsr_anna_coronal_32.png"
