"""A real browser on the viewer's page: fixtures, and what a reader does with the page."""

import base64
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from playwright import sync_api as playwright

from ctsr.evaluate.methods import load_model_under_test
from ctsr.hu import Window
from ctsr.viewer import ViewOptions
from ctsr.viewer.images import PanelImage, PanelName
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import ViewedSlice, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import body, save_series
from tests.needs import needs_program

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""The main states, for whoever wants to look at them after a run; not in git."""
SLICES, SIZE = 12, 97
WIDTH, HEIGHT = 1280, 800


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients; pixels are not square and slices are thick, so that nothing fits by chance."""
    root = tmp_path_factory.mktemp("exams")
    for seed, name in enumerate(("anna", "bert")):
        images = [
            body(SIZE, seed=100 * seed + i, texture=300, smooth=1.5, radius=0.9 - 0.03 * i) for i in range(SLICES)
        ]
        save_series(root / name / "s", images, series=f"1.7.{seed}", spacing=(0.8, 0.6), PatientID=name)
    return root


@contextmanager
def serving(request: ViewRequest) -> Generator[ViewServer]:
    """The server of a viewer, listening while the block runs."""
    with ViewServer(open_session(prepare(request), request.options)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def server(exams: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    options = ViewOptions(store=tmp_path_factory.mktemp("store"))
    model = load_model_under_test(str(model_path), device="cpu")
    with serving(ViewRequest(exams, model, model.degradation, options)) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = needs_program("chromium", "chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


NAMES = "const {view, known, stage, store, now, change} = window.ctsr;"
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


class BrowserPage:
    """A page, and what a reader would do with it."""

    def __init__(self, page: Any, server: ViewServer, *, all_images: bool = True) -> None:
        """With `all_images`, the whole of every image is shown, and is what resetting returns to."""
        self.page, self.session = page, server.session
        self.troubles: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.troubles.append(message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(server.address)
        self.settle()
        if all_images:
            self.js("Object.assign(now.start, {panels: known.state.panels, fit: 'image'})")
            self.js("change({panels: new Set(known.state.panels), fit: 'image'})")
            self.settle("stage.panes.length === known.state.panels.length")
            self.settle()

    def js(self, expression: str) -> Any:
        return self.page.evaluate(f"() => {{ {NAMES} return {expression}; }}")

    def settle(self, ready: str = "stage.panes.every((pane) => pane.shown.some(Boolean))") -> None:
        """Until every pane has its picture, two frames later, and so has whatever else is asked for."""
        self.page.wait_for_function(
            f"() => {{ if (!window.ctsr?.known.geometry) return false; {NAMES} return {ready}; }}"
        )
        self.page.evaluate(TWO_FRAMES)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.page.evaluate(TWO_FRAMES)
        self.settle()

    def pane(self, number: int) -> dict[str, float]:
        return self.js(
            f"(() => {{ const p = stage.panes[{number}], b = p.element.getBoundingClientRect(), t = p.transform;"
            " return {x: b.left, y: b.top, w: b.width, h: b.height, ...t}; })()"
        )

    def at(self, number: int, x_mm: float, y_mm: float) -> tuple[float, float]:
        """A point of a pane's image on the screen."""
        pane = self.pane(number)
        return pane["x"] + pane["left"] + x_mm * pane["scale"], pane["y"] + pane["top"] + y_mm * pane["scale"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up(button=button)
        self.settle()

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def canvas(self, number: int) -> np.ndarray:
        """(rows, columns, 3) as a pane's canvas has them."""
        url = self.js(f"stage.panes[{number}].image.toDataURL('image/png')")
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        return np.rint(image[:, :, :3] * 255).astype(np.uint8)

    def image(self, panel: PanelName, plane: str, index: int) -> PanelImage:
        """What the panel should show."""
        series = self.session.series[self.js("view.series")]
        look = ViewedSlice(series, self.session.settings[self.js("view.setting")], self.js("view.cursor[0]"))
        picture = self.session.image(panel, look, plane, index)
        assert picture.complete
        return picture

    def hu(self, panel: PanelName, plane: str, index: int) -> np.ndarray:
        """The same in whole HU."""
        return self.image(panel, plane, index).int16(self.session.state.hu_range)


@contextmanager
def opened(browser: Any, server: ViewServer) -> Generator[BrowserPage]:
    """The page in a window of its own, which must stay without troubles."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, accept_downloads=True)
    context.set_default_timeout(120_000)
    view = BrowserPage(context.new_page(), server)
    yield view
    assert view.troubles == [], "the console stays empty"
    assert all(url.startswith((server.address, "blob:")) for url in view.requests), "nothing leaves this computer"
    context.close()


@pytest.fixture
def view(browser: Any, server: ViewServer) -> Iterator[BrowserPage]:
    with opened(browser, server) as view:
        yield view


def wait_for_sr(view: BrowserPage) -> None:
    """All of it: the network is tiny."""
    view.settle("document.getElementById('progress').textContent.includes('SR 12 of 12')")


def grey(hu: np.ndarray, window: Window) -> np.ndarray:
    return np.floor(np.clip((hu - window.low) / window.width, 0, 1) * 255 + 0.5)


def assert_shows(view: BrowserPage, number: int, hu: np.ndarray, window: Window) -> None:
    """Each screen pixel whose centre lies clearly inside an image pixel has that pixel's grey."""
    pane, canvas = view.pane(number), view.canvas(number)
    size = view.js(f"known.geometry.planes[stage.panes[{number}].plane]")
    height, width = (size["size"][i] * size["pixel"][i] * pane["scale"] for i in (0, 1))
    rows = (np.arange(canvas.shape[0]) + 0.5 - pane["top"]) / height * hu.shape[0]
    columns = (np.arange(canvas.shape[1]) + 0.5 - pane["left"]) / width * hu.shape[1]
    clear = [np.abs(place - np.rint(place)) > 0.1 for place in (rows, columns)]
    inside = [(place > 0.1) & (place < count - 0.1) for place, count in zip((rows, columns), hu.shape, strict=True)]
    down, across = clear[0] & inside[0], clear[1] & inside[1]
    assert down.sum() > 40
    assert across.sum() > 40
    expected = grey(hu, window)[np.floor(rows[down]).astype(int)][:, np.floor(columns[across]).astype(int)]
    shown = canvas[down][:, across]
    for channel in range(3):
        np.testing.assert_array_equal(shown[:, :, channel], expected)
