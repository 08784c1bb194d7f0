"""Reasons to read figures with care: found in Python, shown on the page beside the figures."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctsr.checkpoint import TrainingCard
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.exams import scan_patient
from ctsr.hu import HURange, Window
from ctsr.preprocess import preprocess
from ctsr.viewer.images import PanelImage
from ctsr.viewer.roi_metrics import PixelRect, coverage, find_caveats
from tests.made.exams import save_patient
from tests.viewer.browser import BrowserPage, browser, exams, server, view, wait_for_sr

__all__ = ["browser", "exams", "server", "view"]
"""Fixtures."""


def kinds(path: Path, model: ModelUnderTest | None) -> list[str]:
    (found,) = find_caveats(scan_patient(path).series, model)
    return [caveat.kind for caveat in found if caveat.kind != "domain"]


def test_a_patient_of_the_training_part_is_named(root: Path, model: ModelUnderTest) -> None:
    assert kinds(root / "anna", model) == ["trained"]
    assert kinds(root / "fred", model) == []
    assert kinds(root / "anna", None) == []


def test_a_series_unlike_the_training_is_named(root: Path, model: ModelUnderTest) -> None:
    meta = model.model.meta
    assert meta is not None
    card = TrainingCard((2.0, 3.0), (1.0, 2.0), {"B30f": 4}, {"train": 4})
    elsewhere = replace(model, model=replace(model.model, meta=replace(meta, card=card)))
    (found,) = find_caveats(scan_patient(root / "fred").series, elsewhere)
    texts = [caveat.text for caveat in found if caveat.kind == "domain"]
    assert any(text.startswith("LR pixel spacing") and "trained for 4 … 6 mm" in text for text in texts)
    assert any(text.startswith("Slice thickness") for text in texts)


@pytest.mark.parametrize(("target", "expected"), [(0.5, ["upsampled"]), (1.5, [])])
def test_a_reference_that_preprocessing_upsampled_is_named(tmp_path: Path, target: float, expected: list[str]) -> None:
    save_patient(tmp_path / "raw", "gina", slices=1, size=32)
    preprocess(tmp_path / "raw", tmp_path / "out", target_spacing=target, workers=1)
    assert kinds(tmp_path / "out" / "ginapp", None) == expected


def test_coverage_counts_pixels_of_the_reference_by_hu() -> None:
    hu = np.array([[-1024, -1000, 0, 100], [240, 241, 2000, 2001]], dtype=np.float32)
    image = PanelImage(hu, True, np.zeros(2, np.bool_), np.zeros(2, np.bool_))
    whole = coverage(image, None, Window(40, 400), HURange())
    assert (whole.in_window, whole.outside_range, whole.constant) == (3 / 8, 2 / 8, False)
    corner = coverage(image, PixelRect(0, 0, 1, 2), Window(40, 400), HURange())
    assert (corner.in_window, corner.outside_range, corner.constant) == (0, 1 / 2, True)


def test_the_page_shows_caveats_and_ranks_no_model_on_its_own_patients(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.settle("now.slice && Object.keys(now.slice.metrics).length === 3")
    view.page.click("#metrics summary")
    assert "trained on patient anna" in view.page.inner_text("#caveats")
    assert view.page.locator("#metrics th", has_text="SR*").count() == 2
    rows = view.page.locator("#metrics tr", has_text="PSNR").locator("td").all()
    assert "best" not in (rows[2].get_attribute("class") or "")
    headings = view.page.locator("#metrics caption").all_inner_texts()
    assert headings == ["in the window −160 … 240 HU", "in HU, both images clipped to −1000 … 2000"]
    view.shot("caveats")


def test_a_window_without_a_pixel_says_so_and_marks_no_best(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.js("change({center: 3000, width: 10})")
    view.settle("now.slice?.coverage.constant")
    assert "say nothing" in view.page.inner_text("#metrics"), "before anything is opened"
    assert view.page.locator("#metrics .figure").count() == 0, "no large figure of nothing"
    assert view.page.locator("#metrics table").nth(0).locator("td.best").count() == 0
    assert view.page.locator("#metrics table").nth(1).locator("td.best").count() > 0


def test_a_difference_can_be_clipped_as_metrics_are_and_pixels_beyond_are_marked(view: BrowserPage) -> None:
    wait_for_sr(view)
    view.press("d", *(f"Shift+Digit{i}" for i in range(1, 6)))
    view.js("known.state.hu_range = [-500, 20]")
    view.page.check("#difference-clip")
    view.settle("stage.panes[0].title === 'SR − HR, clipped'")
    sr, hr = (view.hu(panel, "axial", 6).astype(int) for panel in ("SR", "HR"))
    expected = sr.clip(-500, 20) - hr.clip(-500, 20)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[0].picture(0).data)"), expected.ravel())
    beyond = (sr < -500) | (sr > 20) | (hr < -500) | (hr > 20)
    np.testing.assert_array_equal(view.js("Array.from(stage.panes[0].picture(0).beyond)"), beyond.ravel())
    view.press("+", "+", "m")
    magenta = (224, 79, 216)
    assert (view.canvas(0) == magenta).all(axis=2).any()
    view.press("m")
    assert not (view.canvas(0) == magenta).all(axis=2).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("dose", dose) for dose in ("0.05", "0.1", "0.25", "1")), ("sigma", "0.878"), ("noise", "0.00264")],
)
def test_the_form_takes_every_value_that_the_page_shows(view: BrowserPage, name: str, value: str) -> None:
    view.page.click("#degradation summary")
    view.page.fill(f"#controls [name={name}]", value)
    view.page.click("#controls button >> nth=0")
    drawn = {"dose": "dose", "sigma": "sigma", "noise": "noise_sigma"}[name]
    view.settle(f"view.setting > 0 && now.drawn?.{drawn} === {float(value)}")
    assert view.js(f"now.drawn.{drawn}") == float(value)


def test_the_csv_says_how_its_numbers_came_about(view: BrowserPage, tmp_path: Path) -> None:
    wait_for_sr(view)
    view.js("change({box: {plane: 'axial', top: 20, left: 10, rows: 16, columns: 30}})")
    view.settle("now.slice && now.drawn && now.region && Object.keys(now.slice.metrics).length === 3")
    with view.page.expect_download() as numbers:
        view.page.click("#save-csv")
    numbers.value.save_as(tmp_path / "numbers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    drawn, state = view.js("now.drawn"), view.js("known.state")
    for row in rows:
        for column, key in (
            ("sigma_px", "sigma"),
            ("dose", "dose"),
            ("noise_sigma", "noise_sigma"),
            ("deg_seed", "deg_seed"),
        ):
            assert float(row[column]) == drawn[key]
        assert (row["model_sha256"], row["ctsr_version"]) == (state["model"]["sha256"], state["version"])
        assert (float(row["row_mm"]), float(row["column_mm"])) == (0.8, 0.6)
        assert "trained on patient anna" in row["caveats"]
    region = next(row for row in rows if row["region"] != "whole")
    assert (float(region["region_left_mm"]), float(region["region_height_mm"])) == pytest.approx((6.0, 12.8))
