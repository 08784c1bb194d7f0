"""axe-core finds nothing serious, at any width and at 200 %; what a screen reader hears does not talk at every move."""

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser

from ctsr.viewer.server import ViewServer
from tests.viewer.browser import BrowserPage, browser, exams, server, view, wait_for_sr

__all__ = ["browser", "exams", "server", "view"]
"""Fixtures."""

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
GRAVE = {"serious", "critical"}


def findings(page: Any) -> list[str]:
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run()")["violations"]
    return [
        f"{rule['id']} {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(
    ("width", "height", "ratio"), [(900, 900, 1), (1280, 720, 1), (1920, 1080, 1), (3840, 2160, 1), (640, 400, 2)]
)
def test_nothing_serious_at_any_size(browser: Browser, server: ViewServer, width: int, height: int, ratio: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=ratio)
    context.set_default_timeout(120_000)
    page = BrowserPage(context.new_page(), server, all_images=False)
    wait_for_sr(page)
    page.press("o", "Enter")
    page.settle("now.slice && now.region && Object.keys(now.region.metrics).length === 3")
    if width <= 1080:
        page.page.click("#drawer")
    for folded in page.page.locator("#side summary", has_text="All metrics").all():
        folded.click()
    assert findings(page.page) == []
    page.shot(f"start_{width}_{ratio}")
    page.page.keyboard.press("Escape")
    page.press("l", "Enter")
    assert findings(page.page) == []
    page.page.keyboard.press("?")
    assert findings(page.page) == []
    context.close()


def test_only_news_is_spoken(view: BrowserPage) -> None:
    assert view.page.evaluate("[...document.querySelectorAll('[role=status], [aria-live]')].map((e) => e.id)") == [
        "news"
    ]
    view.page.mouse.move(*view.at(0, 20, 20))
    view.settle("view.hover")
    assert view.page.inner_text("#under") != ""
    assert view.page.inner_text("#news") == ""


def test_every_control_has_a_name_and_tables_have_heads(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.settle("document.querySelectorAll('#metrics td.best').length >= 8")
    assert view.page.evaluate(
        "[...document.querySelectorAll('#metrics tr')].every((row) => row.querySelector('th[scope]'))"
    )
    nameless = "[...document.querySelectorAll('#rail button')].filter((b) => !b.getAttribute('aria-label') || !b.title)"
    assert view.page.evaluate(f"{nameless}.length") == 0
    mark = "getComputedStyle(document.querySelector('#metrics td.best'), '::before').content"
    assert "▸" in view.page.evaluate(mark), "the best is marked by more than its colour"
