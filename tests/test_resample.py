import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsr.errors import DomainError
from ctsr.volume import Plane, at_spacing, resample

AXES = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SPACINGS = (0.27, 0.31, 0.4, 0.5, 0.645, 0.703125, 0.760, 0.8, 0.859, 0.9765625, 1.1, 1.3671875, 1.4)
TARGET = 0.8


def plane(shape: tuple[int, int], spacing: tuple[float, float]) -> Plane:
    return Plane(shape, spacing, (-130.0, -150.0, 12.5), AXES)


def positions(where: Plane) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """x and y in mm of every pixel."""
    rows, columns = np.indices(where.shape)
    return where.origin[0] + columns * where.spacing[1], where.origin[1] + rows * where.spacing[0]


def ball(where: Plane, x: float, y: float, sigma: float = 4.0) -> npt.NDArray[np.float32]:
    """A smooth bump at (x, y) mm, 1000 HU above air."""
    xs, ys = positions(where)
    return (-1000 + 1000 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))).astype(np.float32)


def center_of_mass(hu: npt.NDArray[np.float32], where: Plane) -> tuple[float, float]:
    xs, ys = positions(where)
    weight = hu.astype(np.float64) + 1000
    return float((xs * weight).sum() / weight.sum()), float((ys * weight).sum() / weight.sum())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_structure_keeps_its_position_in_mm(spacing: float, antialias: bool) -> None:
    size = round(220 / spacing)
    before = plane((size, size - 3), (spacing, spacing))
    after = at_spacing(before, TARGET)
    for x, y in ((-100.0, -110.0), (20.3, 30.7)):
        moved = resample(ball(before, x, y), None, before, after, antialias=antialias)
        assert center_of_mass(moved.hu, after) == pytest.approx((x, y), abs=0.01)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_new_raster_has_exactly_the_target_spacing_and_the_old_centre(spacing: float) -> None:
    before = plane((512, 300), (spacing, spacing * 0.9))
    after = at_spacing(before, TARGET)
    assert after.spacing == (TARGET, TARGET)
    assert after.shape == (round(512 * spacing / TARGET), round(300 * spacing * 0.9 / TARGET))
    old, new = (where.position((where.shape[0] - 1) / 2, (where.shape[1] - 1) / 2) for where in (before, after))
    assert new == pytest.approx(old, abs=1e-9)
    shift = ((300 - 1) * spacing * 0.9 - (after.shape[1] - 1) * TARGET) / 2
    assert after.origin[0] - before.origin[0] == pytest.approx(shift, abs=1e-9)


@given(
    value=st.floats(-3024, 3071, width=32),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    spacing=st.tuples(st.floats(0.2, 2.0), st.floats(0.2, 2.0)),
    antialias=st.booleans(),
)
def test_a_constant_slice_stays_constant_to_its_border(
    value: float, shape: tuple[int, int], spacing: tuple[float, float], antialias: bool
) -> None:
    before = plane(shape, spacing)
    hu = np.full(shape, value, np.float32)
    result = resample(hu, None, before, at_spacing(before, TARGET), antialias=antialias)
    assert (result.hu == np.float32(value)).all()


def test_a_ramp_is_interpolated_linearly_between_pixel_centres() -> None:
    before = plane((40, 40), (1.0, 1.0))
    after = at_spacing(before, TARGET)
    xs, ys = positions(before)
    result = resample((xs + 2 * ys).astype(np.float32), None, before, after)
    new_xs, new_ys = positions(after)
    inside = (slice(1, -1), slice(1, -1))
    assert np.allclose(result.hu[inside], (new_xs + 2 * new_ys)[inside], atol=1e-3)


def tone_left(antialias: bool) -> float:
    """Share of a tone above the new Nyquist frequency that survives shrinking 0.31 → 0.8 mm."""
    before = plane((400, 400), (0.31, 0.31))
    tone = 1.1 / (2 * TARGET)  # cycles per mm, a tenth above Nyquist
    xs, _ = positions(before)
    hu = (100 * np.cos(2 * np.pi * tone * xs)).astype(np.float32)
    return float(
        resample(hu, None, before, at_spacing(before, TARGET), antialias=antialias).hu[10:-10, 10:-10].std()
    ) / (100 / np.sqrt(2))


def test_a_tone_above_nyquist_is_gone_after_shrinking() -> None:
    assert tone_left(antialias=True) < 0.35
    assert tone_left(antialias=False) > 0.6


def test_a_fine_grating_leaves_nothing_of_itself() -> None:
    before = plane((400, 400), (0.31, 0.31))
    hu = np.where(np.indices(before.shape).sum(axis=0) % 2, 500, -500).astype(np.float32)
    after = at_spacing(before, TARGET)
    inside = (slice(5, -5), slice(5, -5))
    assert resample(hu, None, before, after).hu[inside].std() < 2  # of 500
    assert resample(hu, None, before, after, antialias=False).hu[inside].std() > 50


@pytest.mark.parametrize("spacing", SPACINGS)
def test_padding_never_mixes_into_tissue(spacing: float) -> None:
    before = plane((120, 120), (spacing, spacing))
    rows, columns = np.indices(before.shape) - 59.5
    outside = np.hypot(rows, columns) > 55
    hu = np.where(outside, -3024, 40).astype(np.float32)
    result = resample(hu, outside, before, at_spacing(before, TARGET))
    assert result.padding is not None
    assert (result.hu[~result.padding] == 40).all()
    assert (result.hu[result.padding] == -1000).all()
    share = result.padding.mean()
    assert share == pytest.approx(outside.mean(), abs=0.03)


def test_a_slice_of_nothing_but_padding_stays_padding() -> None:
    before = plane((20, 20), (1.0, 1.0))
    result = resample(np.full((20, 20), -2000, np.float32), np.ones((20, 20), bool), before, at_spacing(before, TARGET))
    assert result.padding is not None
    assert result.padding.all()
    assert (result.hu == -1000).all()


def test_the_same_spacing_changes_nothing() -> None:
    before = plane((33, 44), (TARGET, TARGET))
    hu = np.random.default_rng(0).integers(-1000, 2000, (33, 44)).astype(np.float32)
    assert np.array_equal(resample(hu, None, before, at_spacing(before, TARGET)).hu, hu)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_mean_hu_is_kept(spacing: float) -> None:
    before = plane((300, 300), (spacing, spacing))
    hu = np.random.default_rng(2).normal(40, 15, before.shape).astype(np.float32)
    result = resample(hu, None, before, at_spacing(before, TARGET))
    assert abs(float(result.hu.mean()) - float(hu.mean())) < 0.5


def test_a_plane_without_extent_is_refused() -> None:
    with pytest.raises(DomainError, match="above 0 mm"):
        plane((10, 10), (0.0, 1.0))
