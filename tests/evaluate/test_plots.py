from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from ctsr.evaluate.methods import BICUBIC, MODEL
from ctsr.evaluate.plots import (
    box_figure,
    correlation_figure,
    example_figure,
    heat_figure,
    means_figure,
    patients_figure,
    position_figure,
)
from ctsr.figures import save_figure
from tests.evaluate.made import GLOBAL, METHODS, ref, rows

FIGURES = [
    means_figure,
    box_figure,
    patients_figure,
    position_figure,
    partial(correlation_figure, model=MODEL),
    partial(heat_figure, model=MODEL),
]


def made(count: int = 4):
    return rows(lambda p, i, m: 30.0 + i + METHODS.index(m) + (p == "bert"), {"anna": count, "bert": count})


@pytest.mark.parametrize("figure", FIGURES)
def test_no_plot_is_a_blank_page(figure, tmp_path: Path) -> None:
    save_figure(figure(made(), "val, model best"), tmp_path / "plot.png")
    assert matplotlib.image.imread(tmp_path / "plot.png")[..., :3].std() > 0.05


@pytest.mark.parametrize("figure", FIGURES)
def test_every_plot_names_its_window(figure) -> None:
    assert "globalHU_-1000_2000" in figure(made(), "model best, globalHU_-1000_2000").get_suptitle()


def test_a_plot_of_some_series_says_so() -> None:
    def head(patients: int) -> str:
        found = rows(lambda *_: 30.0, {f"p{number}": 1 for number in range(patients)})
        return position_figure(found, "val").get_suptitle().partition("\n")[0]

    assert head(12) == "PSNR along the patient"
    assert head(15) == "PSNR along the patient, the first 12 of 15 series"


def test_a_diamond_is_the_mean_over_patients_and_says_it() -> None:
    axes = means_figure(made(), "").axes[0]
    (large,) = (line for line in axes.lines if line.get_marker() == "D" and line.get_ydata()[0] == 2)
    assert large.get_xdata()[0] == pytest.approx(30 + 1.5 + 2 + 0.5)
    assert [text.get_text() for text in axes.texts] == ["32.00", "33.00", "34.00"]
    assert axes.get_xlim()[0] > 25, "differences are seen, not distances from 0"


def test_a_line_joins_what_is_of_one_patient() -> None:
    axes = means_figure(made(), "").axes[0]
    joined = [
        list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3
    ]
    assert joined == [pytest.approx([31.5, 32.5, 33.5]), pytest.approx([32.5, 33.5, 34.5])]
    own = patients_figure(made(), "").axes[0]
    spans = [list(line.get_xdata()) for line in own.lines if line.get_linestyle() == "-"]
    assert spans == [pytest.approx([31.5, 33.5]), pytest.approx([32.5, 34.5])]


def test_correlation_pairs_each_slice_with_itself_by_patient() -> None:
    axes = correlation_figure(made(), "", MODEL).axes[0]
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


def test_the_heat_map_shows_which_metrics_go_together() -> None:
    """Errors that grow slice by slice: MAE and RMSE rank the slices alike."""
    axes = heat_figure(made(6), "", MODEL).axes[0]
    assert float(np.asarray(axes.images[0].get_array())[0, 1]) == pytest.approx(1)


@pytest.mark.parametrize(("names", "title"), [(["best"], "SR − HR"), (["small", "large"], "small − HR")])
def test_a_difference_says_of_which_model_it_is(names: list[str], title: str) -> None:
    methods = [f"Model ({name})" for name in names]
    found = rows(lambda *_: 30.0, {"anna": 1}, (BICUBIC, *methods))
    series = SimpleNamespace(pixel_spacing=(1.0, 1.0))
    images = {method: np.zeros((8, 8)) for method in (BICUBIC, *methods)}
    planned = SimpleNamespace(ref=ref(), index=0, stored=series)
    example: Any = SimpleNamespace(planned=planned, lr_hu=np.zeros((4, 4)), hr_hu=np.zeros((8, 8)), images_hu=images)
    plan: Any = SimpleNamespace(models=names, model_methods=methods, baselines=(BICUBIC,), domains=(GLOBAL,))
    assert example_figure(plan, example, found).axes[len(names) + 3].get_title() == title
