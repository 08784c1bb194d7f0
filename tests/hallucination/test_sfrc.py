"""Scanning Fourier ring correlation: what is flagged, and what is not."""

import numpy as np
import pytest
from scipy import ndimage

from ctsr.errors import DomainError
from ctsr.hallucination import SFRCSettings, frc_curve, sfrc
from ctsr.hallucination.slice_checks import parting_frequency
from ctsr.physics import soft_disc
from tests.made.slices import Slice, body

PIXEL = 0.8


def honest(hr: Slice) -> Slice:
    """Less sharp than HR, and with a little noise of its own."""
    rng = np.random.default_rng(9)
    return (ndimage.gaussian_filter(hr, 0.8) + rng.normal(0, 1, hr.shape)).astype(np.float32)


def test_images_that_differ_in_brightness_and_contrast_alone_agree() -> None:
    hr = body(texture=30)[96:160, 96:160].astype(np.float64)
    assert np.allclose(frc_curve(0.5 * hr + 100, hr), 1)
    assert parting_frequency(frc_curve(hr, hr), PIXEL, 0.5) is None


def test_independent_noise_does_not_correlate() -> None:
    rng = np.random.default_rng(0)
    curve = frc_curve(*rng.normal(size=(2, 64, 64)))
    assert np.abs(curve[4:]).max() < 0.45
    assert abs(curve[4:].mean()) < 0.05


def test_a_lesion_turned_from_bright_to_dark_does_not_agree() -> None:
    disc = soft_disc((64, 64), (32, 32), 5)
    assert np.allclose(frc_curve(-disc, disc)[1:20], -1)


def test_noise_lowers_the_correlation_as_its_power_says() -> None:
    """With signal S in both and noise N in one, a ring's correlation is √(S / (S + N))."""
    rng = np.random.default_rng(4)
    signal = rng.normal(0, 1, (40, 64, 64))
    curves = [frc_curve(one + rng.normal(0, 1, (64, 64)), one) for one in signal]
    assert np.mean(curves, axis=0)[5:].mean() == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_images_part_between_two_rings() -> None:
    curve = np.array([1, 0.9, 0.75, 0.25])
    # Half-way between rings 2 and 3 of a patch of 8 pixels.
    assert parting_frequency(curve, PIXEL, 0.5) == pytest.approx(2.5 / (8 * PIXEL))
    assert parting_frequency(np.ones(4), PIXEL, 0.5) is None


def test_a_painted_blob_is_flagged_and_the_honest_slice_is_not() -> None:
    hr = body(texture=12, noise=8)
    sr = honest(hr)
    assert sfrc(sr, hr, PIXEL).flagged == ()
    painted = sr + 60 * soft_disc(hr.shape, (96, 160), 5)
    flagged = sfrc(painted, hr, PIXEL).flagged
    assert (flagged[0].row, flagged[0].column) == (64, 128)
    assert flagged[0].frequency_per_mm < 0.1
    assert all(one.row <= 96 < one.row + 64 and one.column <= 160 < one.column + 64 for one in flagged)


@pytest.mark.parametrize("place", [(96, 96), (128, 128), (112, 128), (100, 143)])
def test_no_place_is_hidden_between_patches(place: tuple[int, int]) -> None:
    hr = body(texture=12, noise=8)
    assert sfrc(honest(hr) + 60 * soft_disc(hr.shape, place, 5), hr, PIXEL).flagged


def test_a_vanished_lesion_is_flagged() -> None:
    hr = body(texture=12, noise=8)
    sick = hr + 60 * soft_disc(hr.shape, (96, 160), 5)
    flagged = sfrc(honest(hr), sick, PIXEL).flagged
    assert (flagged[0].row, flagged[0].column) == (64, 128)


def test_air_and_flat_tissue_are_not_judged_but_what_is_invented_there_is() -> None:
    hr = body()
    noise = np.random.default_rng(1).normal(0, 6, hr.shape)
    inner = sfrc((hr + noise)[64:192, 64:192], hr[64:192, 64:192], PIXEL, noise_hu=6)
    assert (inner.judged, inner.unjudged, inner.share) == (0, 9, None)
    assert inner.floor_hu == 12
    blob = 120 * soft_disc(hr.shape, (96, 96), 5)
    painted = sfrc((hr + noise + blob)[64:192, 64:192], hr[64:192, 64:192], PIXEL, noise_hu=6)
    assert painted.share == 1.0
    assert painted.judged == len(painted.flagged)
    assert (0, 0) in [(one.row, one.column) for one in painted.flagged]


def test_what_lies_outside_the_body_is_not_judged() -> None:
    hr = np.full((256, 512), -1000, np.float32)
    hr[:, :256] = body(texture=25)
    beside = hr.copy()
    beside[100:120, 400:420] += 500
    assert sfrc(beside[:, 256:], body(texture=25), PIXEL).flagged
    assert sfrc(beside, hr, PIXEL).flagged == ()


def test_a_slice_that_patches_do_not_divide_is_scanned_to_its_border() -> None:
    hr = body(texture=12, noise=8)[50:200, 50:200]
    sr = hr + 60 * soft_disc(hr.shape, (128, 128), 5)
    found = sfrc(sr, hr, PIXEL)
    assert found.judged + found.unjudged == 4 * 4
    assert (86, 86) in [(one.row, one.column) for one in found.flagged]
    assert sfrc(sr[:40, :40], hr[:40, :40], PIXEL).judged == 0


def test_patches_that_part_beyond_the_limit_are_not_flagged() -> None:
    hr = body(texture=12, noise=8)
    painted = honest(hr) + 60 * soft_disc(hr.shape, (96, 160), 5)
    parting = sfrc(painted, hr, PIXEL).flagged[0].frequency_per_mm
    assert not sfrc(painted, hr, PIXEL, settings=SFRCSettings(limit_per_mm=parting - 0.001)).flagged


def test_shapes_and_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DomainError, match="one shape"):
        sfrc(np.zeros((64, 64)), np.zeros((64, 65)), PIXEL)
    with pytest.raises(DomainError, match="even"):
        SFRCSettings(patch=63)
    with pytest.raises(DomainError, match="apart"):
        SFRCSettings(stride=65)
