"""A result beside its source: each figure sees what it is for, and nothing else."""

import numpy as np
import pytest
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.quality import (
    BOUNDS,
    BeforeAfter,
    SourceAndResult,
    check,
    excess_hu,
    measure_before_after,
)
from ctsr.volume import block_means
from tests.quality.images import Image, ct_noise, torso

PIXEL = (0.8, 0.8)


def source(sigma: float = 20.0) -> Image:
    return torso() + ct_noise((256, 256), sigma, np.random.default_rng(0), 0.4, PIXEL[0])


def repeated(image: Image, scale: int = 2) -> Image:
    return np.kron(image, np.ones((scale, scale), np.float32))


def finer(image: Image) -> Image:
    return ndimage.zoom(image, 2, order=3, grid_mode=True, mode="nearest")


def compare(before: Image, after: Image, scale: int = 2) -> BeforeAfter:
    return measure_before_after([SourceAndResult(before, after)], scale=scale, pixel_spacing=PIXEL)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_source_repeated_is_its_own_equal(scale: int) -> None:
    found = compare(source(), repeated(source(), scale), scale)
    assert found.noise_ratio == pytest.approx(1, abs=0.02)
    assert found.source_noise_hu == pytest.approx(20, rel=0.05)
    assert found.overshoot_share == 0
    assert found.agreement_hu == pytest.approx(0, abs=1e-4)
    assert found.bias_hu == pytest.approx(dict.fromkeys(found.bias_hu, 0), abs=1e-4)
    assert set(found.bias_hu) == {"lung", "soft", "bone"}  # the fat is too thin to have an inside
    assert set(found.bias_to_the_rim_hu) == {"lung", "fat", "soft", "bone"}


def test_noise_that_grows_or_shrinks_shows_in_the_ratio_and_not_in_agreement() -> None:
    before, clean = source(), torso()
    for factor in (0.5, 1.8):
        found = compare(before, repeated(clean + factor * (before - clean)))
        assert found.noise_ratio == pytest.approx(factor, rel=0.03)
        assert found.agreement_hu is not None
        assert found.agreement_hu < 2
        assert found.bias_hu["soft"] == pytest.approx(0, abs=0.2)


def test_a_shift_of_one_tissue_is_its_bias_and_a_disagreement() -> None:
    before = source(5)
    after = repeated(before + 3 * (ndimage.gaussian_filter(before, 3) < -600))
    found = compare(before, after)
    assert found.bias_hu["lung"] == pytest.approx(3, abs=0.1)
    assert found.bias_hu["soft"] == pytest.approx(0, abs=0.1)
    assert found.agreement_hu == pytest.approx(0, abs=1.5)
    assert found.agreement_hu is not None
    assert found.agreement_hu > 0.2


def test_removing_noise_is_no_bias_inside_of_a_tissue_though_it_is_at_the_rim_of_its_mask() -> None:
    """The truth itself, as a result: pixels at the rim are in the mask for their noise."""
    slope = np.linspace(-100, 70, 48, dtype=np.float32).repeat(256).reshape(48, 256)  # from fat to soft tissue
    ends = np.full((80, 256), -100, np.float32), np.full((80, 256), 70, np.float32)
    truth = np.pad(np.concatenate([ends[0], slope, ends[1]]), 20, constant_values=-1000)
    noisy = truth + ct_noise(truth.shape, 30.0, np.random.default_rng(1), 0.25, PIXEL[0])
    found = compare(noisy, repeated(truth))
    assert found.bias_to_the_rim_hu["soft"] < -0.3
    assert found.bias_to_the_rim_hu["fat"] > 0.2
    assert abs(found.bias_hu["soft"]) < 0.2
    assert abs(found.bias_hu["fat"]) < 0.2


def test_overshoot_counts_the_pixels_beyond_their_neighbourhood() -> None:
    before = source(2)
    after = repeated(before)
    after[100:102, 200:210] += 500
    found = compare(before, after)
    body = 4 * 256 * 256 * 0.7  # at most; the ellipse holds less
    assert found.overshoot_share is not None
    assert 20 / body < found.overshoot_share < 20 / body * 2
    assert found.overshoot_most_hu == pytest.approx(500, abs=40)
    assert excess_hu(before, repeated(before), 2).max() == 0


def test_block_means_undo_repetition() -> None:
    image = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    np.testing.assert_allclose(block_means(repeated(image, 4), 4), image, rtol=1e-6)


def test_a_slice_of_air_has_no_figures() -> None:
    air = np.full((64, 64), -1000, np.float32)
    found = compare(air, repeated(air))
    assert (found.noise_ratio, found.overshoot_share, found.agreement_hu) == (None, None, None)
    assert found.bias_hu == {}
    assert all(checked.kept for checked in check(found))


def test_a_result_of_another_size_is_refused() -> None:
    with pytest.raises(DomainError, match="not 4 times"):
        compare(source(), repeated(source()), 4)


def test_each_bound_names_its_figure_and_its_limit() -> None:
    bad = BeforeAfter(30.0, 1.9, 0.13, 1620.0, 8.0, {"bone": -2.4}, 3)
    good = BeforeAfter(30.0, 0.7, 0.004, 90.0, 1.2, {"bone": -0.2}, 3)
    assert [checked.bound.name for checked in check(bad) if not checked.kept] == [bound.name for bound in BOUNDS[:4]]
    assert all(checked.kept for checked in check(good, good))
    assert "1.9×, at most 0.8× expected" in check(bad)[0].warning
    quiet = BeforeAfter(5.0, 0.95, 0.004, 90.0, 1.2, {}, 3)
    assert check(quiet)[0].kept  # only where there is much noise must there be less


def test_edges_are_compared_with_those_of_another_result() -> None:
    before = torso(blur=1.0)
    sharp, blunt = finer(before), finer(ndimage.gaussian_filter(before, 1.0))
    found = measure_before_after([SourceAndResult(before, blunt)], scale=2, pixel_spacing=PIXEL, others=[sharp])
    assert found.edge_width_ratio == pytest.approx(2**0.5, rel=0.05)
    assert found.edge_width_mm == pytest.approx(2.563 * 2**0.5 * PIXEL[0], rel=0.05)
    assert "edge width against bicubic" in [checked.bound.name for checked in check(found) if not checked.kept]
