from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ctsr.data.hu_cache import PADDING
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.viewer.api import answer
from ctsr.viewer.images import NOTHING, PanelName
from ctsr.viewer.samplers import StaleRequestError
from ctsr.viewer.session import ViewedSlice, ViewerSession
from tests.made.ct import body, padded, save_series, slices, write
from tests.needs import needs
from tests.viewer.conftest import Open

PANELS: tuple[PanelName, ...] = ("LR", "Bilinear", "Bicubic", "SR", "HR")


def filled(session: ViewerSession) -> ViewedSlice:
    """With every slice computed."""
    series, setting = session.series[0], session.settings[0]
    for index in range(series.geometry.shape[0]):
        session.images.lr(series, setting, index)
        if session.state.model:
            session.images.compute_sr(series, setting, index, lambda: False)
    return ViewedSlice(series, setting, 0)


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("mode", ["clean", "blurnoise"])
def test_every_plane_is_a_cut_through_the_same_axial_slices(
    open_view: Open, root: Path, panel: PanelName, mode: str
) -> None:
    session = open_view(root / "bert", degradation=Degradation(mode=mode))
    seen = filled(session)
    slices, rows, columns = seen.series.geometry.shape
    stack = np.stack([session.image(panel, seen, "axial", i).hu(session.state.hu_range) for i in range(slices)])
    factor = 2 if panel == "LR" else 1
    for index in (0, 1, 5, rows // 2, rows - 2, rows - 1):
        cut = session.image(panel, seen, "coronal", index)
        assert cut.complete
        np.testing.assert_array_equal(cut.hu(session.state.hu_range), stack[::-1, index // factor])
    for index in (0, 7, columns - 1):
        cut = session.image(panel, seen, "sagittal", index).hu(session.state.hu_range)
        np.testing.assert_array_equal(cut, stack[::-1, :, index // factor])


def test_the_page_is_told_what_of_the_series_comes_before_the_first_row_that_is_shown(
    open_view: Open, tmp_path: Path
) -> None:
    write(tmp_path / "p", slices([body(39)] * 2))
    session = open_view(tmp_path / "p", with_model=False, degradation=Degradation(scale=4))
    top, left = session.geometry(0)["crop"]
    series, seen = session.series[0], ViewedSlice(session.series[0], session.settings[0], 0)
    shown = session.image("HR", seen, "axial", 0).values
    assert (top, left) == (1, 1)
    assert np.array_equal(shown, series.stored.slice_hu(0)[top : top + 36, left : left + 36])


def test_sr_is_what_the_evaluation_makes_of_the_slice(open_view: Open, root: Path, model: ModelUnderTest) -> None:
    session = open_view(root / "bert")
    seen = filled(session)
    lr = torch.from_numpy(session.images.lr(seen.series, seen.setting, 3))[None, None]
    stored = seen.series.stored
    draw = seen.setting.sampler.draw(stored.patient_id, stored.series_uid, stored.identities[3], 3)
    expected = model.super_resolve(lr, draw.params)[0, 0].numpy()
    np.testing.assert_array_equal(session.image("SR", seen, "axial", 3).values, expected)


def test_what_is_not_computed_is_empty_and_said(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = ViewedSlice(session.series[0], session.settings[0], 2)
    session.images.lr(seen.series, seen.setting, 4)
    axial = session.image("SR", seen, "axial", 2)
    assert not axial.complete
    assert (axial.int16(session.state.hu_range) == NOTHING).all()
    coronal = session.image("Bicubic", seen, "coronal", 9)
    assert coronal.missing.tolist() == [False, True, True, True, True], "the head is up"
    there = coronal.int16(session.state.hu_range) != NOTHING
    assert there.all(axis=1).tolist() == [True, False, False, False, False]


def test_whole_hu_travel_and_padding_is_air(open_view: Open, tmp_path: Path) -> None:
    save_series(tmp_path / "p", [padded(np.full((40, 40), 37), -1024)] * 2)
    session = open_view(tmp_path / "p", with_model=False)
    seen = ViewedSlice(session.series[0], session.settings[0], 0)
    assert (seen.series.stored.hu[0] == PADDING).any()
    sent = session.image("HR", seen, "axial", 0).int16(session.state.hu_range)
    assert sent.dtype == np.dtype("<i2")
    assert set(np.unique(sent)) == {-1000, 37}


def test_a_gap_stays_empty_and_is_not_waited_for(open_view: Open, tmp_path: Path) -> None:
    made = slices(5)
    del made[2]
    write(tmp_path / "p", made)
    session = open_view(tmp_path / "p", with_model=False)
    seen = filled(session)
    for panel in ("LR", "Bilinear", "HR"):
        picture = session.image(panel, seen, "coronal", 20)
        assert picture.complete
        assert picture.gaps.tolist() == [False, False, True, False, False]
        assert (picture.int16(session.state.hu_range)[2] == NOTHING).all()


def test_an_unwanted_slice_is_given_up_between_layers(open_view: Open, root: Path) -> None:
    session = open_view(root / "bert")
    seen = ViewedSlice(session.series[0], session.settings[0], 0)
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(StaleRequestError):
        session.images.compute_sr(seen.series, seen.setting, 0, is_cancelled)
    assert asked == 4
    assert not session.images.has("SR", seen.series, seen.setting, 0)
    session.images.compute_sr(seen.series, seen.setting, 0, lambda: False)
    assert session.images.has("SR", seen.series, seen.setting, 0)


def test_a_slice_is_not_begun_where_it_is_unwanted_and_the_engine_cannot_give_up(open_view: Open, root: Path) -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")
    session = open_view(root / "bert", engine="openvino")
    seen = ViewedSlice(session.series[0], session.settings[0], 0)
    with pytest.raises(StaleRequestError):
        session.images.compute_sr(seen.series, seen.setting, 0, lambda: True)
    assert not session.images.has("SR", seen.series, seen.setting, 0)


def test_int8_without_images_to_set_its_scales_is_wrong_usage(open_view: Open, root: Path) -> None:
    with pytest.raises(UsageError, match="no INT8 network"):
        open_view(root / "bert", engine="openvino", precision="int8")


def test_of_an_image_that_is_not_there_yet_nothing_is_sent(open_view: Open, root: Path) -> None:
    session = open_view(root / "emil")
    query = "series=0&setting=0&slice=2&plane={}&index=2&panel={}"
    sr = answer(session, "image", query.format("axial", "SR"), None)
    assert (sr.body, sr.headers["X-Complete"]) == (b"", "0")
    hr = answer(session, "image", query.format("axial", "HR"), None)
    rows, columns = map(int, hr.headers["X-Size"].split(","))
    assert (len(hr.body), hr.headers["X-Complete"]) == (2 * rows * columns, "1")
    seen = ViewedSlice(session.series[0], session.settings[0], 2)
    session.images.compute_sr(seen.series, seen.setting, 2, lambda: False)
    assert len(answer(session, "image", query.format("axial", "SR"), None).body) == 2 * rows * columns
    # One row of a coronal image is there: it is sent.
    coronal = answer(session, "image", query.format("coronal", "SR"), None)
    assert (len(coronal.body) > 0, coronal.headers["X-Complete"]) == (True, "0")
