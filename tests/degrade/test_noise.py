"""Correlated noise: the spectrum of CT, the same bits whatever the crop, as strong as it is said to be."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from ctsr.degrade import Degradation, DegradationParams, degrade
from ctsr.degrade.noise import correlated_normal, noise_kernel

Field = npt.NDArray[np.float32]


def radial_spectrum(field: Field) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    power = np.abs(np.fft.fft2(field)) ** 2
    along = np.fft.fftfreq(field.shape[0])
    rings = np.rint(np.hypot(along[:, None], along[None, :]) * 64).astype(int)
    return np.arange(33) / 64, np.array([power[rings == ring].mean() for ring in range(33)])


@pytest.mark.parametrize("cutoff", [0.4, 0.8, 1.2, 1.6])
def test_its_standard_deviation_is_1(cutoff: float) -> None:
    fields = [correlated_normal(seed, (256, 256), cutoff=cutoff) for seed in range(4)]
    assert np.std(fields) == pytest.approx(1, rel=0.02)
    assert abs(np.mean(fields)) < 0.02


@pytest.mark.parametrize("cutoff", [0.6, 0.8, 1.0])
def test_its_spectrum_is_a_ramp_under_hanns_window(cutoff: float) -> None:
    frequency, power = radial_spectrum(np.mean([[correlated_normal(0, (512, 512), cutoff=cutoff)]], axis=(0, 1)))
    end = cutoff / 2
    window = np.where(frequency < end, np.cos(np.pi * frequency / (2 * end)) ** 2, 0)
    expected = frequency * window**2
    mean = (power * frequency * frequency).sum() / (power * frequency).sum()
    wanted = (expected * frequency * frequency).sum() / (expected * frequency).sum()
    assert mean == pytest.approx(wanted, rel=0.05)


def test_a_crop_of_a_field_is_that_crop_to_the_bit() -> None:
    whole = correlated_normal(7, (96, 80), cutoff=0.9)
    assert np.array_equal(correlated_normal(7, (20, 31), (40, 17), cutoff=0.9), whole[40:60, 17:48])


def test_the_kernel_has_an_energy_of_1_and_next_to_nothing_at_its_rim() -> None:
    kernel = noise_kernel(0.4)
    assert (kernel**2).sum() == pytest.approx(1, rel=1e-5)
    assert np.abs(kernel[[0, -1]]).max() < 0.05 * np.abs(kernel).max()


def test_correlated_noise_is_as_strong_in_hu_as_white_noise() -> None:
    flat = torch.zeros(2, 1, 512, 512)
    params = DegradationParams(0, 1, 10 / 1500, 1, noise_model="correlated", noise_cutoff=0.9)
    noisy = degrade(flat, [params] * 2, [1, 2], scale=2)
    assert float(noisy.std()) * 1500 == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("scale", [2, 4])
def test_area_downsampling_is_the_mean_of_each_cell(scale: int) -> None:
    hr = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 1, 32, 48)).astype(np.float32))
    params = DegradationParams(0, 1, 0, 1, downsampling="area")
    assert torch.allclose(degrade(hr, [params], [0], scale=scale), F.avg_pool2d(hr, scale), atol=1e-6)


def test_a_blur_of_next_to_nothing_is_none() -> None:
    drawn = Degradation("blur", blur_sigma_range=(0.0, 0.01)).sample(np.random.default_rng(0))
    assert (drawn.blur_sigma, drawn.blur_kernel) == (0.0, 1)


def test_choices_leave_the_other_draws_what_they_were() -> None:
    plain = Degradation().sample(np.random.default_rng(5))
    wide = Degradation(noise_model=("white", "correlated"), downsampling=("bilinear", "area"))
    drawn = wide.sample(np.random.default_rng(5))
    assert (drawn.blur_sigma, drawn.noise_sigma, drawn.dose) == (plain.blur_sigma, plain.noise_sigma, plain.dose)


def test_skewed_noise_is_mostly_low() -> None:
    skewed = Degradation(noise_sigma_range=(0.0, 1.0), noise_skew=3.0)
    rng = np.random.default_rng(0)
    drawn = [skewed.sample(rng).noise_sigma for _ in range(400)]
    assert np.median(drawn) == pytest.approx(0.125, abs=0.03)
