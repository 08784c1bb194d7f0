"""What a radiologist's hand expects: mouse buttons, presets, measures, loupe, slabs, layouts; beside NumPy."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctsr.evaluate.methods import load_model_under_test
from ctsr.hu import PRESETS, Window
from ctsr.viewer import ViewOptions
from ctsr.viewer.images import slab_indices
from ctsr.viewer.state import ViewRequest
from tests.viewer.browser import (
    BrowserPage,
    assert_shows,
    browser,
    exams,
    grey,
    opened,
    server,
    serving,
    view,
    wait_for_sr,
)

__all__ = ["browser", "exams", "server", "view"]
"""Fixtures."""

COMPLETE = "stage.panes.every((pane) => pane.shown[0]?.complete && !pane.pending)"


def test_each_button_has_its_habit(view: BrowserPage) -> None:
    x, y = map(round, view.at(4, 25, 30))
    before = view.pane(4)
    view.drag((x, y), (x + 30, y + 10))
    assert (view.js("view.width"), view.js("view.center")) == (430, 50)
    assert view.js("view.cursor[2]") == 48, "a drag sets no point"
    view.page.mouse.click(x, y)
    view.settle("view.cursor[2] === 41")
    view.drag((x, y), (x + 24, y + 9), button="middle")
    moved = view.pane(4)
    assert (moved["left"] - before["left"], moved["top"] - before["top"]) == pytest.approx((24, 9), abs=1e-6)
    place = (x - moved["x"] - moved["left"]) / moved["scale"], (y - moved["y"] - moved["top"]) / moved["scale"]
    view.drag((x, y), (x, y - 100), button="right")
    assert view.js("view.zoom") == pytest.approx(math.exp(100 / 200))
    assert view.at(4, *place) == pytest.approx((x, y), abs=0.01), "what was under the mouse stays there"


def test_the_right_button_can_be_the_windows(view: BrowserPage) -> None:
    view.page.keyboard.press("?")
    view.page.click("#classic")
    view.page.keyboard.press("?")
    view.settle("view.classic")
    x, y = view.at(4, 25, 30)
    view.drag((x, y), (x + 50, y), button="right")
    assert view.js("view.width") == 450
    view.drag(view.at(4, 10, 10), view.at(4, 20.2, 30.2))
    assert view.js("view.cursor.slice(1)") == [37, 33]
    view.page.wait_for_function("() => location.hash.includes('mouse=classic')")
    view.page.reload()
    view.settle()
    assert view.js("view.classic"), "a reload keeps it"


def test_a_double_click_shows_one_image_alone(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.page.mouse.dblclick(*view.at(3, 30, 30))
    view.settle("stage.panes.length === 1")
    assert view.js("stage.panes[0].images") == ["SR"]
    assert_shows(view, 0, view.hu("SR", "axial", 6), Window(40, 400))
    view.page.mouse.dblclick(*view.at(0, 30, 30))
    view.settle("stage.panes.length === 5")
    view.page.mouse.dblclick(*view.at(3, 30, 30))
    view.settle("stage.panes.length === 1")
    view.press("c")
    view.settle("stage.panes.length === 5")


def test_presets_lie_on_the_number_keys_and_images_beside_shift(view: BrowserPage) -> None:
    for key, window in enumerate(PRESETS.values(), start=1):
        view.press(str(key))
        assert (view.js("view.center"), view.js("view.width")) == (window.center, window.width)
    view.press("Shift+Digit2")
    view.settle("stage.panes.length === 4")
    assert "Bilinear" not in view.js("[...view.panels]")


MARKS = "stage.panes.map((pane) => pane.marks.toDataURL())"


def test_corners_have_patient_slice_and_window(view: BrowserPage) -> None:
    view.page.set_viewport_size({"width": 1920, "height": 1080})
    view.settle("stage.panes[0].width > 400")
    with_text = view.js(MARKS)
    view.press("i")
    without = view.js(MARKS)
    assert all(a != b for a, b in zip(with_text, without, strict=True))
    view.press("i")
    assert view.js(MARKS) == with_text
    view.press("2")
    assert view.js(MARKS) != with_text, "the window is among it"


def test_lengths_and_angles_are_in_mm_and_degrees(view: BrowserPage) -> None:
    view.press("t")
    view.drag(view.at(4, 10, 12), view.at(4, 40, 52))
    (length,) = view.js("view.shapes")
    (ax, ay), (bx, by) = length["points"]
    module = "import(new URL('regions.js', location.href.split('#')[0]).href)"
    shown = view.page.evaluate(f"(points) => {module}.then(({{lengthOf}}) => lengthOf(points))", length["points"])
    assert shown == pytest.approx(math.hypot(bx - ax, by - ay))
    assert shown == pytest.approx(50, abs=1)
    view.press("y")
    view.drag(view.at(4, 45, 20), view.at(4, 20, 20))
    view.page.mouse.move(*view.at(4, 20, 45))
    view.page.mouse.click(*view.at(4, 20, 45))
    view.settle("view.shapes.length === 2 && !view.shapes[1].open")
    points = np.array(view.js("view.shapes[1].points"))
    u, v = points[0] - points[1], points[2] - points[1]
    degrees = np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
    shown = view.page.evaluate(f"(points) => {module}.then(({{angleOf}}) => angleOf(points))", points.tolist())
    assert shown == pytest.approx(degrees)
    assert shown == pytest.approx(90, abs=2)
    view.shot("measures")
    view.press("Delete")
    assert view.js("view.shapes.map(({kind}) => kind)") == ["length"]
    view.press("q")
    shown = view.js(MARKS)
    view.press("ArrowUp")
    assert view.js("view.shapes.length") == 1
    view.press("Escape")
    assert view.js("view.shapes") == []
    assert view.js(MARKS) != shown


def statistics(view: BrowserPage, key: str, panel: str) -> tuple[float, float, int]:
    view.settle(f"known.statistics.get({key})?.{panel}")
    return tuple(view.js(f"known.statistics.get({key}).{panel}"))  # pyright: ignore[reportReturnType]


def region_key(region: dict[str, Any], index: int) -> str:
    shape = region.get("shape", "")
    place = f"{region['top']}/{region['left']}/{region['rows']}/{region['columns']}/{shape}"
    return f"'0/0/axial/{index}/{place}'"


def test_several_regions_stay_are_moved_and_sized(view: BrowserPage, tmp_path: Path) -> None:
    wait_for_sr(view)
    view.press("o")
    view.drag(view.at(4, 10, 16), view.at(4, 20, 30))
    first = view.js("view.box")
    view.press("e")
    view.drag(view.at(4, 30, 24), view.at(4, 48, 56))
    ellipse = view.js("view.box")
    assert ellipse["shape"] == "ellipse"
    assert view.js("view.regions") == [first], "the one before stays"
    hu = view.hu("HR", "axial", 6).astype(float)
    for region in (first, ellipse):
        top, left, rows, columns = (region[name] for name in ("top", "left", "rows", "columns"))
        inside = hu[top : top + rows, left : left + columns]
        if "shape" in region:
            y, x = np.mgrid[:rows, :columns] + 0.5
            inside = inside[((y / rows - 0.5) * 2) ** 2 + ((x / columns - 0.5) * 2) ** 2 <= 1]
        mean, sd, pixels = statistics(view, region_key(region, 6), "HR")
        assert (mean, sd, pixels) == (pytest.approx(inside.mean()), pytest.approx(inside.std()), inside.size)
    assert statistics(view, region_key(ellipse, 6), "LR")[2] == pytest.approx(
        np.pi / 16 * ellipse["rows"] * ellipse["columns"], rel=0.05
    )
    view.shot("regions")
    view.settle("now.slice && now.region")
    with view.page.expect_download() as saved:
        view.page.keyboard.press("Shift+P")
    saved.value.save_as(tmp_path / "numbers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    for region in (first, ellipse):
        place = " ".join(str(region[name]) for name in ("top", "left", "rows", "columns"))
        place += " ellipse" if "shape" in region else ""
        (row,) = (row for row in rows if (row["region"], row["image"]) == (place, "HR"))
        assert (float(row["mean_hu"]), float(row["sd_hu"])) == statistics(view, region_key(region, 6), "HR")[:2]
    view.press("q")
    # By an edge it is carried, by a corner sized; whichever is taken hold of is measured.
    left, top = first["left"] * 0.6, first["top"] * 0.8
    view.drag(view.at(4, left, top + 6), view.at(4, left + 6.1, top + 14.1))
    carried = view.js("view.box")
    assert (carried["left"], carried["top"]) == (first["left"] + 10, first["top"] + 10)
    assert (carried["rows"], carried["columns"]) == (first["rows"], first["columns"])
    right, bottom = (carried["left"] + carried["columns"]) * 0.6, (carried["top"] + carried["rows"]) * 0.8
    view.drag(view.at(4, right, bottom), view.at(4, right + 5.7, bottom + 3.9))
    assert view.js("[view.box.rows, view.box.columns]") == [carried["rows"] + 5, carried["columns"] + 10]
    view.press("Delete")
    assert view.js("[view.box.shape, view.regions.length]") == ["ellipse", 0]


def test_the_corner_that_is_not_taken_hold_of_stays_where_it_is(view: BrowserPage) -> None:
    module = "import(new URL('regions.js', location.href.split('#')[0]).href)"
    drawn = "[7 * 0.6, 3 * 0.8], [14 * 0.6, 6 * 0.8]"
    box = view.page.evaluate(f"() => {module}.then(({{boxOf}}) => boxOf('axial', {drawn}))")
    assert box == {"plane": "axial", "left": 7, "top": 3, "columns": 7, "rows": 3}


def test_a_keyboard_alone_draws_moves_and_sizes(view: BrowserPage) -> None:
    view.press("o", "Enter")
    box = view.js("view.box")
    assert box["rows"] > 10
    view.press("Alt+ArrowRight", "Alt+ArrowDown", "Alt+Shift+ArrowRight")
    assert view.js("view.box") == box | {"left": box["left"] + 1, "top": box["top"] + 1, "columns": box["columns"] + 1}
    view.press("Escape", "l", "Enter")
    view.settle("now.curves && Object.keys(now.curves).length > 0")
    view.press("Escape", "x", "Alt+ArrowLeft")
    assert view.js("view.wipe") == pytest.approx(0.48)


def test_the_loupe_enlarges_one_place_in_every_image(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("z")
    view.page.mouse.move(*view.at(4, 20.3, 41.5))
    view.settle("view.hover")
    hover = view.js("view.hover")
    row, column = int(hover["y"] / 0.8), int(hover["x"] / 0.6)
    for number, panel in ((2, "Bicubic"), (3, "SR")):
        # A little off the mark that shows where the mouse is.
        offset = 3
        dx = 4 * view.pane(number)["scale"] * 0.6 * ((column + 0.5) - hover["x"] / 0.6)
        dy = 4 * view.pane(number)["scale"] * 0.8 * ((row + 0.5 + offset) - hover["y"] / 0.8)
        shown = view.js(
            f"(() => {{ const p = stage.panes[{number}], t = p.transform; const at = (v) => Math.round(v * p.ratio);"
            f" return [...p.marks.getContext('2d').getImageData(at(t.left + {hover['x']} * t.scale + {dx}),"
            f" at(t.top + {hover['y']} * t.scale + {dy}), 1, 1).data]; }})()"
        )
        expected = grey(view.hu(panel, "axial", 6)[row + offset, column], Window(40, 400))
        assert shown == [expected, expected, expected, 255]
    view.shot("loupe")


@pytest.mark.parametrize(("kind", "project"), [("max", np.max), ("mean", np.mean), ("min", np.min)])
def test_slabs_project_what_lies_within(view: BrowserPage, tmp_path: Path, kind: str, project: Any) -> None:
    wait_for_sr(view)
    view.page.select_option("#slab", kind)
    view.settle(f"view.slab === '{kind}' && {COMPLETE}")
    geometry = view.session.series[0].geometry
    assert slab_indices(geometry, "axial", 6, 10) == [4, 5, 6, 7, 8]
    for number, panel in enumerate(("LR", "Bilinear", "Bicubic", "SR", "HR")):
        state = view.session.state
        images = [view.image(panel, "axial", index).hu(state.hu_range) for index in range(4, 9)]
        expected = np.rint(project(np.stack(images), axis=0))
        shown = np.array(view.js(f"Array.from(stage.panes[{number}].picture(0).data)"))
        assert np.abs(shown - expected.ravel()).max() <= (1 if kind == "mean" else 0), "rounded in float32"
    view.press("l")
    view.drag(view.at(0, 6.4, 10.2), view.at(0, 50.1, 60.3))
    view.settle("now.curves && Object.keys(now.curves).length === 5")
    with view.page.expect_download() as saved:
        view.page.click("#save-profile")
    saved.value.save_as(tmp_path / "profile.csv")
    (row, *_) = csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text()))
    assert (row["slab"], row["slab_mm"]) == ({"max": "MIP", "mean": "average", "min": "MinIP"}[kind], "10")
    before = view.js("now.curves")
    view.page.select_option("#slab", "")
    view.settle(f"view.slab === '' && {COMPLETE}")
    assert view.js("now.curves") != before, "of what is shown now"
    view.page.select_option("#slab", kind)
    view.press("q", "c", ",", ",")
    view.settle(f"view.slabMm === 8 && view.plane === 'coronal' && {COMPLETE}")
    indices = slab_indices(geometry, "coronal", 48, 8)
    assert indices == list(range(43, 54))
    stack = np.stack([view.hu("HR", "coronal", index) for index in indices])
    shown = np.array(view.js("Array.from(stage.panes[4].picture(0).data)"))
    assert np.abs(shown - np.rint(project(stack.astype(float), axis=0)).ravel()).max() <= (1 if kind == "mean" else 0)


def test_layouts_go_round_on_one_key(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.page.select_option("#layout", "2 × 2")
    view.settle("stage.panes.length === 4")
    assert view.js("stage.panes.map((pane) => pane.title)") == ["HR", "SR", "Bicubic", "SR − HR"]
    view.press("k")
    assert view.js("stage.panes.map((pane) => pane.title)") == ["LR", "SR", "HR"]
    view.press("k", "k")
    view.settle("stage.panes.length === 6")
    shown = view.js("stage.panes.map((pane) => `${pane.images[0]} ${pane.plane}`)")
    assert shown == [f"{image} {plane}" for image in ("SR", "HR") for plane in ("axial", "coronal", "sagittal")]
    assert view.page.input_value("#layout") == "3 planes × 2"
    pressed = "[...document.querySelectorAll('#panels [aria-pressed=true]')].map((chip) => chip.className)"
    assert view.js(pressed) == ["SR", "HR"], "chips say which images the planes are of"
    view.shot("planes_twice")
    view.press("k")
    view.settle("stage.panes.length === 4")
    assert view.js("view.plane") == "axial"


def test_slices_play_and_begin_again(view: BrowserPage) -> None:
    view.press("j")
    view.settle("view.cursor[0] === 4")
    view.settle("view.cursor[0] > 6")  # past the last towards the feet, from the head again
    view.page.keyboard.press("j")
    view.settle("!view.playing")
    assert not view.js("view.playing")


def test_the_images_have_the_whole_screen(view: BrowserPage) -> None:
    view.page.keyboard.press("f")
    view.settle("document.fullscreenElement?.id === 'work'")
    assert view.js("document.getElementById('work').clientHeight === innerHeight")
    view.page.keyboard.press("f")
    view.settle("!document.fullscreenElement")
    assert view.js("document.fullscreenElement === null")


def test_grey_levels_are_turned_round(view: BrowserPage) -> None:
    view.press("Shift+I")
    view.settle("view.invert")
    view.press("+", "+", "+")
    hu, pane = view.hu("HR", "axial", 6), view.pane(4)
    y, x = 48, 48
    canvas = view.canvas(4)
    shown = canvas[
        int(pane["top"] + (y + 0.5) * 0.8 * pane["scale"]), int(pane["left"] + (x + 0.5) * 0.6 * pane["scale"])
    ]
    assert list(shown) == [255 - grey(hu[y, x], Window(40, 400))] * 3


def test_a_checkerboard_is_made_of_both_images(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("Shift+X")
    view.settle("stage.panes.length === 1 && stage.panes[0].shown.every(Boolean)")
    board = view.canvas(0)
    view.press("b", " ")
    one = view.canvas(0)
    first = view.js("stage.panes[0].images[Number(view.flipped)]")
    view.press(" ")
    other = view.canvas(0)
    sr, hr = (one, other) if first == "SR" else (other, one)
    side = round(min(board.shape[:2]) / 8)
    rows, columns = (np.arange(size) // side for size in board.shape[:2])
    odd = (rows[:, None] + columns[None, :]) % 2 == 1
    np.testing.assert_array_equal(board[odd], sr[odd])
    np.testing.assert_array_equal(board[~odd], hr[~odd])
    assert (sr != hr).any()


def test_a_profile_leaves_as_csv(view: BrowserPage, tmp_path: Path) -> None:
    wait_for_sr(view)
    view.press("l")
    view.drag(view.at(0, 6.4, 10.2), view.at(0, 50.1, 60.3))
    view.settle("now.curves && Object.keys(now.curves).length === 5")
    with view.page.expect_download() as saved:
        view.page.click("#save-profile")
    assert saved.value.suggested_filename == "ctsr_anna_axial_6_profile_axial.csv"
    saved.value.save_as(tmp_path / "profile.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text())))
    for panel, values in view.js("now.curves").items():
        assert [float(row[f"{panel}_hu"]) for row in rows] == values
    line = view.js("view.line")
    length = math.dist(line["from"], line["to"])
    assert [float(row["mm"]) for row in rows] == pytest.approx(np.linspace(0, length, len(rows)))


def test_one_figure_stands_first_and_all_metrics_are_folded_until_they_are_wanted(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.settle("now.slice && Object.keys(now.slice.metrics).length === 3")
    psnr = view.js("now.slice.metrics[known.state.methods.SR].PSNR.value")
    assert f"{psnr:.2f} dB" in view.page.inner_text("#metrics .figure strong")
    assert not view.page.is_visible("#metrics table")
    view.page.click("#metrics summary")
    assert view.page.is_visible("#metrics table")
    before = view.js("now.slice")
    view.press("ArrowDown")
    view.settle("now.slice && Object.keys(now.slice.metrics).length === 3")
    assert view.js("now.slice") != before
    assert view.page.is_visible("#metrics table"), "opened, it stays open"


def test_the_linear_filter_is_an_image_a_curve_and_a_column_like_bicubic(
    browser: Any, exams: Path, model_path: Path, tmp_path: Path
) -> None:
    model = load_model_under_test(str(model_path), device="cpu")
    # The last slices of these bodies are small: evaluations take them for cut off.
    options = ViewOptions(store=tmp_path, baselines=("bicubic", "linear"), assume_hu=True)
    with serving(ViewRequest(exams, model, model.degradation, options)) as server, opened(browser, server) as view:
        wait_for_sr(view)
        assert view.js("known.state.panels") == ["LR", "Bicubic", "Linear", "SR", "HR"]
        number = view.js("stage.panes.findIndex((pane) => pane.images[0] === 'Linear')")
        assert_shows(view, number, view.hu("Linear", "axial", 6), Window(40, 400))
        view.press("Shift+Digit3")
        assert "Linear" not in view.js("stage.panes.map((pane) => pane.images[0])")
        view.page.click("#panels .Linear")
        view.settle("stage.panes.some((pane) => pane.images[0] === 'Linear')")
        view.press("d")
        view.page.select_option("#subtrahend", "Linear")
        view.settle("stage.panes.at(-1).title === 'SR − Linear'")
        view.settle("now.slice && 'Filter (Linear)' in now.slice.metrics")
        assert "Linear" in view.page.locator("#metrics table").first.text_content()
