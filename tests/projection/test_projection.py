"""Projections and reconstructions of objects whose answer is known in closed form."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.physics import edge_profile, transfer_function
from ctsr.projection import (
    SHARP,
    SOFT,
    Ellipse,
    FanBeam,
    ImageGrid,
    Kernel,
    Rectangle,
    Shape,
    project_image,
    project_shapes,
    reconstruct,
    to_hu,
)

SCANNER = FanBeam(columns=260, views=480, column_mm=0.8)
"""A field of 56 mm to either side, 0.44 mm at the isocentre."""
GRID = ImageGrid((200, 200), 0.5)
BODY = Ellipse(1000.0, (0.0, 0.0), (45.0, 45.0))


def scanned(shapes: list[Shape], grid: ImageGrid = GRID, kernel: Kernel = SOFT) -> npt.NDArray[np.float32]:
    return to_hu(reconstruct(project_shapes(shapes, SCANNER), SCANNER, kernel, grid))


def drawn(shapes: list[Shape], grid: ImageGrid, finer: int = 8) -> npt.NDArray[np.float32]:
    """The mean of shapes over each pixel, in HU."""
    fine = grid.finer(finer)
    y, x = fine.rows_mm[:, None], fine.columns_mm
    total = np.full(fine.shape, -1000.0)
    for shape in shapes:
        total += shape.contrast_hu * shape.holds(y + 0 * x, x + 0 * y)
    rows, columns = grid.shape
    return total.reshape(rows, finer, columns, finer).mean(axis=(1, 3)).astype(np.float32)


def distances(grid: ImageGrid, center: tuple[float, float] = (0.0, 0.0)) -> npt.NDArray[np.float64]:
    return np.hypot(grid.rows_mm[:, None] - center[0], grid.columns_mm - center[1])


@pytest.mark.parametrize("kernel", [SOFT, SHARP])
def test_water_is_water_from_the_middle_to_the_rim(kernel: Kernel) -> None:
    image, away = scanned([BODY], kernel=kernel), distances(GRID)
    rings = [image[(away >= inner) & (away < inner + 8)].mean() for inner in range(0, 40, 8)]
    assert np.abs(rings).max() < 0.5
    assert abs(image[(away > 47) & (away < 50)].mean() + 1000) < 2


def test_an_image_of_water_is_water_too() -> None:
    image = to_hu(reconstruct(project_image(drawn([BODY], GRID), GRID, SCANNER), SCANNER, SOFT, GRID))
    away = distances(GRID)
    rings = [image[(away >= inner) & (away < inner + 8)].mean() for inner in range(0, 40, 8)]
    assert np.abs(rings).max() < 1


@pytest.mark.parametrize("contrast", [-1000.0, 30.0, 1000.0])
def test_contrast_is_kept(contrast: float) -> None:
    insert = Ellipse(contrast, (12.0, -20.0), (9.0, 7.0), 0.5)
    away = distances(GRID, insert.center_mm)
    assert scanned([BODY, insert])[away < 4].mean() == pytest.approx(contrast, abs=1.0)


@pytest.mark.parametrize("center", [(0.0, 0.0), (13.3, -21.7), (-30.2, 9.1)])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_structure_lies_where_it_was_put(center: tuple[float, float], factor: int) -> None:
    grid = GRID.finer(factor)
    image = scanned([BODY, Ellipse(400.0, center, (4.0, 5.0), 0.3)], grid) - scanned([BODY], grid)
    near = np.where(distances(grid, center) < 10, image, 0)
    found = [float((near * axis).sum() / near.sum()) for axis in (grid.rows_mm[:, None], grid.columns_mm)]
    assert np.abs(np.array(found) - center).max() < 0.05 * grid.pixel_mm


def test_a_part_of_the_plane_is_that_part() -> None:
    shapes: list[Shape] = [BODY, Ellipse(400.0, (10.0, -15.0), (4.0, 5.0), 0.3)]
    part = ImageGrid((40, 60), 0.5, center_mm=(10.0, -15.0))
    assert np.allclose(scanned(shapes, part), scanned(shapes)[100:140, 40:100], atol=1e-2)


@pytest.mark.parametrize("kernel", [SOFT, SHARP])
def test_sharpness_is_that_of_column_focal_spot_and_window(kernel: Kernel) -> None:
    grid = ImageGrid((220, 220), 0.25)
    disc = Ellipse(100.0, (0.0, 0.0), (18.0, 18.0))
    middle = (109.5, 109.5)
    found = transfer_function([edge_profile(scanned([BODY, disc], grid, kernel), middle, 72.0)], grid.pixel_mm)
    f = np.array(found.frequencies_per_mm)
    spot = SCANNER.focal_spot_mm * (1085.6 - 595) / 1085.6
    aperture = np.sinc(f * SCANNER.column_at_isocentre_mm) * np.sinc(f * spot)
    expected = aperture * kernel.window(f, SCANNER)
    assert np.abs(np.array(found.values) - expected)[f < 1.5].max() < 0.01


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2])
@pytest.mark.parametrize("kind", [Ellipse, Rectangle])
def test_chords_are_as_long_as_the_line_inside(kind: type[Ellipse | Rectangle], angle: float) -> None:
    shape = kind(1.0, (3.0, -5.0), (7.0, 15.0), angle)
    along = np.linspace(-40, 40, 80001)
    for theta, s in ((0.1, 2.0), (1.2, -3.0), (2.5, 8.0), (np.pi / 2, 4.0)):
        cosine, sine = np.cos(theta), np.sin(theta)
        inside = shape.holds(s * sine + along * cosine, s * cosine - along * sine)
        found = shape.chord_mm(np.array([cosine]), np.array([sine]), np.array([s]))
        assert found[0] == pytest.approx(inside.sum() * 0.001, abs=0.01)


def test_an_image_projects_as_the_shapes_it_shows() -> None:
    shapes: list[Shape] = [
        Ellipse(1000.0, (-3.0, 5.0), (35.0, 42.0), 0.2),
        Ellipse(300.0, (15.0, -12.0), (6.0, 9.0), 1.1),
        Rectangle(-200.0, (-18.0, 10.0), (4.0, 12.0), 0.6),
    ]
    grid, few = ImageGrid((480, 480), 0.22), replace(SCANNER, views=60)
    by_form = project_shapes(shapes, few)
    by_image = project_image(drawn(shapes, grid, 4), grid, few)
    inside = by_form > 0.3
    assert np.abs(by_image - by_form)[inside].max() < 0.01 * by_form.max()
    assert float(by_image.sum() / by_form.sum()) == pytest.approx(1, abs=2e-4)


def test_a_smooth_image_comes_back() -> None:
    rng = np.random.default_rng(5)
    away = distances(GRID)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, GRID.shape), 6) * 2000 * np.clip((44 - away) / 6, 0, 1)
    image = ndimage.gaussian_filter(drawn([BODY], GRID) + texture, 1.2)
    back = to_hu(reconstruct(project_image(image, GRID, SCANNER), SCANNER, SHARP, GRID))
    assert np.abs(back - image)[away < 40].max() < 4


def test_opposite_rays_lie_half_way_between_one_another() -> None:
    fan = SCANNER.fan_angles()
    together = np.sort(np.concatenate([fan, -fan]))
    assert np.allclose(np.diff(together), SCANNER.column_angle / 2)


def test_beyond_the_field_is_air() -> None:
    image = scanned([BODY], ImageGrid((260, 260), 0.5))
    assert (image[distances(ImageGrid((260, 260), 0.5)) > SCANNER.field_radius_mm] == -1000).all()


def test_what_no_scanner_can_be_is_refused() -> None:
    with pytest.raises(DomainError, match="even number of views"):
        FanBeam(views=7)
    with pytest.raises(DomainError, match="isocentre"):
        FanBeam(source_isocentre_mm=2000)
    with pytest.raises(DomainError, match="not a fan-beam detector"):
        FanBeam(column_mm=0)
    with pytest.raises(DomainError, match="cut-off"):
        Kernel(0)
    with pytest.raises(DomainError, match="raster"):
        ImageGrid((10, 10), 0)
    with pytest.raises(DomainError, match="raster"):
        project_image(np.zeros((3, 4)), GRID, SCANNER)
    with pytest.raises(DomainError, match="480 views"):
        reconstruct(np.zeros((3, 4), np.float32), SCANNER, SOFT, GRID)
