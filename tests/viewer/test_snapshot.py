from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ctsr.errors import UsageError
from ctsr.viewer import ViewOptions
from ctsr.viewer.embed import snapshot
from tests.made.ct import body, save_series
from tests.made.listener import Listener
from tests.viewer.conftest import Open


def taken(open_view: Open, path: Path, out: Path, **options: object) -> np.ndarray:
    session = open_view(path, snapshot=out, **options)
    snapshot(session, ViewOptions(snapshot=out, **options), progress=Listener())
    return matplotlib.image.imread(out)


def test_each_plane_is_written_as_one_picture(open_view: Open, root: Path, tmp_path: Path) -> None:
    shapes = set()
    for plane in ("axial", "coronal", "sagittal"):
        image = taken(open_view, root / "bert", tmp_path / f"{plane}.png", plane=plane, index=3)
        assert image.ndim == 3
        assert image.std() > 0.1, "there is something on it"
        shapes.add(image.shape)
    assert len(shapes) > 1, "coronal pictures have the slices' aspect"


def test_an_index_beyond_the_series_is_one_line(open_view: Open, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 axial slices, 0 to 4"):
        taken(open_view, root / "bert", tmp_path / "x.png", index=5)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("no_names", [False, True])
def test_what_is_unusual_about_the_series_stands_on_the_picture(
    open_view: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_names: bool
) -> None:
    files = save_series(tmp_path / "P1" / "s", [body(48, seed=i) for i in range(6)])
    files[2].unlink()
    figures: list[Figure] = []
    monkeypatch.setattr("ctsr.viewer.embed.save_figure", lambda figure, _: figures.append(figure))
    session = open_view(tmp_path / "P1", with_model=no_names, snapshot=tmp_path / "a.png", no_names=no_names)
    snapshot(session, ViewOptions(snapshot=tmp_path / "a.png"), progress=Listener())
    assert "\nSlices are missing: 1 between" in figures[0].get_suptitle()
    assert ("not for diagnosis" in figures[0].get_suptitle()) == no_names, "where a network had a part in it"
