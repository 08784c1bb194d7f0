"""The page in a real browser: every tool is used, and what the canvas shows is compared with NumPy."""

import csv
import io
import json
import re
from pathlib import Path
from threading import Thread
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from ctsr.degrade import Degradation
from ctsr.hu import Window
from ctsr.viewer import ViewOptions
from ctsr.viewer.images import NO_SLICE
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import ViewedSlice, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.viewer.browser import (
    SLICES,
    TWO_FRAMES,
    BrowserPage,
    assert_shows,
    browser,
    exams,
    server,
    view,
    wait_for_sr,
)
from tests.viewer.conftest import TURN

__all__ = ["browser", "exams", "server", "view"]
"""Fixtures."""

SOFT, LUNG = Window(40, 400), Window(-600, 1500)


def test_five_panels_show_the_hu_of_their_images_in_the_window(view: BrowserPage) -> None:
    wait_for_sr(view)
    assert view.js("stage.panes.map((pane) => pane.images[0])") == ["LR", "Bilinear", "Bicubic", "SR", "HR"]
    # Magnified, so that every pixel of the image is one on the screen.
    view.press("+", "+", "+")
    for number, panel in enumerate(("LR", "Bilinear", "Bicubic", "SR", "HR")):
        assert_shows(view, number, view.hu(panel, "axial", SLICES // 2), SOFT)
    view.shot("axial")


def test_the_window_follows_presets_fields_and_the_left_button(view: BrowserPage) -> None:
    view.page.select_option("#preset", "lung")
    view.settle("view.center === -600 && view.width === 1500")
    view.press("+", "+", "+")
    assert_shows(view, 4, view.hu("HR", "axial", SLICES // 2), LUNG)
    view.page.fill("#center", "60")
    view.page.fill("#width", "150")
    view.page.press("#width", "Enter")
    view.settle("view.center === 60 && view.width === 150")
    assert view.page.input_value("#preset") == "liver"
    x, y = view.at(4, 30, 30)
    view.drag((x, y), (x + 50, y - 20))
    assert (view.js("view.width"), view.js("view.center")) == (200, 40)
    assert_shows(view, 4, view.hu("HR", "axial", SLICES // 2), Window(40, 200))
    view.press("w")
    assert view.page.input_value("#preset") != ""


def test_wheel_keys_slider_and_index_go_through_the_slices(view: BrowserPage) -> None:
    index = "view.cursor[0]"
    assert view.js(index) == 6
    view.page.mouse.move(*view.at(4, 30, 30))
    view.page.mouse.wheel(0, 120)
    # Slices are numbered from the feet: down is towards the feet, as in every PACS.
    view.settle("view.cursor[0] === 5")
    for key, expected in [
        ("ArrowUp", 6), ("ArrowLeft", 7), ("ArrowDown", 6), ("ArrowRight", 5), ("PageUp", 11), ("ArrowUp", 11),
        ("End", 11), ("PageDown", 1), ("Home", 0), ("PageDown", 0), ("PageUp", 10),
    ]:  # fmt: skip
        view.press(key)
        assert view.js(index) == expected, key
    view.press("g")
    view.page.keyboard.type("3")
    view.page.click("#goto button")
    view.settle("view.cursor[0] === 3")
    view.page.locator("#slider").fill("9")
    view.settle("view.cursor[0] === 9")
    assert view.page.input_value("#index") == "9"
    view.press("+", "+", "+")
    assert_shows(view, 4, view.hu("HR", "axial", 9), SOFT)


def test_coronal_and_sagittal_have_the_slices_own_spacing_and_the_head_up(view: BrowserPage) -> None:
    wait_for_sr(view)
    for key, plane, across in (("c", "coronal", 0.6), ("s", "sagittal", 0.8)):
        view.press(key)
        view.settle("stage.panes.every((pane) => pane.shown[0]?.complete)")
        geometry = view.js(f"known.geometry.planes.{plane}")
        assert geometry["pixel"] == pytest.approx([2.5, across])
        for number, panel in enumerate(("LR", "Bilinear", "Bicubic", "SR", "HR")):
            assert_shows(view, number, view.hu(panel, plane, geometry["count"] // 2), SOFT)
        view.shot(plane)
    assert view.js("known.geometry.z_rows") == list(range(SLICES))[::-1]
    assert NO_SLICE not in view.js("known.geometry.z_rows")


def test_three_planes_share_one_crosshair(view: BrowserPage) -> None:
    view.press("v")
    view.settle("stage.panes.length === 3")
    view.page.mouse.click(*view.at(0, 20.3, 30.2))
    view.settle("view.cursor[2] === 33")
    assert view.js("view.cursor") == [6, 37, 33]
    coronal = view.hu("HR", "coronal", 37)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[1].picture(0).data)"), coronal.ravel())
    view.page.mouse.click(*view.at(1, 40, 1))
    view.settle("view.cursor[0] === 11")
    assert view.js("view.cursor") == [11, 37, 66]
    view.page.select_option("#image", "LR")
    view.settle("stage.panes.every((pane) => pane.images[0] === 'LR')")
    view.shot("three_planes")


def test_hu_under_the_cursor_is_each_images_own_pixel(view: BrowserPage) -> None:
    wait_for_sr(view)
    x, y = 20.5, 41.3
    view.page.mouse.move(*view.at(1, x, y))
    view.settle("view.hover")
    hover = view.js("view.hover")
    assert (hover["x"], hover["y"]) == pytest.approx((x, y), abs=0.5)
    x, y = hover["x"], hover["y"]
    values = view.js(f"stage.panes.map((pane) => pane.valueAt(0, {x}, {y}))")
    row, column = int(y / 0.8), int(x / 0.6)
    expected = [view.hu("LR", "axial", 6)[row // 2, column // 2]]
    expected += [view.hu(panel, "axial", 6)[row, column] for panel in ("Bilinear", "Bicubic", "SR", "HR")]
    assert values == expected
    assert f"row {row} · column {column}" in view.page.inner_text("#under")


def test_a_rectangle_has_metrics_size_and_mean(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("o")
    view.drag(view.at(2, 12.3, 16.2), view.at(2, 30.2, 40.3))
    view.settle("now.region && Object.keys(now.region.metrics).length === 3")
    box = view.js("view.box")
    assert [box[name] for name in ("top", "left", "rows", "columns")] == [20, 20, 31, 31]
    assert view.page.inner_text("#region-size") == "18.6 × 24.8 mm"
    mean, sd, pixels = view.js("now.region.statistics.HR")
    inside = view.hu("HR", "axial", 6)[20:51, 20:51].astype(float)
    assert (mean, sd, pixels) == (pytest.approx(inside.mean()), pytest.approx(inside.std()), 961)
    row = view.page.locator("#region tr", has_text="HR").first.inner_text()
    assert row.split("\t")[1].replace("−", "-") == f"{mean:.1f}"
    view.shot("region")
    view.press("ArrowDown")
    view.settle(f"now.region && now.region.statistics.HR[0] !== {mean}")
    view.press("Escape")
    assert not view.page.is_visible("#region")


def test_a_profile_runs_through_every_image(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("l")
    view.drag(view.at(0, 6.4, 10.2), view.at(0, 50.1, 60.3))
    view.settle("now.curves && Object.keys(now.curves).length === 5")
    line, curves = view.js("view.line"), view.js("now.curves")
    for panel in ("LR", "SR", "HR"):
        hu = view.hu(panel, "axial", 6).astype(float)
        across, down = 96 * 0.6, 96 * 0.8
        share = np.linspace(0, 1, len(curves[panel]))
        x = (line["from"][0] + (line["to"][0] - line["from"][0]) * share) / across * hu.shape[1] - 0.5
        y = (line["from"][1] + (line["to"][1] - line["from"][1]) * share) / down * hu.shape[0] - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        u, v = x - left, y - top
        upper = hu[top, left] * (1 - u) + hu[top, left + 1] * u
        lower = hu[top + 1, left] * (1 - u) + hu[top + 1, left + 1] * u
        np.testing.assert_allclose(curves[panel], upper * (1 - v) + lower * v, atol=1e-6)
    view.page.mouse.move(300, 690)
    view.shot("profile")


def test_a_difference_is_in_hu_with_diverging_colours(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("d", *(f"Shift+Digit{i}" for i in range(1, 6)))
    assert view.js("stage.panes.map((pane) => pane.title)") == ["SR − HR"]
    expected = view.hu("SR", "axial", 6).astype(int) - view.hu("HR", "axial", 6)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[0].picture(0).data)"), expected.ravel())
    view.page.select_option("#minuend", "Bicubic")
    view.settle("stage.panes[0].title === 'Bicubic − HR'")
    canvas = view.canvas(0).astype(int)
    assert ((canvas[:, :, 0] > canvas[:, :, 2]) & (canvas[:, :, 0] > 60)).any(), "above: red"
    assert ((canvas[:, :, 2] > canvas[:, :, 0]) & (canvas[:, :, 2] > 60)).any(), "below: blue"
    view.page.fill("#difference-range", "50")
    view.page.press("#difference-range", "Enter")
    view.settle("view.differenceRange === 50")
    view.press("Shift+Digit1", "Shift+Digit5")
    view.settle("stage.panes.length === 3")
    view.shot("difference")


def test_wipe_and_blink_compare_two_images(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("x")
    view.settle("stage.panes.length === 1 && stage.panes[0].shown.every(Boolean)")
    pane = view.pane(0)
    view.drag((pane["x"] + pane["w"] / 2, 400), (pane["x"] + pane["w"] * 0.3, 400))
    assert view.js("view.wipe") == pytest.approx(0.3, abs=0.01)
    canvas = view.canvas(0)
    view.shot("wipe")
    view.press("x")
    for i, key in ((0, "4"), (1, "5")):
        assert view.js("view.pair")[i] == {"4": "SR", "5": "HR"}[key]
    view.press("b")
    view.press(" ")
    flipped = view.js("view.flipped")
    whole = view.canvas(0)
    view.press(" ")
    assert view.js("view.flipped") is not flipped
    other = view.canvas(0)
    hr, sr = (whole, other) if flipped else (other, whole)
    split = round(canvas.shape[1] * view.js("view.wipe"))
    np.testing.assert_array_equal(canvas[:, :split], sr[:, :split])
    np.testing.assert_array_equal(canvas[:, split:], hr[:, split:])
    view.press("Escape")
    assert view.js("stage.panes.length") == 5


def test_zoom_pan_and_reset(view: BrowserPage) -> None:
    before = view.pane(0)
    x, y = map(round, view.at(0, 20, 20))  # the browser tells of whole pixels
    place = (x - before["x"] - before["left"]) / before["scale"], (y - before["y"] - before["top"]) / before["scale"]
    view.page.mouse.move(x, y)
    view.page.keyboard.down("Control")
    view.page.mouse.wheel(0, -300)
    view.page.keyboard.up("Control")
    view.settle("view.zoom > 2")
    assert view.at(0, *place) == pytest.approx((x, y), abs=0.01), "what is under the mouse stays there"
    assert view.pane(4)["scale"] == view.pane(0)["scale"], "all panels together"
    view.page.keyboard.down("Shift")
    view.drag((x, y), (x + 30, y + 10))
    view.page.keyboard.up("Shift")
    assert view.at(0, *place) == pytest.approx((x + 30, y + 10), abs=0.01)
    view.press("n", "h")
    assert (view.js("view.smooth"), view.js("view.crosshair")) == (True, True)
    view.press("r")
    assert view.pane(0) == before
    assert (view.js("view.smooth"), view.js("view.crosshair")) == (False, False)


def test_the_view_is_saved_with_its_caption_and_numbers_with_all_digits(view: BrowserPage, tmp_path: Path) -> None:
    wait_for_sr(view)
    view.settle("now.slice && Object.keys(now.slice.metrics).length === 3")
    with view.page.expect_download() as picture:
        view.press("p")
    assert picture.value.suggested_filename == "ctsr_anna_axial_6.png"
    picture.value.save_as(tmp_path / "view.png")
    image = matplotlib.image.imread(tmp_path / "view.png")
    stage = view.js("[stage.element.clientWidth, stage.element.clientHeight]")
    assert image.shape[1] == stage[0]
    assert image.shape[0] > stage[1]
    assert image[stage[1] + 5 :].std() > 0.02, "the caption"
    with view.page.expect_download() as numbers:
        view.page.click("#save-csv")
    numbers.value.save_as(tmp_path / "numbers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    assert [row["image"] for row in rows] == ["Interpolation (Bilinear)", "Interpolation (Bicubic)", "Model (RRDB)"]
    session = view.session
    look = ViewedSlice(session.series[0], session.settings[0], 6)
    exact = session.numbers(TURN, look, "axial", 6, session.state.window.window, None)["metrics"]
    for row in rows:
        for name, one in exact[row["image"]].items():
            assert float(row[name]) == one["value"]
        assert (row["patient_id"], row["slice_index"], row["window_width"]) == ("anna", "6", "400")
        assert (row["crop_top_px"], row["crop_left_px"]) == ("0", "0")


def test_a_plane_across_slices_says_of_which_slice_the_degradation_is(view: BrowserPage) -> None:
    """Each slice may have its own: that of one stood below coronal pictures as if it were that of all."""
    module = "import(new URL('save.js', location.href.split('#')[0]).href)"

    def told() -> tuple[str, str]:
        caption = view.page.evaluate(f"{module}.then(({{captionLines}}) => captionLines(window.ctsr.now.drawn))")
        return caption[1], view.page.locator("#drawn").inner_text()

    assert not any("axial slice" in text for text in told())
    view.press("c")
    view.settle("view.plane === 'coronal' && now.drawn")
    assert all("axial slice 6" in text for text in told())
    view.press("a")
    view.settle("view.plane === 'axial' && now.drawn")
    assert not any("axial slice" in text for text in told())
    view.page.select_option("#slab", "mean")
    view.settle("view.slab === 'mean' && document.getElementById('drawn').innerText.includes('axial slice 6')")


def test_the_best_of_each_metric_is_marked(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.settle("now.slice && Object.keys(now.slice.metrics).length === 3")
    view.settle("document.querySelectorAll('#metrics td.best').length >= 8")
    # The model was trained on this patient: it stands beside the interpolations, but is not ranked.
    cells = view.page.locator("#metrics tr", has_text="PSNR").locator("td").all_text_contents()[:-1]
    best = view.page.locator("#metrics tr", has_text="PSNR").locator("td.best").text_content()
    assert float(best) == max(map(float, cells))


def test_metrics_of_a_slice_that_was_left_are_given_up(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.settle("now.slice")
    view.press("Home")
    for _ in range(6):
        view.page.keyboard.press("ArrowUp")
    session = view.session
    look = ViewedSlice(session.series[0], session.settings[0], 6)
    exact = json.loads(json.dumps(session.numbers(TURN, look, "axial", 6, SOFT, None)["metrics"]))
    psnr = exact["Model (RRDB)"]["PSNR"]["value"]
    view.settle(f"view.cursor[0] === 6 && now.slice?.metrics['Model (RRDB)']?.PSNR.value === {psnr!r}")
    assert view.js("now.slice.metrics") == exact


def test_a_changed_degradation_is_shown_and_said(view: BrowserPage) -> None:
    assert not view.page.is_visible("#agreement")
    before = view.js("Array.from(stage.panes[0].picture(0).data)")
    view.page.click("#degradation summary")
    view.page.select_option("#controls [name=mode]", "blur")
    view.page.fill("#controls [name=sigma]", "1.5")
    view.page.click("#controls button >> nth=0")
    view.settle("view.setting > 0 && now.drawn.mode === 'blur' && stage.panes[0].shown[0]")
    assert view.page.inner_text("#agreement") == "Departs from the start: the degradation was changed here."
    assert view.js("now.drawn.sigma") == 1.5
    blurred = view.js("Array.from(stage.panes[0].picture(0).data)")
    np.testing.assert_array_equal(blurred, view.hu("LR", "axial", 6).ravel())
    assert blurred != before
    view.page.fill("#controls [name=dose]", "3")
    view.page.evaluate("document.getElementById('controls').noValidate = true")
    view.page.click("#controls button >> nth=0")
    view.settle("document.getElementById('news').className === 'bad'")
    assert "`dose_factor_range`" in view.page.inner_text("#news")
    view.troubles.clear()  # the browser itself notes an answer of 400
    view.page.click("#degradation-reset")
    view.settle("view.setting === 0 && now.drawn.mode === 'blurnoise' && stage.panes[0].shown[0]")
    assert view.js("Array.from(stage.panes[0].picture(0).data)") == before


def test_another_patient_is_picked_from_the_list(view: BrowserPage) -> None:
    options = view.page.locator("#series option").all_inner_texts()
    assert [text.split(" · ")[0] for text in options] == ["anna", "bert"]
    view.page.select_option("#series", "1")
    view.settle("view.series === 1")
    view.settle()
    view.press("+", "+", "+")
    assert_shows(view, 4, view.hu("HR", "axial", 6), SOFT)
    assert "bert" in view.page.inner_text("#facts")


def test_marks_of_one_series_do_not_stand_on_another(view: BrowserPage) -> None:
    view.press("t")
    view.drag(view.at(4, 10, 12), view.at(4, 40, 52))
    view.press("o")
    view.drag(view.at(4, 10, 16), view.at(4, 20, 30))
    view.drag(view.at(4, 30, 24), view.at(4, 48, 56))
    assert view.js("[view.shapes.length, view.regions.length, Boolean(view.box)]") == [1, 1, True]
    view.page.select_option("#series", "1")
    view.settle("view.series === 1")
    assert view.js("[view.shapes, view.regions, view.box]") == [[], [], None]


def test_a_region_is_measured_again_when_its_plane_is_whole(view: BrowserPage) -> None:
    view.press("v")
    view.settle("view.plane === 'all'")
    view.js("change({ box: { plane: 'coronal', top: 1, left: 20, rows: 9, columns: 30 } })")
    view.settle("now.region")
    view.page.click("#degradation summary")
    view.page.fill("#controls [name=deg_seed]", "4711")
    view.page.click("#controls button >> nth=0")
    view.settle("view.setting > 0 && now.region && !now.region.statistics.SR")
    view.settle("now.region?.statistics.SR")
    setting = view.session.settings[view.js("view.setting")]
    seen = ViewedSlice(view.session.series[0], setting, 6)
    for panel in ("SR", "LR"):
        image = view.session.image(panel, seen, "coronal", 48).hu(view.session.state.hu_range).astype(float)
        inside = image[1:10, 20:50] if panel == "SR" else image[1:10, 10:25]
        assert view.js(f"now.region.statistics.{panel}")[::2] == [pytest.approx(inside.mean()), inside.size]


def test_the_series_that_was_chosen_last_is_shown_however_long_another_takes(view: BrowserPage) -> None:
    held: list[Any] = []
    view.page.route("**/api/geometry?series=1", lambda route: held.append(route))
    view.page.select_option("#series", "1")
    while not held:
        view.page.wait_for_timeout(20)
    view.page.select_option("#series", "0")
    view.settle("document.getElementById('news').textContent === ''")
    held[0].continue_()
    view.page.wait_for_timeout(300)
    assert view.js("[view.series, Number(document.getElementById('series').value)]") == [0, 0]
    view.settle()


def test_the_help_sheet_lists_the_keys(view: BrowserPage) -> None:
    view.page.keyboard.press("?")
    assert view.page.is_visible("#help")
    text = view.page.inner_text("#help")
    for word in ("PageUp", "right-drag", "ROI", "profile", "wipe", "blink", "not for diagnosis"):
        assert word in text
    assert view.page.evaluate("document.getElementById('help').scrollTop") == 0, "the sheet begins at its beginning"
    view.shot("help")
    view.page.keyboard.press("?")
    assert not view.page.is_visible("#help")


OVERLAPS = """() => {
  const kinds = 'button, select, input, output, h1, h2, dt, dd, td, th, label, summary, footer span';
  const shown = [...document.querySelectorAll(kinds)].filter((one) => one.checkVisibility()
    && one.getClientRects().length && one.textContent + (one.value ?? '') !== '');
  const footer = document.getElementById('status'); // floats above the rest where the window is narrow
  const side = document.getElementById('side'); // scrolls: what is beyond its ends is not seen
  const seen = (one) => {
    const box = one.getBoundingClientRect();
    if (!side.contains(one)) return box;
    const frame = side.getBoundingClientRect();
    const [top, bottom] = [Math.max(box.top, frame.top), Math.min(box.bottom, frame.bottom)];
    return { left: box.left, right: box.right, top, bottom };
  };
  const found = [];
  for (const [i, one] of shown.entries()) for (const other of shown.slice(i + 1)) {
    if (one.contains(other) || other.contains(one) || footer.contains(one) !== footer.contains(other)) continue;
    const [a, b] = [seen(one), seen(other)];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1.5 && down > 1.5) found.push(`${one.textContent} × ${other.textContent}`);
  }
  return found;
}"""


@pytest.mark.parametrize(("width", "height"), [(900, 900), (1280, 720), (1920, 1080), (3840, 2160)])
def test_nothing_overlaps_or_sticks_out_at_any_size(view: BrowserPage, width: int, height: int) -> None:
    wait_for_sr(view)
    view.page.set_viewport_size({"width": width, "height": height})
    view.press("d", "o")
    view.drag(view.at(4, 12, 16), view.at(4, 30, 40))
    if width <= 1080:
        view.page.click("#drawer")
    view.page.click("#degradation summary")
    view.settle("now.slice && now.region && Object.keys(now.region.metrics).length === 3")
    assert view.page.evaluate(OVERLAPS) == []
    assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert view.page.evaluate(
        "[...document.querySelectorAll('header *, #side td, #side dd')]"
        ".every((one) => one.getBoundingClientRect().right <= innerWidth + 1)"
    )
    view.shot(f"width_{width}")


def test_the_page_says_when_the_viewer_has_ended(browser: Any, exams: Path, model_path: Path, tmp_path: Path) -> None:
    options = ViewOptions(store=tmp_path)
    session = open_session(prepare(ViewRequest(exams / "anna", None, Degradation(), options)), options)
    server = ViewServer(session)
    Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    view = BrowserPage(context.new_page(), server)
    server.shutdown()
    server.server_close()
    view.settle("view.lost")
    assert view.page.locator("#banner").is_visible()
    before, shown = view.js("view.cursor"), view.canvas(0)
    view.page.keyboard.press("ArrowUp")
    view.page.evaluate(TWO_FRAMES)
    assert view.js("view.cursor") == before, "what is seen stays what the page says it is"
    np.testing.assert_array_equal(view.canvas(0), shown)
    assert shown.std() > 10
    assert "Failed to fetch" not in view.page.inner_text("#status")
    context.close()


def test_orientation_marks_are_those_of_the_series(view: BrowserPage) -> None:
    marks = view.js("known.geometry.planes")
    assert marks["axial"]["marks"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert marks["coronal"]["marks"] == {"left": "R", "right": "L", "top": "S", "bottom": "I"}


def test_the_page_is_all_there_is_to_install() -> None:
    """No file of the page asks for anything from elsewhere."""
    folder = Path(__file__).parents[2] / "src" / "ctsr" / "viewer" / "page"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import", text), path.name
