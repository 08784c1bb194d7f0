from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ctsr.evaluate.methods import METHODS, MODEL
from ctsr.evaluate.plots import bar_figure, box_figure, correlation_figure, write_plots
from tests.evaluate.made import rows

FIGURES = [bar_figure, box_figure, correlation_figure]


def made(count: int = 4):
    return rows(lambda p, i, m: 30.0 + i + METHODS.index(m) + (p == "bert"), {"anna": count, "bert": count})


def test_each_plot_is_written_and_is_no_blank_page(tmp_path: Path) -> None:
    write_plots(made(), "val, model best, globalHU_-1000_2000", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bar.png", "box.png", "correlation.png"]
    for file in tmp_path.iterdir():
        assert matplotlib.image.imread(file)[..., :3].std() > 0.05


@pytest.mark.parametrize("figure", FIGURES)
def test_every_plot_names_its_window(figure) -> None:
    assert "globalHU_-1000_2000" in figure(made(), "model best, globalHU_-1000_2000").get_suptitle()


def test_a_bar_is_the_mean_over_patients_and_says_it() -> None:
    axes = bar_figure(made(), "").axes[0]
    assert axes.patches[-1].get_width() == pytest.approx(30 + 1.5 + 2 + 0.5)
    assert [text.get_text() for text in axes.texts] == ["32", "33", "34"]


def test_correlation_pairs_each_slice_with_itself_by_patient() -> None:
    axes = correlation_figure(made(), "").axes[0]
    points = [np.asarray(dots.get_offsets()) for dots in axes.collections]
    assert [len(own) for own in points] == [4, 4]
    np.testing.assert_allclose(points[0], [[31 + i, 32 + i] for i in range(4)])


@pytest.mark.parametrize("figure", FIGURES)
def test_plots_do_without_values_that_could_not_be_computed(figure, tmp_path: Path) -> None:
    partly = rows(lambda _p, i, m: None if m == MODEL or i == 0 else 1.0, {"anna": 2})
    none = rows(lambda *_: None, {"anna": 1})
    for some in (partly, none):
        figure(some, "val").savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
