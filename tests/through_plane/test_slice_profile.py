"""Thickening, interpolation and projection along the slices' normal."""

import numpy as np
import pytest
from scipy import integrate, stats

from ctsr.errors import DomainError
from ctsr.through_plane import (
    AlongZ,
    SliceProfile,
    interpolation,
    kept_by_projection,
    projection,
    thickening,
    to_nearest,
    whole_within,
)

THIN = np.arange(0.0, 60.0)


@pytest.mark.parametrize("softness", [0.0, 0.4, 1.5])
def test_a_profile_is_a_rectangle_blurred_by_a_gaussian(softness: float) -> None:
    profile = SliceProfile(5.0, softness)

    def density(z: float) -> float:
        if softness == 0:
            return 0.2 if abs(z) <= 2.5 else 0.0
        below = stats.norm.cdf((z + 2.5) / softness) - stats.norm.cdf((z - 2.5) / softness)
        return float(below) / 5.0

    for height in (-3.1, -2.0, 0.0, 1.3, 4.0):
        expected, _ = integrate.quad(density, -12.0, height, points=[-2.5, 2.5], limit=200)
        assert float(profile.below(height)) == pytest.approx(expected, abs=1e-6)
    assert float(profile.below(profile.reach)) == pytest.approx(1.0, abs=1e-4)


def test_thickening_a_ramp_gives_the_ramp_at_the_thick_slices() -> None:
    thick = np.arange(8.0, 50.0, 4.2)
    matrix = thickening(SliceProfile(5.0, 0.6), thick, THIN)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    # Thin slices are constant over their distance: of a ramp that is off by less than a thousandth here.
    np.testing.assert_allclose(matrix @ (3.0 * THIN + 7.0), 3.0 * thick + 7.0, atol=0.3)


def test_thickening_a_thin_plate_gives_the_profile() -> None:
    plate = np.zeros(60)
    plate[30] = 1000.0
    thick = np.arange(20.0, 41.0)
    seen = thickening(SliceProfile(5.0), thick, THIN) @ plate
    # A plate of 1 mm fills a fifth of each slice of 5 mm that it lies in.
    np.testing.assert_allclose(seen[(thick >= 28) & (thick <= 32)], 200.0)
    np.testing.assert_allclose(seen[(thick < 27) | (thick > 33)], 0.0, atol=1e-9)


def test_thickness_of_one_slice_changes_nothing() -> None:
    np.testing.assert_allclose(thickening(SliceProfile(1.0), THIN, THIN), np.eye(60), atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cubic", "lanczos"])
def test_interpolation_meets_the_slices_it_is_given(kind: AlongZ) -> None:
    source = np.arange(0.0, 60.0, 5.0)
    matrix = interpolation(kind, source, source)
    np.testing.assert_allclose(matrix, np.eye(len(source)), atol=1e-12)
    np.testing.assert_allclose(interpolation(kind, source, THIN).sum(axis=1), 1.0)


def test_linear_and_cubic_interpolation_keep_a_ramp() -> None:
    source, inside = np.arange(0.0, 60.0, 5.0), np.arange(6.0, 49.0)
    for kind in ("linear", "cubic"):
        np.testing.assert_allclose(interpolation(kind, source, inside) @ source, inside, atol=1e-9)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(DomainError, match="no interpolation is called"):
        interpolation("nearest", [0.0, 1.0], [0.5])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("thickness", "distance"), [(5.0, 5.0), (5.0, 3.0), (2.5, 4.0)])
def test_what_is_projected_onto_thick_slices_gives_them_back(thickness: float, distance: float) -> None:
    rng = np.random.default_rng(3)
    thick_at = np.arange(5.0, 55.0, distance)
    operator = thickening(SliceProfile(thickness, 0.3), thick_at, THIN)
    truth, guess = rng.normal(0, 50, 60), rng.normal(0, 50, 60)
    thick = operator @ truth
    better = guess + projection(operator) @ (thick - operator @ guess)
    np.testing.assert_allclose(operator @ better, thick, atol=2.0)
    # A projection onto something that the truth lies in cannot lead away from it.
    assert np.linalg.norm(better - truth) < np.linalg.norm(guess - truth)


def test_of_an_error_the_projection_leaves_what_thick_slices_do_not_see() -> None:
    rng = np.random.default_rng(4)
    profile, thick_at = SliceProfile(5.0), np.arange(-2.0, 64.0, 3.0)
    truth, guess = rng.normal(0, 50, 60), rng.normal(0, 50, 60)
    # Those that reach beyond the thin slices are no use to it.
    within = thick_at[whole_within(profile, thick_at, THIN)]
    assert within[0] - 2.5 >= -0.5
    assert within[-1] + 2.5 <= 59.5
    assert len(within) == len(thick_at) - 4
    operator = thickening(profile, within, THIN)
    better = guess + projection(operator) @ (operator @ truth - operator @ guess)
    kept = kept_by_projection(profile, thick_at, THIN)
    np.testing.assert_allclose(kept @ (guess - truth), better - truth, atol=1e-9)
    # Where no thick slice lies whole, nothing can be projected.
    np.testing.assert_array_equal(kept_by_projection(SliceProfile(80.0), thick_at, THIN), np.eye(60))


@pytest.mark.parametrize("profile", [SliceProfile(5.0), SliceProfile(5.0, 1.0), SliceProfile(0.5, 2.12)])
def test_the_width_of_a_profile_is_that_at_half_its_height(profile: SliceProfile) -> None:
    # The slope of its integral is the profile.
    at = np.array([0.0, profile.width / 2 - 0.01, profile.width / 2 + 0.01])
    height = (profile.below(at + 1e-4) - profile.below(at - 1e-4)) / 2e-4
    assert height[1] > height[0] / 2 > height[2]
    assert profile.width == pytest.approx(5.0, abs=0.04)


def test_the_nearest_slice_is_named_by_the_way_to_it() -> None:
    np.testing.assert_allclose(to_nearest([0.0, 5.0], [0.0, 1.0, 2.0, 3.0, 4.0]), [0, -1, -2, 2, 1])
