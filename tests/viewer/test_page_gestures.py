"""The page under other hands: keys after a slider, Caps Lock, touch, a narrow window, a reload, three planes."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ctsr.degrade import Degradation
from ctsr.viewer import ViewOptions
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import slices, write
from tests.viewer.browser import BrowserPage, browser, exams, server, view

__all__ = ["browser", "exams", "server", "view"]
"""Fixtures."""


def test_keys_work_after_the_slider_and_with_caps_lock(view: BrowserPage) -> None:
    view.page.focus("#slider")
    view.press("ArrowUp")
    assert view.js("view.cursor[0]") == 7
    view.page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'C'}))")
    view.settle("view.plane === 'coronal'")
    # With Caps Lock on, w arrives as W, and shift+w as w.
    view.page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'W'}))")
    view.settle("view.center === -600 && view.width === 1500")
    view.page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'w', shiftKey: true}))")
    view.settle("view.center === 40 && view.width === 400")


def test_keys_move_the_plane_under_the_mouse_and_chips_pick_the_image_of_three_planes(view: BrowserPage) -> None:
    view.press("v")
    view.settle("stage.panes.length === 3")
    view.page.mouse.move(*view.at(1, 20, 10))
    before = view.js("view.cursor")
    view.press("ArrowDown")
    assert view.js("view.cursor") == [before[0], before[1] + 1, before[2]]
    panels = view.js("[...view.panels]")
    view.press("Shift+Digit1")
    view.settle("stage.panes.every((pane) => pane.images[0] === 'LR')")
    assert view.js("[...view.panels]") == panels, "what other planes show is not touched"
    assert view.page.get_attribute("#panels .LR", "aria-pressed") == "true"


def test_a_change_of_plane_leaves_no_stale_place(view: BrowserPage) -> None:
    view.page.mouse.move(*view.at(0, 20, 20))
    view.settle("view.hover")
    view.press("c")
    view.settle("view.hover === null")
    assert view.page.inner_text("#under") == ""


def test_a_reload_keeps_slice_plane_window_and_rectangle(view: BrowserPage) -> None:
    view.press("s")
    view.js("change({cursor: [3, 20, 31], center: -600, width: 1500})")
    view.js("change({box: {plane: 'sagittal', top: 1, left: 4, rows: 5, columns: 20}})")
    view.page.wait_for_function("() => location.hash.includes('roi=')")
    view.page.reload()
    view.settle()
    assert view.js("[view.plane, view.cursor, view.center, view.width]") == ["sagittal", [3, 20, 31], -600, 1500]
    assert view.js("view.box") == {"plane": "sagittal", "top": 1, "left": 4, "rows": 5, "columns": 20}
    view.page.evaluate("location.hash = '#series=9&cursor=1e9,x,-1&window=inf,0&plane=oblique'")
    view.page.reload()
    view.settle()
    assert view.js("[view.plane, view.cursor[0]]") == ["axial", 6]


def test_an_address_that_was_typed_is_not_written_over(view: BrowserPage) -> None:
    """What the page had still to write took its place, and the reload stayed where it was."""
    view.press("s")
    view.page.wait_for_function("() => location.hash.includes('plane=sagittal')")
    view.page.evaluate(
        "ctsr.change({ plane: 'coronal' }); location.hash = location.hash.replace(/cursor=\\d+/, 'cursor=3')"
    )
    view.page.wait_for_timeout(600)
    view.page.reload()
    view.settle()
    assert view.js("[view.plane, view.cursor[0]]") == ["sagittal", 3]


def test_the_windows_width_goes_in_steps_of_ten(view: BrowserPage) -> None:
    view.page.focus("#width")
    view.page.keyboard.press("ArrowUp")
    assert view.page.input_value("#width") == "410"


@pytest.mark.parametrize(("width", "height"), [(900, 900), (640, 400)])
def test_a_narrow_window_shows_every_image_whole(view: BrowserPage, width: int, height: int) -> None:
    view.page.set_viewport_size({"width": width, "height": height})
    view.settle()
    for number in range(5):
        pane = view.pane(number)
        assert pane["x"] >= 0
        assert pane["x"] + pane["w"] <= width
        assert pane["y"] + pane["h"] <= height
    assert not view.page.is_visible("#side")
    assert view.page.evaluate("document.getElementById('help-open').getBoundingClientRect().right <= innerWidth")
    assert view.page.evaluate("document.querySelector('header').offsetHeight") < 0.21 * height
    view.page.click("#drawer")
    assert view.page.is_visible("#metrics")
    view.shot(f"drawer_{width}")
    view.page.click("#drawer")
    assert not view.page.is_visible("#side")


LARGEST = """() => {
  const { stage } = window.ctsr, { panes } = stage, box = stage.element.getBoundingClientRect();
  const fits = panes.map((_, i) => {
    const [columns, rows] = [i + 1, Math.ceil(panes.length / (i + 1))];
    return Math.min(...panes.map((pane) => pane.fit(box.width / columns, box.height / rows)));
  });
  const covered = panes.reduce((sum, { width, height }) => sum + width * height, 0) / (box.width * box.height);
  return { scale: panes[0].transform.scale, largest: Math.max(...fits), covered };
}"""


@pytest.mark.parametrize(("width", "height"), [(900, 900), (1280, 720), (1920, 1080), (3840, 2160)])
def test_images_are_as_large_as_the_window_lets_them_be_and_no_place_is_empty(
    browser: Any, server: ViewServer, width: int, height: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(120_000)
    view = BrowserPage(context.new_page(), server, all_images=False)
    for key, count in (("0", 4), ("0", 4), ("v", 3)):  # the whole image, the body again, three planes
        view.press(key)
        view.settle(f"stage.panes.length === {count}")
        found = view.page.evaluate(LARGEST)
        assert found["scale"] > found["largest"] / 1.09
        assert found["covered"] > 0.98
    context.close()


HATCHED = """() => {
  const canvas = window.ctsr.stage.panes[3].marks;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 60 && Math.abs(data[i] - 138) < 8 && Math.abs(data[i + 1] - 109) < 8) return true;
  }
  return false;
}"""


@pytest.fixture
def touched(browser: Any, server: ViewServer) -> Iterator[BrowserPage]:
    context = browser.new_context(viewport={"width": 900, "height": 900}, has_touch=True)
    context.set_default_timeout(120_000)
    yield BrowserPage(context.new_page(), server)
    context.close()


def test_fingers_scroll_move_and_zoom(touched: BrowserPage) -> None:
    devtools = touched.page.context.new_cdp_session(touched.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    x, y = touched.at(0, 25, 30)
    cursor = touched.js("view.cursor")
    touch("touchStart", (x, y))
    touch("touchMove", (x, y - 15))
    touch("touchMove", (x, y - 43))
    touch("touchEnd")
    touched.settle("view.cursor[0] === 3")
    assert touched.js("view.cursor.slice(1)") == cursor[1:], "the hidden crosshair stays"
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 40, y), (x + 40, y))
    touch("touchEnd")
    touched.settle("Math.abs(view.zoom - 2) < 0.1")
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 20, y + 30), (x + 20, y + 30))
    touch("touchEnd")
    touched.settle("Math.abs(view.pan.axial[1]) > 1")


def test_missing_slices_do_not_look_like_slices_that_will_come(browser: Any, tmp_path: Path) -> None:
    made = slices(8)
    del made[3]
    write(tmp_path / "p", made)
    options = ViewOptions(store=tmp_path / "store")
    session = open_session(prepare(ViewRequest(tmp_path / "p", None, Degradation(), options)), options)
    with ViewServer(session) as own:
        Thread(target=own.serve_forever, daemon=True).start()
        context = browser.new_context()
        context.set_default_timeout(120_000)
        view = BrowserPage(context.new_page(), own)
        view.press("c")
        view.settle("stage.panes.every((pane) => pane.shown[0]?.complete)")
        hatched = view.page.evaluate(HATCHED)
        assert hatched
        context.close()
        own.shutdown()
