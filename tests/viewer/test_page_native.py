"""The page on images as they are: sliders, before and after, and numbers that leave with all their digits."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import load_model_under_test
from ctsr.hu import Window
from ctsr.viewer import ViewOptions
from ctsr.viewer.native import NativeImages
from ctsr.viewer.server import ViewServer
from ctsr.viewer.state import ViewRequest
from tests.made.ct import body, save_series
from tests.viewer.browser import BrowserPage, assert_shows, browser, opened, serving

__all__ = ["browser"]
"""A fixture."""


@pytest.fixture(scope="module")
def native_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    folder = tmp_path_factory.mktemp("native")
    rng = np.random.default_rng(0)
    noisy = [body(96, texture=0) + np.rint(rng.normal(0, 15, (96, 96))).astype(np.int16) for _ in range(5)]
    save_series(folder / "anna" / "s", [np.maximum(image, -1000) for image in noisy], PatientID="anna")
    options = ViewOptions(native=True, store=folder / "store")
    model = load_model_under_test("ctsr-x2", device="cpu")
    with serving(ViewRequest(folder / "anna", model, model.degradation, options)) as server:
        yield server


@pytest.fixture
def view(browser: Any, native_server: ViewServer) -> Iterator[BrowserPage]:
    with opened(browser, native_server) as view:
        yield view


MEASURED = "now.drawn?.before_after && stage.panes.every((pane) => pane.picture(0)?.complete && !pane.pending)"


def test_source_bicubic_and_sr_stand_side_by_side(view: BrowserPage) -> None:
    view.settle(MEASURED)
    panels = ["Source", "Bicubic", "SR"]
    assert view.js("stage.panes.map((pane) => pane.images[0])") == panels
    view.press("+", "+", "+")
    for number, panel in enumerate(panels):
        assert_shows(view, number, view.hu(panel, "axial", 2), Window(40, 400))
    assert not view.page.is_visible("#degradation")
    images = view.session.images
    assert isinstance(images, NativeImages)
    tuning = images.tuning(view.session.series[0], view.session.settings[0])
    assert tuning is not None
    cells = view.page.locator("#metrics tr", has_text="noise").locator("td")
    assert cells.nth(1).get_attribute("title") == str(tuning.before_after.noise_ratio)
    view.shot("native")


def test_sliders_change_the_slice_in_view_and_what_is_measured(view: BrowserPage) -> None:
    view.settle(MEASURED)
    before, ratio = view.hu("SR", "axial", 2), view.js("now.drawn.before_after.noise_ratio")
    view.page.focus("#denoise")
    index = view.js("view.cursor[0]")
    view.page.keyboard.press("Home")
    view.settle(f"view.setting > 0 && {MEASURED} && now.drawn.strength.denoise === 0")
    assert view.js("view.cursor[0]") == index, "keys of a slider are its own"
    after = view.hu("SR", "axial", 2)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[2].picture(0).data)"), after.ravel())
    assert after[64:128, 64:128].std() > before[64:128, 64:128].std(), "noise stays"
    assert view.js("now.drawn.before_after.noise_ratio") > ratio
    assert view.page.inner_text("#command").endswith("--denoise 0 --sharpen 0.25")
    view.page.locator("#strengths button", has_text="standard").click()
    view.settle(f"view.setting === 0 && {MEASURED}")
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[2].picture(0).data)"), before.ravel())
    assert view.page.inner_text("#command").endswith("--strength standard")


def test_before_and_after_and_a_region_leave_with_all_their_digits(view: BrowserPage, tmp_path: Path) -> None:
    view.settle(MEASURED)
    view.press("o")
    view.drag(view.at(1, 20, 20), view.at(1, 40, 40))
    view.settle("now.region?.statistics.SR")
    with view.page.expect_download() as numbers:
        view.page.keyboard.press("Shift+P")
    numbers.value.save_as(tmp_path / "numbers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    assert [(row["image"], row["region"] == "series") for row in rows] == [
        ("Bicubic", True), ("SR", True), ("Source", False), ("Bicubic", False), ("SR", False),
    ]  # fmt: skip
    assert float(rows[1]["noise_ratio"]) == view.js("now.drawn.before_after.noise_ratio")
    box = view.js("view.box")
    inside = view.hu("SR", "axial", 2)[
        box["top"] : box["top"] + box["rows"], box["left"] : box["left"] + box["columns"]
    ]
    assert float(rows[4]["sd_hu"]) == pytest.approx(inside.std(), abs=0.3), "shown as whole HU"
    assert rows[4]["model_sha256"] == view.js("known.state.model.sha256")
    with view.page.expect_download() as picture:
        view.page.keyboard.press("p")
    assert picture.value.suggested_filename == "ctsr_anna_axial_2.png"
    # The slice in view is still that of another strength.
    view.js("stage.panes[2].pending = true")
    view.page.keyboard.press("p")
    assert "save it in a moment" in view.page.inner_text("#news")


def test_a_slice_whose_file_is_gone_says_so_and_the_others_are_made(browser: Any, tmp_path: Path) -> None:
    files = save_series(tmp_path / "anna" / "s", [body(64, seed=i, texture=60) for i in range(8)], PatientID="anna")
    options = ViewOptions(native=True, store=tmp_path / "store", engine="torch")
    model = load_model_under_test("ctsr-x2", device="cpu")
    with (
        serving(ViewRequest(tmp_path / "anna", model, model.degradation, options)) as server,
        opened(browser, server) as view,
    ):
        view.settle(MEASURED)
        files[7].unlink()
        view.session.images.cache.drop(lambda key: True)
        view.page.keyboard.press("End")
        view.page.wait_for_function(f"() => document.getElementById('news').textContent.includes('{files[7]}')")
        view.page.wait_for_function("() => window.ctsr.stage.panes.every((pane) => pane.hasFailed())")
        view.shot("gone")
        view.page.keyboard.press("ArrowDown")
        view.page.wait_for_function("() => document.getElementById('progress').textContent.includes('SR 7 of 8')")
        view.settle("stage.panes.every((pane) => pane.picture(0)?.complete)")
        view.troubles.clear()  # the browser itself notes answers of 500


def test_single_slices_unlike_their_series_are_named_by_the_numbers_of_the_page(browser: Any, tmp_path: Path) -> None:
    images = [body(64, seed=i, texture=20) for i in range(7)]
    images[3] = (((images[3] + 160) / 400).clip(0, 1) * 255).astype(np.int16)
    save_series(tmp_path / "anna" / "s", images, PatientID="anna")
    options = ViewOptions(native=True, store=tmp_path / "store", engine="torch")
    model = load_model_under_test("ctsr-x2", device="cpu")
    with (
        serving(ViewRequest(tmp_path / "anna", model, model.degradation, options)) as server,
        opened(browser, server) as view,
    ):
        (caveat,) = view.page.locator("#caveats li").all_inner_texts()
        assert caveat.startswith("Slice 3 (IM4): unlike its series")
        assert "hu_offset" not in caveat
        view.page.fill("#index", "3")
        view.page.press("#index", "Enter")
        view.settle()
        assert view.js("view.cursor[0]") == 3
        np.testing.assert_array_equal(view.hu("Source", "axial", 3), images[3])
        view.shot("odd_slice")


def test_what_is_unusual_about_the_series_leaves_with_its_numbers(browser: Any, tmp_path: Path) -> None:
    files = save_series(tmp_path / "anna" / "s", [body(64, seed=i, texture=60) for i in range(6)], PatientID="anna")
    files[2].unlink()
    options = ViewOptions(store=tmp_path / "store")
    with (
        serving(ViewRequest(tmp_path / "anna", None, Degradation(), options)) as server,
        opened(browser, server) as view,
    ):
        view.settle("now.slice && Object.keys(now.slice.metrics).length === 2")
        with view.page.expect_download() as numbers:
            view.page.click("#save-csv")
        numbers.value.save_as(tmp_path / "numbers.csv")
        rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
        assert all("Slices are missing: 1 between" in row["caveats"] for row in rows)
