from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ctsr.errors import UsageError
from ctsr.viewer import ViewOptions
from ctsr.viewer.embed import snapshot
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
