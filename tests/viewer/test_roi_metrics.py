from pathlib import Path

import numpy as np
import pytest
import torch

from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.viewer.images import PanelImage, PanelName
from ctsr.viewer.roi_metrics import METRICS, PixelRect, measure
from ctsr.viewer.samplers import StaleRequestError
from ctsr.viewer.session import PageTurn, ViewedSlice, ViewerSession
from tests.made.ct import slices, write
from tests.viewer.conftest import TURN, Open
from tests.viewer.test_images import filled


def numbers(session: ViewerSession, seen: ViewedSlice, plane: str, index: int, box: PixelRect | None) -> dict:
    return session.numbers(TURN, seen, plane, index, session.state.window.window, box)


def test_a_regions_metrics_are_those_of_the_images_cut_to_it(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = filled(session)
    box = PixelRect(10, 14, 16, 20)
    found = numbers(session, seen, "axial", 1, box)
    sr = session.image("SR", seen, "axial", 1).values[10:26, 14:34]
    hr = session.image("HR", seen, "axial", 1).values[10:26, 14:34]
    view = session.state
    domain = Domain(view.window)
    (expected,) = MetricEvaluator(view.hu_range, (domain,), METRICS)(torch.from_numpy(sr.copy())[None, None], hr)[
        domain
    ]
    measured = found["metrics"]["Model (RRDB)"]
    assert {name: one["value"] for name, one in measured.items()} == {
        name: value.value for name, value in expected.items()
    }


def test_a_regions_mean_and_sd_are_in_hu_and_lr_counts_its_own_pixels(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = filled(session)
    found = numbers(session, seen, "axial", 1, PixelRect(11, 14, 5, 4))["statistics"]
    hr = session.image("HR", seen, "axial", 1).values[11:16, 14:18].astype(float)
    assert found["HR"] == (hr.mean(), hr.std(), 20)
    lr = session.image("LR", seen, "axial", 1).hu(session.state.hu_range)[5:8, 7:9].astype(float)
    assert found["LR"] == (lr.mean(), lr.std(), 6), "the pixels that the rectangle touches"
    coronal = numbers(session, seen, "coronal", 20, PixelRect(1, 14, 2, 4))["statistics"]
    lr = session.image("LR", seen, "coronal", 20).hu(session.state.hu_range)[1:3, 7:9].astype(float)
    assert coronal["LR"] == (lr.mean(), lr.std(), 4), "LR has every slice, but half the columns"


def test_ssim_of_a_small_region_is_missing_with_its_reason(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    ssim = numbers(session, filled(session), "axial", 1, PixelRect(0, 0, 4, 4))["metrics"]["Model (RRDB)"]["SSIM"]
    assert ssim["value"] is None
    assert "11×11" in ssim["reason"]


def test_methods_without_every_slice_are_left_out(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = ViewedSlice(session.series[0], session.settings[0], 0)
    found = numbers(session, seen, "axial", 0, None)
    assert list(found["metrics"]) == ["Interpolation (Bilinear)", "Interpolation (Bicubic)"]
    assert found["sr_missing"]


def test_a_region_of_which_slices_are_missing_has_no_mean_of_the_others(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = ViewedSlice(session.series[0], session.settings[0], 0)
    for index in (0, 1):
        session.images.lr(seen.series, seen.setting, index)
    top_is_last = PixelRect(0, 10, 5, 8)
    assert list(numbers(session, seen, "coronal", 20, top_is_last)["statistics"]) == ["HR"]
    of_two = numbers(session, seen, "coronal", 20, PixelRect(3, 10, 2, 8))["statistics"]
    assert list(of_two) == ["LR", "Bilinear", "Bicubic", "HR"]
    assert of_two["LR"][2] == 2 * 4


def test_gaps_are_not_measured(open_view: Open, tmp_path: Path) -> None:
    made = slices(16)
    del made[5]
    write(tmp_path / "p", made)
    session = open_view(tmp_path / "p", with_model=False)
    seen = filled(session)
    found = numbers(session, seen, "coronal", 20, None)["metrics"]["Interpolation (Bicubic)"]
    image = session.image("Bicubic", seen, "coronal", 20)
    hr = session.image("HR", seen, "coronal", 20)
    rows = ~hr.gaps
    error = image.hu(session.state.hu_range)[rows] - hr.values[rows].clip(-1000, 2000)
    assert found["BIAS_HU"]["value"] == pytest.approx(float(error.mean()), abs=1e-3)


def test_measuring_stops_between_methods_when_the_slice_has_changed(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = filled(session)
    pictures: dict[PanelName, PanelImage] = {
        panel: session.image(panel, seen, "axial", 0) for panel in session.state.panels
    }
    answers = iter([False, True])
    with pytest.raises(StaleRequestError):
        measure(
            pictures,
            session.state.methods,
            None,
            session.state.window.window,
            session.state.hu_range,
            lambda: next(answers),
        )


def test_what_was_asked_before_the_page_moved_on_is_not_answered(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = filled(session)
    window = session.state.window.window
    session.view(PageTurn("page", 5), seen)
    with pytest.raises(StaleRequestError):
        session.numbers(PageTurn("page", 4), seen, "axial", 0, window, None)
    # A look that was overtaken on its way gives up nothing.
    session.view(PageTurn("page", 3), seen)
    assert session.numbers(PageTurn("page", 5), seen, "axial", 0, window, None)["metrics"]
    assert session.numbers(PageTurn("another page", 0), seen, "axial", 0, window, None)["metrics"]


def test_a_box_keeps_its_place_among_rows_that_are_there() -> None:
    image = np.arange(12.0).reshape(4, 3)
    assert PixelRect(1, 1, 2, 2).crop(image).tolist() == [[4, 5], [7, 8]]
    assert PixelRect(1, 1, 2, 2).crop(image, (2, 2)).tolist() == [[0, 1], [3, 4]]
