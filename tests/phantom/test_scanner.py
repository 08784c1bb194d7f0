import numpy as np
import pytest

from ctsr.phantom.patients import PATIENTS
from ctsr.phantom.rendering import KERNELS, acquire, noise_field

SPACING = 0.75


def power(name: str, low: float, high: float) -> float:
    """Mean noise power between two frequencies in cycles per mm, relative to white noise of the same variance."""
    rng = np.random.default_rng(0)
    noise = noise_field((256, 256), KERNELS[name], SPACING, rng)
    spectrum = np.abs(np.fft.fft2(noise)) ** 2 / noise.size / noise.var()
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256, SPACING), np.fft.fftfreq(256, SPACING)))
    return float(spectrum[(low <= frequency) & (frequency < high)].mean())


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_noise_has_unit_variance_and_no_mean(name: str) -> None:
    noise = noise_field((256, 320), KERNELS[name], SPACING, np.random.default_rng(1))
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert abs(noise.mean()) < 1e-3


def test_noise_is_a_ramp_that_the_kernel_cuts_off_and_not_white() -> None:
    lowest, middle, highest = power("B30f", 0, 0.05), power("B30f", 0.15, 0.25), power("B30f", 0.55, 0.66)
    assert middle > 3 * lowest
    assert middle > 5 * highest


def test_a_lung_kernel_has_finer_grain_than_a_smooth_one() -> None:
    assert power("LUNG", 0.5, 0.66) > 4 * power("B30f", 0.5, 0.66)


def test_a_kernel_keeps_the_hu_of_a_large_area_and_blurs_its_edge() -> None:
    disc = np.hypot(*np.meshgrid(np.arange(-64, 64), np.arange(-64, 64))) < 40
    hu = np.where(disc, 60.0, -1000.0).astype(np.float32)
    scanner = PATIENTS[0].scanner
    image = acquire(hu, scanner, KERNELS["SOFT"], spacing=SPACING, thickness=2.5, rng=np.random.default_rng(0))
    assert image[54:74, 54:74].mean() == pytest.approx(60, abs=1)
    edge = image[64, 100:107]
    assert (np.diff(edge) < 0).all()
    assert ((edge > -900) & (edge < 0)).sum() >= 2


def test_noise_is_stronger_in_the_middle_of_a_body_and_with_thinner_slices() -> None:
    disc = np.hypot(*np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))) < 110
    hu = np.where(disc, 40.0, -1000.0).astype(np.float32)

    def noise(thickness: float, area: tuple[slice, slice]) -> float:
        pair = [
            acquire(
                hu,
                PATIENTS[0].scanner,
                KERNELS["STANDARD"],
                spacing=1.4,
                thickness=thickness,
                rng=np.random.default_rng(seed),
            )[area]
            for seed in (1, 2)
        ]
        return float((pair[0] - pair[1]).std()) / 2**0.5

    middle, rim = np.s_[108:148, 108:148], np.s_[108:148, 22:40]
    assert noise(2.5, middle) > 1.2 * noise(2.5, rim)
    assert noise(1.25, middle) == pytest.approx(2**0.5 * noise(2.5, middle), rel=0.05)
