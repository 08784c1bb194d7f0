"""Noise of an exam at less dose, made of an image's own noise: against a scan at that dose, and in a slice pair."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ctsr.degrade import Degradation, DegradationParams, WholeSlice, degrade, with_own_noise
from ctsr.degrade.noise import own_noise
from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE
from ctsr.physics import NoiseSpectrum, Region, power_map, spectrum_of
from ctsr.projection import (
    SHARP,
    SOFT,
    Ellipse,
    Exposure,
    FanBeam,
    ImageGrid,
    Kernel,
    expose,
    project_shapes,
    reconstruct,
    to_hu,
)
from ctsr.quality.noise import cut
from tests.quality.images import ct_noise, torso

SCANNER = FanBeam(columns=240, views=320, column_mm=3.2)
GRID = ImageGrid((144, 144), 2.0)
SHAPES = (Ellipse(1000.0, (0.0, 0.0), (90.0, 140.0)), Ellipse(600.0, (-20.0, 60.0), (14.0, 18.0)))
"""Water, with a piece of 600 HU in it."""
FLUX = 4e5
SCANS = 10

Images = npt.NDArray[np.float32]


def scans(kernel: Kernel, dose: float) -> tuple[Images, Images]:
    """Scans at a dose, and scans at full dose with noise of their own added: (scans, rows, columns) each."""
    truth = project_shapes(SHAPES, SCANNER)
    direct, added = list[Images](), list[Images]()
    for seed in range(SCANS):
        rng = np.random.default_rng(seed)
        direct.append(to_hu(reconstruct(expose(truth, Exposure(FLUX, dose=dose), rng), SCANNER, kernel, GRID)))
        image = to_hu(reconstruct(expose(truth, Exposure(FLUX), rng), SCANNER, kernel, GRID))
        own = own_noise(image, GRID.pixel_mm)
        assert own is not None
        added.append(image + np.float32(np.sqrt(1 / dose - 1)) * own.field(seed))
    return np.stack(direct), np.stack(added)


def rings() -> list[list[Region]]:
    """Squares of 16 pixels in the body: about the middle, and farther out."""
    middle = [Region(row, column, 16) for row in (56, 72) for column in (48, 64)]
    outer = [Region(row, column, 16) for row in (56, 72) for column in (20, 108)]
    return [middle, outer, [Region(36, 64, 16), Region(92, 64, 16)]]


def spread(images: Images, regions: list[Region]) -> float:
    variance = images.astype(np.float64).var(axis=0, ddof=1)
    return float(cut(variance, regions).mean() ** 0.5)


def spectrum(images: Images) -> NoiseSpectrum:
    regions = [Region(row, column, 32) for row in (40, 72) for column in (24, 56, 88)]
    noise = images - images.mean(axis=0)
    return spectrum_of([power_map(cut(image, regions), GRID.pixel_mm) for image in noise], GRID.pixel_mm, 6 * SCANS)


@pytest.mark.parametrize(("kernel", "dose"), [(SOFT, 0.25), (SHARP, 0.4)])
def test_an_images_own_noise_makes_a_scan_at_less_dose(kernel: Kernel, dose: float) -> None:
    """Tolerance: standard deviations to 10 % in each part of the body, 5 % over all; mean frequency to 8 %; 1 HU.

    The small windows that noise is measured in smear the spectrum of a soft kernel a little towards high frequencies.
    """
    direct, added = scans(kernel, dose)
    ratios = np.array([spread(added, part) / spread(direct, part) for part in rings()])
    assert np.abs(ratios - 1).max() < 0.1, ratios
    assert abs(float(ratios.mean()) - 1) < 0.05, ratios
    assert spectrum(added).mean_per_mm == pytest.approx(spectrum(direct).mean_per_mm, rel=0.08)
    everywhere = [place for part in rings() for place in part]
    bias = cut((added - direct).mean(axis=0), everywhere).mean()
    assert abs(float(bias)) < 1.0


def test_added_variance_follows_the_dose_and_the_place() -> None:
    rng = np.random.default_rng(0)
    strength = np.linspace(0.5, 1.5, 256, dtype=np.float32)[None]  # three times as much on the right
    image = torso(256) + strength * ct_noise((256, 256), 12.0, rng, 0.45, 0.8)
    own = own_noise(image, 0.8)
    assert own is not None
    left, right = own.sigma_hu[180:220, 60:90].mean(), own.sigma_hu[180:220, 165:195].mean()
    assert left == pytest.approx(12 * strength[0, 75], rel=0.15)
    assert right == pytest.approx(12 * strength[0, 180], rel=0.15)
    field = own.field(7)
    assert np.array_equal(field, own.field(7))
    assert float(np.mean(field**2)) == pytest.approx(float(np.mean(own.sigma_hu**2)), rel=0.05)


def test_a_pair_says_how_much_was_added() -> None:
    """`noise_std` is √(1/a − 1) times the noise that was measured, and that is what was added."""
    rng = np.random.default_rng(1)
    hr = torch.from_numpy(DEFAULT_RANGE.to_unit(torso(384) + ct_noise((384, 384), 20.0, rng, 0.5, 0.8)))[None, None]
    whole = WholeSlice(0.8, DEFAULT_RANGE)
    drawn = Degradation(noise_model=("exam",), dose_factor_range=(0.25, 0.25)).sample(np.random.default_rng(2))
    assert (drawn.noise_sigma, drawn.dose, drawn.has_noise) == (0.0, 0.25, True)
    clean = degrade(hr.float(), [drawn.noiseless], [0], scale=2)
    params = with_own_noise(clean[0, 0].numpy(), drawn, whole, 2)
    added = degrade(hr.float(), [params], [3], scale=2, whole=whole) - clean
    inside = clean > -0.5  # elsewhere, air is clipped
    assert float(added[inside].std()) == pytest.approx(params.noise_std, rel=0.15)
    assert params.noise_std == pytest.approx(params.noise_sigma * np.sqrt(3))
    assert params.noise_sigma > 0


def test_it_needs_whole_slices_and_adds_nothing_at_full_dose() -> None:
    hr = torch.zeros(1, 1, 64, 64)
    params = DegradationParams(0, 1, 0.0, 0.5, noise_model="exam")
    with pytest.raises(DomainError, match="noise_model exam needs whole slices"):
        degrade(hr, [params], [0], scale=2)
    full = DegradationParams(0, 1, 0.0, 1.0, noise_model="exam")
    assert degrade(hr, [full], [0], scale=2).equal(degrade(hr, [full.noiseless], [0], scale=2))
    # Nothing to measure: no noise.
    whole = WholeSlice(0.8, DEFAULT_RANGE)
    assert degrade(hr - 1, [params], [0], scale=2, whole=whole).equal(degrade(hr - 1, [full], [0], scale=2))
