"""SR degraded again against LR: known residuals."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from ctsr.degrade import DegradationParams, degrade_hu
from ctsr.degrade.degradation import NoiseModel
from ctsr.degrade.noise import correlated_normal
from ctsr.errors import DomainError
from ctsr.hallucination import consistency, residual_hu
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import by_interpolation
from tests.made.slices import body

Values = npt.NDArray[np.float64]
BLUR = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.0, dose=1.0)
NOISE = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.003, dose=0.25)
SIGMA = NOISE.noise_std * DEFAULT_RANGE.hu_per_unit
OF = {"scale": 2, "hu_range": DEFAULT_RANGE}
bicubic = by_interpolation("bicubic", 2, DEFAULT_RANGE)


def again(line: Values) -> Values:
    """One axis of the degradation, written out: Gaussian weights, then the mean of two pixels."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)
    return np.convolve(line, taps / taps.sum(), mode="same").reshape(-1, 2).mean(axis=1)


def cubic(x: float, a: float = -0.75) -> float:
    """Keys' kernel (1981)."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def enlarged(line: Values) -> Values:
    """One axis of bicubic enlarging by 2: HR pixels lie at ±¼ of an LR pixel."""
    sides = []
    for offset in (-0.25, 0.25):
        weights = [cubic(offset - k) for k in range(-2, 3)]
        sides.append(np.convolve(line, weights[::-1], mode="same"))
    return np.stack(sides, axis=1).ravel()


def test_bicubic_of_noise_free_lr_leaves_what_its_kernel_says() -> None:
    """A wave along one axis: bicubic, blurred a second time, loses contrast by a known factor."""
    wave = 100 * np.cos(2 * np.pi * 0.07 * np.arange(256) + 0.3)
    lr = degrade_hu(np.tile(wave, (256, 1)), BLUR, 0, **OF)
    residual = residual_hu(bicubic(lr), lr, BLUR, **OF)
    line = again(wave)
    expected = (again(enlarged(line)) - line)[8:-8]
    assert np.abs(expected).mean() > 2
    assert np.allclose(residual[8:-8, 8:-8], expected, atol=0.01)


def test_an_uninvented_slice_leaves_the_noise_of_lr() -> None:
    hr = body(texture=30)
    found = consistency(hr, degrade_hu(hr, NOISE, 5, **OF), NOISE, **OF)
    # A third of the slice is air, where half of the noise was clipped away: the level knows.
    assert found.noise_mean_abs_hu < SIGMA * math.sqrt(2 / math.pi)
    assert found.mean_abs_hu / found.noise_mean_abs_hu == pytest.approx(1, abs=0.03)
    assert found.p95_hu / found.noise_p95_hu == pytest.approx(1, abs=0.03)
    assert found.worst_patch is not None
    assert found.worst_patch.in_noise is not None
    assert abs(found.worst_patch.in_noise) < 4


@pytest.mark.parametrize("cutoff", [0.5, 1.0, 1.5])
def test_a_patch_is_compared_with_what_noise_of_its_correlation_leaves_in_a_mean(cutoff: float) -> None:
    """Correlated noise averages out more slowly than white noise, or faster: it was taken for white."""
    params = replace(NOISE, noise_model="correlated", noise_cutoff=cutoff)
    field = correlated_normal(11, (1024, 1024), cutoff=cutoff)
    of_means = field.reshape(64, 16, 64, 16).mean(axis=(1, 3)).std()
    tissue = np.full((512, 512), 40.0)
    worst = consistency(tissue, degrade_hu(tissue, params, 5, **OF), params, **OF).worst_patch
    assert worst is not None
    assert worst.in_noise is not None
    assert worst.mean_hu / worst.in_noise == pytest.approx(SIGMA * of_means, rel=0.04)
    assert 2 < abs(worst.in_noise) < 4.5


@pytest.mark.parametrize("model", ["projection", "exam"])
def test_noise_that_differs_from_place_to_place_measures_no_patch(model: NoiseModel) -> None:
    params = replace(NOISE, noise_model=model)
    tissue = np.full((64, 64), 40.0)
    worst = consistency(tissue, degrade_hu(tissue, BLUR, 0, **OF) + 5.0, params, **OF).worst_patch
    assert worst is not None
    assert worst.in_noise is None
    assert worst.mean_hu == pytest.approx(-5, abs=0.01)


def test_the_level_is_that_of_unclipped_noise_where_nothing_is_clipped() -> None:
    tissue = np.full((64, 64), 40.0)
    found = consistency(tissue, degrade_hu(tissue, NOISE, 5, **OF), NOISE, **OF)
    levels = found.noise_mean_abs_hu, found.noise_p95_hu
    assert levels == pytest.approx((SIGMA * math.sqrt(2 / math.pi), 1.96 * SIGMA), rel=0.01)


def test_air_is_not_blamed_for_its_noise_being_clipped() -> None:
    air = np.full((256, 256), -1000.0)
    residual = residual_hu(air, degrade_hu(air, NOISE, 5, **OF), NOISE, **OF)
    assert abs(residual.mean()) < 4 * SIGMA / 128


def test_an_invented_blob_shows_at_its_place() -> None:
    hr = body(texture=30)
    lr, painted = degrade_hu(hr, NOISE, 5, **OF), hr.copy()
    painted[96:112, 130:146] += 40
    found = consistency(painted, lr, NOISE, **OF).worst_patch
    assert found is not None
    assert found.in_noise is not None
    assert (found.row, found.column) == (48, 64)
    assert found.mean_hu == pytest.approx(40 / 4, rel=0.2)
    assert found.in_noise > 10


def test_what_lr_cannot_hold_is_not_seen() -> None:
    """The test's own limit: stripes at HR's Nyquist frequency vanish in the mean of two pixels."""
    hr = body(texture=30)
    lr = degrade_hu(hr, BLUR, 0, **OF)
    stripes = hr + np.where(hr > -1000, 30 * (-1.0) ** np.arange(256), 0)
    inside = (slice(32, 96), slice(32, 96))
    assert np.abs(residual_hu(stripes, lr, BLUR, **OF)[inside]).max() < 0.01


def test_without_noise_a_patch_has_no_measure_in_noise() -> None:
    hr = body()
    found = consistency(hr, degrade_hu(hr, BLUR, 0, **OF), BLUR, **OF)
    assert found.mean_abs_hu == 0
    assert found.worst_patch is not None
    assert found.worst_patch.in_noise is None
    assert consistency(hr[:16, :16], lr_hu=hr[:16:2, :16:2], params=BLUR, **OF).worst_patch is None


def test_sr_of_another_size_is_refused() -> None:
    with pytest.raises(DomainError, match="does not match"):
        residual_hu(np.zeros((32, 32)), np.zeros((32, 32)), BLUR, **OF)
