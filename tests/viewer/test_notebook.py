import re
import tempfile
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ctsr
from ctsr.errors import DomainError, UsageError
from ctsr.models import Architecture, build
from ctsr.viewer.embed import NotebookFrame
from ctsr.volume import Grid, Volume
from tests.made.ct import body


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from any `runs/` that may lie in the working folder."""
    monkeypatch.chdir(tmp_path)


def test_a_path_is_shown_in_a_frame(root: Path, store: Path) -> None:
    frame = ctsr.view(root / "anna", store=store, preset="lung")
    try:
        assert isinstance(frame, NotebookFrame)
        (source,) = re.findall(r'<iframe src="(http://127\.0\.0\.1:\d+/[\w-]+/)"', frame._repr_html_())
        with urllib.request.urlopen(source) as page:
            assert b"ctsr viewer" in page.read()
            assert page.headers["Content-Security-Policy"].endswith("frame-ancestors *")
        assert frame.server.session.state.window.window.center == -600
        model = frame.server.session.state.model
        assert model is not None
        assert model.name == "ctsr-x2", "without a run, the bundled model"
    finally:
        frame.close()


def test_what_is_wrong_with_the_model_is_a_python_warning(root: Path, store: Path, tmp_path: Path) -> None:
    torch.save(build(Architecture("rrdb", 2, nf=4, nb=1, gc=2)).state_dict(), tmp_path / "foreign.pth")
    with pytest.warns(UserWarning, match="foreign.pth does not say how it was trained"):
        ctsr.view(root / "anna", store=store, model_path="foreign.pth").close()


def test_a_volume_keeps_its_hu_and_its_place() -> None:
    hu = np.arange(4 * 12 * 10, dtype=np.float32).reshape(4, 12, 10) - 200
    grid = Grid((4, 12, 10), (3.0, 0.5, 0.75), (-10.0, -20.0, 30.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    frame = ctsr.view(Volume(hu, grid), no_model=True)
    try:
        opened = frame.server.session.series[0]
        np.testing.assert_array_equal(opened.stored.hu, hu)
        assert opened.geometry.spacing == pytest.approx((3.0, 0.5, 0.75))
        assert opened.stored.z_mm == pytest.approx((30, 33, 36, 39))
        assert opened.stored.folder.is_relative_to(tempfile.gettempdir()), "nothing of it stays behind"
    finally:
        frame.close()


def test_a_volume_that_a_network_made_is_shown_as_such() -> None:
    hu = np.stack([body(48, seed=i, texture=60) for i in range(3)])
    volume = replace(Volume.from_array(hu, (2.5, 0.7, 0.7)), made_by="ctsr-x2 sha256:0123456789abcdef")
    frame = ctsr.view(volume, no_model=True)
    try:
        (series,) = frame.server.session.state.as_dict()["series"]
    finally:
        frame.close()
    assert "network" in " ".join(series["warnings"])


def test_values_that_cannot_be_shown_in_whole_hu_and_arrays_are_refused() -> None:
    volume = ctsr.example_volume(slices=2, size=64)
    with pytest.raises(DomainError, match="whole HU"):
        ctsr.view(replace(volume, hu=volume.hu / 1000), no_model=True)
    volume.hu[0, 0, 0] = np.nan
    with pytest.raises(DomainError, match="NaN"):
        ctsr.view(volume, no_model=True)
    with pytest.raises(UsageError, match="from_array"):
        ctsr.view(volume.hu)  # type: ignore[arg-type]


def test_a_closed_frame_leaves_no_pixels_behind() -> None:
    frame = ctsr.view(ctsr.example_volume(slices=2, size=64), no_model=True)
    kept = frame.server.session.series[0].stored.folder
    assert kept.exists()
    frame.close()
    assert not kept.exists()
