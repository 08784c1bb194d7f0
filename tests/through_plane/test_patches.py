"""Patches to learn from: an axial image seen as a plane across slices that are too thick."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage

from ctsr.hu import DEFAULT_RANGE
from ctsr.models.conditioning import ThroughPlaneConditions
from ctsr.through_plane import SliceProfile, thickening, whole_within
from ctsr.train.through_plane import ThroughPlaneDegradation, ThroughPlaneDraw, as_batch, make_patch

SIDE = 32


def draw(
    thickness: float, distance: float, *, noise: float = 0.0, angle: float = 0.0, phase: float = 0.5
) -> ThroughPlaneDraw:
    told = ThroughPlaneConditions(thickness, distance, noise)
    return ThroughPlaneDraw(
        told, softness=0.0, phase=phase, angle=angle, flipped=False, pixel=(1.0, 1.0), noise_blur=0.0
    )


def smooth_image() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    row, column = np.mgrid[0:160, 0:160]
    return (300 * np.sin(row / 4) + 200 * np.sin(column / 3)).astype(np.float32)


def test_only_the_axis_across_slices_is_degraded() -> None:
    patch = make_patch(smooth_image(), (80.0, 80.0), SIDE, draw(6, 6), DEFAULT_RANGE, np.random.default_rng(0))
    lost = patch.target - patch.planes
    # What is lost of sin(row/4) is the same in every column, and nothing of what varies along columns.
    assert np.ptp(lost, axis=1).max() < 1e-3
    assert np.abs(lost).max() > 0.02


def test_slices_as_thin_and_dense_as_wanted_lose_almost_nothing() -> None:
    patch = make_patch(smooth_image(), (80.0, 80.0), SIDE, draw(1, 1), DEFAULT_RANGE, np.random.default_rng(0))
    assert np.abs(patch.target - patch.planes).max() * DEFAULT_RANGE.hu_per_unit < 8


def test_a_turned_patch_is_degraded_along_its_own_rows() -> None:
    image = np.broadcast_to(300 * np.sin(np.arange(160) / 4), (160, 160)).astype(np.float32)  # varies along columns
    unturned = make_patch(image, (80.0, 80.0), SIDE, draw(6, 6), DEFAULT_RANGE, np.random.default_rng(0))
    turned = make_patch(image, (80.0, 80.0), SIDE, draw(6, 6, angle=np.pi / 2), DEFAULT_RANGE, np.random.default_rng(0))
    assert np.abs(unturned.target - unturned.planes).max() < 1e-5
    assert np.abs(turned.target - turned.planes).max() > 0.02


def test_noise_is_added_to_slices_not_to_targets() -> None:
    air = np.full((200, 200), 40.0, np.float32)
    patch = make_patch(air, (100.0, 100.0), 96, draw(4, 4, noise=0.02), DEFAULT_RANGE, np.random.default_rng(1))
    assert np.ptp(patch.target) < 1e-6
    # On a slice's own row the noise is that of the slice; the draw puts slices half-way between rows.
    assert patch.planes.std() == pytest.approx(0.02 * np.sqrt(0.7), rel=0.15)


def test_a_batch_tells_the_network_thickness_distance_noise_and_place() -> None:
    patch = make_patch(
        smooth_image(), (80.0, 80.0), SIDE, draw(5, 3, noise=0.01, phase=0.25), DEFAULT_RANGE, np.random.default_rng(0)
    )
    batch = as_batch([patch, patch])
    assert batch.lr.shape == (2, 5, SIDE, SIDE)
    assert batch.hr.shape == (2, 1, SIDE, SIDE)
    assert batch.lr[0, 1:4, 7, 9].tolist() == pytest.approx([5, 3, 0.01])
    assert batch.lr[0, 4, :4, 0].tolist() == pytest.approx([0.25, -0.75, 1.25, 0.25])


def test_a_blurred_target_is_what_its_slices_were_made_of() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(0, 100, (160, 160)).astype(np.float32)
    blurry = replace(draw(4, 4), blur=0.7)
    sharp = make_patch(image, (80.0, 80.0), SIDE, draw(4, 4), DEFAULT_RANGE, np.random.default_rng(0))
    soft = make_patch(image, (80.0, 80.0), SIDE, blurry, DEFAULT_RANGE, np.random.default_rng(0))
    blurred = ndimage.gaussian_filter1d(sharp.target, 0.7, axis=0, mode="nearest")
    inside = slice(4, -4)
    np.testing.assert_allclose(soft.target[inside], blurred[inside], atol=1e-3)
    # Of the four rows that a slice is the mean of, it has the mean of the blurred ones: less of what was sharp.
    assert soft.planes.std() < 0.97 * sharp.planes.std()


def test_losses_compare_what_the_projection_cannot_mend() -> None:
    patch = make_patch(
        smooth_image(), (80.0, 80.0), SIDE, draw(5, 3, phase=0.0), DEFAULT_RANGE, np.random.default_rng(0)
    )
    batch = as_batch([patch, patch])
    slices = np.arange(0.0, SIDE, 3.0)
    whole = slices[whole_within(SliceProfile(5.0), slices, np.arange(SIDE))]
    seen = thickening(SliceProfile(5.0), whole, np.arange(SIDE))
    # An error that thick slices show is mended by the projection; a change that none of them shows stays.
    shown = torch.from_numpy((seen.T @ np.ones(len(whole))).astype(np.float32))[:, None].expand(SIDE, SIDE)
    hidden = torch.from_numpy(linalg.null_space(seen)[:, 0].astype(np.float32))[:, None].expand(SIDE, SIDE)
    for part in (slice(None), slice(1, 2)):
        hr = batch.hr[part]
        base = batch.compared(hr, part)
        assert float((batch.compared(hr + shown, part) - base).abs().max()) < 0.02
        np.testing.assert_allclose(batch.compared(hr + hidden, part) - base, hidden.expand_as(hr), atol=1e-5)


def test_draws_keep_to_their_ranges_and_survive_json() -> None:
    degradation = ThroughPlaneDegradation(thickness_range=(2.0, 4.0), distance_range=(0.5, 1.0))
    rng = np.random.default_rng(5)
    told = [degradation.sample(rng).conditions for _ in range(200)]
    assert all(2 <= c.thickness <= 4 for c in told)
    assert all(1 <= c.distance <= c.thickness for c in told)
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in degradation.as_dict().items()}
    assert ThroughPlaneDegradation.from_dict(plain) == degradation
