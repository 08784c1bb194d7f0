"""`python -m benchmarks.viewer_pictures FOLDER`: the viewer's page and a report's head on synthetic exams, as pictures.

The pictures of the documentation are made with it (FOLDER `docs/images`).
"""

import argparse
import io
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.common import workspace
from benchmarks.view import FLAGS
from ctsr.degrade import Degradation
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import evaluate
from ctsr.evaluate.methods import load_model_under_test
from ctsr.figures import with_palette
from ctsr.phantom import make_exams
from ctsr.viewer import ViewOptions
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import open_session
from ctsr.viewer.state import ViewRequest, prepare

PATIENT = "SYN-001"
READY = """() => {
  const {stage, now, known} = window.ctsr ?? {};
  const count = Object.keys(now?.slice?.metrics ?? {}).length;
  const measured = known?.state?.strength ? now.drawn?.before_after : count === 3;
  return measured && stage.panes.every((pane) => pane.picture(0) && !pane.pending);
}"""
SHOWN = """() => {
  const { stage, known } = window.ctsr ?? {};
  return known?.geometry && stage.panes.length && stage.panes.every((pane) => pane.picture(0) && !pane.pending);
}"""
SIZES = {
    "narrow": (900, 900, 1),
    "1280": (1280, 720, 1),
    "1920": (1920, 1080, 1),
    "4k": (3840, 2160, 1),
    "200": (640, 400, 2),
}
"""Width and height of windows in CSS pixels, and how many pixels of the screen one of these has."""
AT = """([number, x, y]) => {
  const pane = window.ctsr.stage.panes[number], box = pane.element.getBoundingClientRect(), t = pane.transform;
  const [left, top, right, bottom] = window.ctsr.known.geometry.body[pane.plane];
  const mm = [left + x * (right - left), top + y * (bottom - top)];
  return [box.left + t.left + mm[0] * t.scale, box.top + t.top + mm[1] * t.scale];
}"""
"""A place in a pane, as shares of the body's box, on the screen."""


def main() -> int:
    """Draw the pictures and name them. Exit status 1 without Chromium."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives the pictures")
    parser.add_argument("--sizes", action="store_true", help="also other widths, three planes, slices between slices")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no chromium here (Debian package chromium)", file=sys.stderr)
        return 1
    with workspace() as folder, sync_playwright() as started:
        make_exams(folder / "exams", patients=1, workers=1)
        browser = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(300_000)
        with _viewer(folder, native=False) as address:
            _open(page, address)
            _save(page, given.folder / "view.png")
            _tools(page)
            _save(page, given.folder / "view_tools.png")
        with _viewer(folder, native=True) as address:
            _open(page, address)
            page.keyboard.press("z")
            page.mouse.move(*page.evaluate(AT, [1, 0.4, 0.5]))
            _save(page, given.folder / "view_native.png")
        if given.sizes:
            _sizes(browser, folder, given.folder)
        page.set_viewport_size({"width": 1180, "height": 900})
        page.goto(_report(folder).as_uri())
        _save(page, given.folder / "report.png")
        if given.sizes:
            page.pdf(path=given.folder / "report.pdf", prefer_css_page_size=True)
            print(given.folder / "report.pdf", flush=True)
        browser.close()
    return 0


@contextmanager
def _viewer(folder: Path, **chosen: Any) -> Generator[str]:
    options = ViewOptions(store=folder / "store", **chosen)
    model = load_model_under_test(options.default_model or "ctsr-x2", device="cpu", kind=options.model_kind)
    degradation = Degradation() if options.wants_slices_between else model.degradation
    request = ViewRequest(folder / "exams" / PATIENT, model, degradation, options)
    with ViewServer(open_session(prepare(request), options)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.address
        server.shutdown()


def _sizes(browser: Browser, folder: Path, out: Path) -> None:
    """The page in windows of other sizes, at 200 %, in three planes and on slices between slices."""
    with _viewer(folder, native=False) as address:
        for name, (width, height, ratio) in SIZES.items():
            with browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=ratio) as page:
                page.set_default_timeout(300_000)
                _open(page, address)
                _save(page, out / f"view_{name}.png")
                page.keyboard.press("v")
                page.wait_for_function(SHOWN)
                _save(page, out / f"view_{name}_planes.png")
    between = _viewer(folder, native=True, slice_spacing=1.0, plane="coronal")
    with between as address, browser.new_page(viewport={"width": 1600, "height": 900}) as page:
        page.set_default_timeout(600_000)
        page.goto(address)
        page.wait_for_function(SHOWN)
        page.wait_for_function("() => window.ctsr.stage.panes.every((pane) => pane.shown[0].complete)")
        _save(page, out / "view_between.png")


def _report(folder: Path) -> Path:
    """The page of an evaluation of the bundled model on the validation patient of three."""
    make_exams(folder / "more", patients=3, workers=1)
    model = load_model_under_test("ctsr-x2", device="cpu")
    options = EvaluateOptions(
        root=(folder / "more",), store=folder / "store", output_dir=folder / "results", max_slices_per_patient=6
    )
    return evaluate([model], model.degradation, options).folder / "report.html"


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(READY)


def _drag(page: Page, number: int, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*page.evaluate(AT, [number, *start]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(AT, [number, *end]))
    page.mouse.up()


def _tools(page: Page) -> None:
    """An ellipse, a length, a profile and the loupe."""
    page.keyboard.press("e")
    _drag(page, 1, (0.62, 0.4), (0.78, 0.6))
    page.wait_for_function("() => window.ctsr.now.region?.statistics.SR")
    page.keyboard.press("t")
    _drag(page, 1, (0.1, 0.2), (0.5, 0.15))
    page.keyboard.press("l")
    _drag(page, 1, (0.05, 0.75), (0.95, 0.75))
    page.keyboard.press("z")
    page.mouse.move(*page.evaluate(AT, [1, 0.3, 0.5]))
    page.wait_for_function(READY)


def _save(page: Page, path: Path) -> None:
    page.wait_for_timeout(300)
    with Image.open(io.BytesIO(page.screenshot())) as image:
        with_palette(np.asarray(image.convert("RGB"))).save(path, optimize=True)
    print(path, flush=True)


if __name__ == "__main__":
    sys.exit(main())
