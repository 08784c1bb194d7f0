"""Noise of the projections, and what is added to an image for a lower dose, against a scan at that dose."""

import numpy as np
import numpy.typing as npt
import pytest

from ctsr.errors import DomainError
from ctsr.physics import NoiseSpectrum, Region, power_map, spectrum_of
from ctsr.projection import (
    SHARP,
    SOFT,
    Ellipse,
    Exposure,
    FanBeam,
    ImageGrid,
    Kernel,
    added_noise,
    exam_dose_noise,
    expose,
    project_shapes,
    reconstruct,
    to_hu,
)
from ctsr.quality.noise import cut

SCANNER = FanBeam(columns=240, views=320, column_mm=3.2)
"""A field of 200 mm to either side, and columns of 1.75 mm: as thick a body as is scanned, in little time."""
GRID = ImageGrid((144, 144), 2.0)
SHAPES = (Ellipse(1000.0, (0.0, 0.0), (90.0, 140.0)), Ellipse(600.0, (-20.0, 60.0), (14.0, 18.0)))
FLUX = 4e5
SCANS = 40


def images(kernel: Kernel, dose: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scans at a dose, and scans at full dose with the noise added that they lack: (scans, rows, columns) each."""
    truth = project_shapes(SHAPES, SCANNER)
    direct, added = list[npt.NDArray[np.float32]](), list[npt.NDArray[np.float32]]()
    for seed in range(SCANS):
        rng = np.random.default_rng(seed)
        low, full = Exposure(FLUX, dose=dose), Exposure(FLUX)
        direct.append(to_hu(reconstruct(expose(truth, low, rng), SCANNER, kernel, GRID)))
        image = to_hu(reconstruct(expose(truth, full, rng), SCANNER, kernel, GRID))
        noise = exam_dose_noise(image, GRID.pixel_mm, low, kernel=kernel, seed=seed, geometry=SCANNER)
        added.append(image + noise)
    return np.stack(direct), np.stack(added)


def regions() -> list[Region]:
    """Squares of 16 pixels that lie in the body."""
    body = SHAPES[0]
    places = [Region(row, column, 16) for row in range(0, 129, 16) for column in range(0, 129, 16)]
    ends = GRID.rows_mm[[0, 15]] - GRID.rows_mm[0]
    return [
        place
        for place in places
        if body.holds(
            (GRID.rows_mm[place.row] + ends)[:, None] * 1.06, (GRID.columns_mm[place.column] + ends)[None] * 1.06
        ).all()
    ]


def spreads(scans: npt.NDArray[np.float32], inside: list[Region]) -> npt.NDArray[np.float64]:
    """Standard deviation over scans, of each region."""
    variance = scans.astype(np.float64).var(axis=0, ddof=1)
    return cut(variance, inside).mean(axis=(1, 2)) ** 0.5


def spectrum(scans: npt.NDArray[np.float32]) -> NoiseSpectrum:
    middle = [Region(row, column, 32) for row in (40, 72) for column in (24, 56, 88)]
    noise = scans - scans.mean(axis=0)
    maps = [power_map(cut(scan, middle), GRID.pixel_mm) for scan in noise]
    return spectrum_of(maps, GRID.pixel_mm, len(middle) * len(scans))


@pytest.mark.parametrize(("kernel", "dose"), [(SOFT, 0.25), (SHARP, 0.4)])
def test_noise_added_to_an_image_is_that_of_a_scan_at_the_dose(kernel: Kernel, dose: float) -> None:
    direct, added = images(kernel, dose)
    inside = regions()
    assert len(inside) > 12
    spread, other = spreads(added, inside), spreads(direct, inside)
    assert np.sqrt(np.mean((spread / other - 1) ** 2)) < 0.04
    assert float(spread.max() / spread.min()) > 1.5
    assert spectrum(added).mean_per_mm == pytest.approx(spectrum(direct).mean_per_mm, rel=0.05)
    bias = cut((added - direct).mean(axis=0), inside).mean(axis=(1, 2))
    error = spread / np.sqrt(SCANS)
    assert np.abs(bias).max() < np.maximum(1.0, error.max())
    assert abs(bias.mean()) < 1.0


def test_counts_are_poisson_and_electronic() -> None:
    p = np.full((400, 500), 3.0, np.float32)
    exposure = Exposure(flux=2e5, electronic=20.0, dose=0.5)
    measured = expose(p, exposure, np.random.default_rng(1))
    counts = 1e5 * np.exp(-3.0)
    assert measured.mean() == pytest.approx(3.0, abs=1e-3)
    assert measured.var() == pytest.approx((counts + 400) / counts**2, rel=0.02)


def test_added_variance_is_that_of_the_formula_and_ends_where_no_photon_comes_through() -> None:
    exposure = Exposure(flux=2e5, electronic=10.0, dose=0.25)

    def variance(p: float) -> float:
        noise = added_noise(np.full((400, 500), p, np.float32), exposure, np.random.default_rng(1))
        assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
        return float(noise.var())

    for p in (0.5, 3.0, 6.0):
        expected = 3 * np.exp(p) / 2e5 + 15 * 100 * np.exp(2 * p) / 2e5**2
        assert variance(p) == pytest.approx(expected, rel=0.02)
    assert variance(30.0) == pytest.approx(variance(12.0), rel=0.02)
    assert variance(30.0) < 2


def test_noise_follows_from_its_seed_and_is_none_at_full_dose() -> None:
    hu = np.where(np.hypot(*np.mgrid[-36:36, -36:36]) < 25, 0.0, -1000.0)

    def noise(dose: float, seed: int) -> npt.NDArray[np.float32]:
        exposure = Exposure(FLUX, dose=dose)
        return exam_dose_noise(hu, 4.0, exposure, kernel=SOFT, seed=seed, geometry=SCANNER)

    assert np.array_equal(noise(0.5, 3), noise(0.5, 3))
    assert not np.array_equal(noise(0.5, 3), noise(0.5, 4))
    assert not noise(1.0, 3).any()
    assert float(noise(0.25, 3).std() / noise(0.5, 3).std()) == pytest.approx(np.sqrt(3), rel=0.01)


def test_an_exposure_without_photons_is_refused() -> None:
    for wrong in ({"flux": 0.0}, {"electronic": -1.0}, {"dose": 0.0}, {"dose": 1.5}):
        with pytest.raises(DomainError, match="exposure"):
            Exposure(**wrong)
