"""What a simulated scan shows, beside its truth."""

import numpy as np
import pytest

from ctsr.errors import DomainError
from ctsr.physics.simulated_scanner import (
    DISC_MM,
    ContrastPhantom,
    SimulatedScanner,
    bar_pattern,
    enlarged_slice,
    random_phantom,
    scan,
)
from ctsr.projection import SHARP, Exposure, FanBeam, ImageGrid, project_shapes

GEOMETRY = FanBeam(columns=320, views=320, column_mm=2.4)
"""A field of 203 mm to either side, and columns of 1.3 mm."""
PHANTOM = ContrastPhantom()


def test_the_truth_is_the_contrast_and_the_noise_is_that_of_the_dose() -> None:
    integrals = project_shapes(PHANTOM.shapes, GEOMETRY)
    grids = [ImageGrid((16, 16), 1.6, PHANTOM.center_mm(contrast)) for contrast in PHANTOM.contrasts_hu]
    middle = ImageGrid((30, 30), 1.6)
    spreads = list[float]()
    for dose in (1.0, 0.25):
        scanner = SimulatedScanner(exposure=Exposure(dose=dose), geometry=GEOMETRY)
        *discs, water = scan(integrals, scanner, [*grids, middle], seed=7)
        for contrast, pair in zip(PHANTOM.contrasts_hu, discs, strict=True):
            assert pair.hr[8:24, 8:24].mean() == pytest.approx(contrast, abs=2)
            assert pair.lr.shape == (16, 16)
            assert pair.hr.shape == pair.direct.shape == (32, 32)
        assert np.abs(water.hr).max() < 2
        # Fine pixels of the same projections: their mean over an LR pixel is close to it, noise included.
        assert np.corrcoef(water.direct.reshape(30, 2, 30, 2).mean(axis=(1, 3)).ravel(), water.lr.ravel())[0, 1] > 0.9
        spreads.append(float(water.lr.std()))
    # √(1/dose), and a little more, because the electronics count for more.
    assert spreads[1] / spreads[0] == pytest.approx(2.06, rel=0.12)


def test_a_scan_follows_from_its_seed_and_parts_share_it() -> None:
    integrals = project_shapes(PHANTOM.shapes, GEOMETRY)
    scanner = SimulatedScanner(kernel=SHARP, geometry=GEOMETRY)
    whole, part = ImageGrid((40, 40), 1.6), ImageGrid((20, 20), 1.6, (-16.0, -16.0))
    first, cut = scan(integrals, scanner, [whole, part], seed=1)
    (again,) = scan(integrals, scanner, [whole], seed=1)
    (other,) = scan(integrals, scanner, [whole], seed=2)
    assert np.array_equal(first.lr, again.lr)
    assert not np.array_equal(first.lr, other.lr)
    assert np.array_equal(first.hr, other.hr)
    assert np.abs(first.lr[:20, :20] - cut.lr).max() < 0.02 * first.lr.std()


def test_a_slice_enlarged_is_the_object_at_that_size() -> None:
    y, x = np.mgrid[-31.5:32, -31.5:32] * 1.5
    hu = np.where(np.hypot(y, x) < 30, 0.0, -1000.0)
    scanner = SimulatedScanner(geometry=GEOMETRY)
    for enlargement in (1.0, 2.0):
        integrals = enlarged_slice(hu, 1.5, GEOMETRY, enlargement=enlargement)
        (pair,) = scan(integrals, scanner, [ImageGrid((100, 100), 1.5)], seed=1)
        radius = np.sqrt((pair.hr > -500).sum() * 0.75**2 / np.pi)
        assert radius == pytest.approx(30 * enlargement, abs=0.4)


def test_bars_have_their_frequency() -> None:
    x = np.linspace(-10, 10, 2001)
    bars = bar_pattern(0.5, (0.0, 1.0), 300.0)
    inside = np.any([bar.holds(np.zeros(x.shape), x) for bar in bars], axis=0)
    starts = x[1:][np.diff(inside.astype(int)) == 1]
    assert np.allclose(np.diff(starts), 2.0, atol=0.02)
    assert inside.sum() * 0.01 == pytest.approx(4.0, abs=0.05)


def test_phantoms_follow_from_their_seed_and_fit_their_body() -> None:
    assert random_phantom(3) == random_phantom(3) != random_phantom(4)
    body = random_phantom(3)[0]
    centers = np.array([shape.center_mm for shape in random_phantom(3)])
    assert body.holds(centers[:, 0], centers[:, 1]).all()
    places = np.array([PHANTOM.center_mm(contrast) for contrast in PHANTOM.contrasts_hu])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert apart[apart > 0].min() > 4 * DISC_MM


def test_what_makes_no_truth_is_refused() -> None:
    with pytest.raises(DomainError, match="2 times"):
        SimulatedScanner(scale=1)
    with pytest.raises(DomainError, match="discs"):
        ContrastPhantom(contrasts_hu=())
