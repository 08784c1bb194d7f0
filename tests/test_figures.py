import colorsys
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

import ctsr.viewer
from ctsr.errors import DomainError
from ctsr.figures import (
    ACCENT,
    INTERPOLATION_COLORS,
    MODEL_COLORS,
    Detail,
    Panel,
    busiest_detail,
    comparison_figure,
    method_colors,
    save_figure,
    slices_figure,
    with_palette,
)
from ctsr.hu import PRESETS, Window
from tests.made.ct import ellipse

SOFT = PRESETS["soft_tissue"]


def head(rows: int = 96, columns: int = 96, *, textured: tuple[int, int] = (30, 50)) -> npt.NDArray[np.float64]:
    """A disc of tissue in air, with a checkered patch of 24 pixels at `textured`, and a bright table below."""
    y, x = np.mgrid[:24, :24]
    hu = np.where(ellipse((rows, columns), 0.84, 0.84), 40.0, -1000.0)
    top, left = textured
    hu[top : top + 24, left : left + 24] += 60 * ((y // 2 + x // 2) % 2)
    hu[rows - 3 :: 2] = 1000
    return hu


@pytest.mark.parametrize(
    "title", ["A name of a patient " * 12, "a-name-without-blanks" * 9, "P1\n" + "Slice 3 is odd. " * 20]
)
def test_what_stands_above_pictures_is_never_wider_than_they_are(tmp_path: Path, title: str) -> None:
    for figure in (
        comparison_figure([Panel("HR", head())] * 2, SOFT, title=title),
        slices_figure([Panel("HR", head())], SOFT, title=title),
    ):
        save_figure(figure, tmp_path / "a.png")
        (above,) = (text for text in figure.texts if text.get_text() == figure.get_suptitle())
        box = above.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert "".join(title.split()) in "".join(above.get_text().split()).replace(";showninwindowC40/W400HU", "")


def test_the_detail_shows_the_finest_structure_of_the_body() -> None:
    found = busiest_detail(head(textured=(30, 50)), SOFT, size=32)
    assert found.top <= 30
    assert found.top + found.size >= 54
    assert found.left <= 50
    assert found.left + found.size >= 74


def test_the_detail_lies_inside_whatever_the_size() -> None:
    for shape in ((20, 60), (1, 1), (200, 40)):
        found = busiest_detail(np.zeros(shape), SOFT, size=32)
        assert 0 <= found.top <= shape[0] - found.size
        assert 0 <= found.left <= shape[1] - found.size


def test_panels_of_different_pixel_counts_show_the_same_field_of_view() -> None:
    hr = head()
    figure = comparison_figure([Panel("LR", hr[::2, ::2]), Panel("HR", hr)], SOFT, detail=Detail(30, 50, 24))
    wholes, details = figure.axes[:2], figure.axes[2:]
    assert [axes.images[0].get_extent() for axes in figure.axes] == [[0, 96, 96, 0]] * 4
    assert [axes.get_title() for axes in wholes] == ["LR", "HR"]
    assert {(axes.get_xlim(), axes.get_ylim()) for axes in details} == {((50, 74), (54, 30))}


def test_the_window_is_named_and_applied() -> None:
    figure = comparison_figure([Panel("HR", head())], Window(60, 150), title="anna, slice 3")
    assert figure.get_suptitle() == "anna, slice 3; shown in window C 60 / W 150 HU"
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert (shown.min(), shown.max()) == (0, 1)


def test_a_picture_is_written_whole_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_figure(comparison_figure([Panel("HR", head())], SOFT), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    pixels = matplotlib.image.imread(tmp_path / "one.png")
    frame = np.array([int(ACCENT[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    assert (np.abs(pixels[..., :3] - frame).max(axis=-1) < 0.02).any()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_a_detail_outside_the_image_is_refused() -> None:
    with pytest.raises(DomainError, match="outside 96×96"):
        comparison_figure([Panel("HR", head())], SOFT, detail=Detail(80, 0, 24))
    with pytest.raises(DomainError, match="panel"):
        comparison_figure([], SOFT)


def test_flat_planes_are_shown_below_each_other_and_high_ones_side_by_side(tmp_path: Path) -> None:
    sizes = {}
    for rows in (10, 90):
        panels = [Panel(name, np.zeros((rows, 100))) for name in ("LR", "SR", "HR")]
        save_figure(slices_figure(panels, SOFT, title="P1"), tmp_path / f"{rows}.png")
        sizes[rows] = matplotlib.image.imread(tmp_path / f"{rows}.png").shape[:2]
    assert sizes[90][1] > 2 * sizes[90][0]
    assert sizes[10][0] > 0.3 * sizes[10][1], "three strips high"
    with pytest.raises(DomainError, match="at least one panel"):
        slices_figure([], SOFT)


def test_a_method_has_one_color_whatever_it_is_compared_with() -> None:
    few = method_colors(["Interpolation (Bicubic)", "Model (RRDB)"])
    more = method_colors(
        ["Interpolation (Bilinear)", "Interpolation (Bicubic)", "Interpolation (Lanczos)", "Model (RRDB)"]
    )
    assert {name: more[name] for name in few} == few
    assert len(set(more.values())) == 4
    two = method_colors(["Model (a linear run)", "Model (b)"])
    assert two["Model (a linear run)"] == few["Model (RRDB)"] != two["Model (b)"]


def test_the_page_and_the_plots_agree_on_hues() -> None:
    page = (Path(ctsr.viewer.__file__).parent / "page" / "format.js").read_text(encoding="utf-8")
    shown = dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', page))
    for name, color in {**INTERPOLATION_COLORS, "SR": MODEL_COLORS[0]}.items():
        if name in shown:
            hues = [colorsys.rgb_to_hsv(*to_rgb(one))[0] for one in (shown[name], color)]
            assert abs(hues[0] - hues[1]) < 0.03, name


def test_a_palette_keeps_every_grey_and_the_colours_of_few_pixels() -> None:
    """A CT slice has every grey; the bar beside it has few pixels, and as many colours."""
    rgb = np.repeat(np.resize(np.arange(256, dtype=np.uint8), (300, 256))[:, :, None], 3, axis=2)
    ramp = np.arange(256, dtype=np.uint8)
    rgb[150] = np.stack([ramp, 255 - ramp, np.full_like(ramp, 40)], axis=1)
    found = with_palette(rgb)
    apart = np.abs(np.asarray(found.convert("RGB")).astype(int) - rgb).max(axis=2)
    assert len(found.getcolors() or []) <= 256
    assert apart[0].max() <= 2
    assert apart[150].max() <= 8
    few = rgb[:1, :8]
    np.testing.assert_array_equal(np.asarray(with_palette(few).convert("RGB")), few)


@pytest.mark.parametrize("shape", [(64, 64), (16, 64)])
def test_the_colours_of_a_difference_stand_beside_it_and_cover_no_image(shape: tuple[int, int]) -> None:
    hu = np.zeros(shape, np.float32)
    panels = [Panel("SR", hu), Panel("SR − HR", hu, "MAE", signed_limit=100)]
    for figure in (comparison_figure(panels, Window(40, 400)), slices_figure(panels, Window(40, 400))):
        figure.canvas.draw()
        images = [axes for axes in figure.axes if axes.images]
        bars = [child for axes in images for child in axes.child_axes]
        assert len(bars) == 1, "one bar, in the whole image"
        assert [label.get_text() for label in bars[0].get_yticklabels()] == ["−100", "0", "+100 HU"]
        covered = bars[0].get_tightbbox()
        assert covered is not None
        assert not any(covered.overlaps(axes.get_window_extent()) for axes in images)
        assert covered.x1 <= figure.bbox.x1, "it is not cut off"


def test_marks_of_rows_lie_beside_the_image_on_their_rows() -> None:
    panels = [Panel("Source", np.zeros((40, 50), np.float32)), Panel("SR", np.zeros((40, 50), np.float32))]
    figure = slices_figure(panels, Window(40, 400), pixel_aspect=1.5, marked_rows=(0.5, 20, 39.5))
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.get_ylim() == (40, 0), "the image keeps its place"
        marks = [path for lines in axes.collections for path in lines.get_paths()]
        assert sorted(path.vertices[0, 1] for path in marks) == [0.5, 0.5, 20, 20, 39.5, 39.5]
        across = [axes.get_yaxis_transform().transform(path.vertices)[:, 0] for path in marks]
        box = axes.get_window_extent()
        assert all(0 <= x.min() < x.max() < box.x0 or box.x1 < x.min() < x.max() <= figure.bbox.x1 for x in across)
