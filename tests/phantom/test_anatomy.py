import math

import numpy as np
import pytest

from ctsr.phantom.patients import PATIENTS, Body, PixelGrid, patient
from ctsr.phantom.rendering import AxialPlane, Ellipsoid, RandomField, coverage, tube, tube_distance
from ctsr.phantom.viscera import Growth, grow_tree


def plane(spacing: float, z: float = 0.0, half: float = 40.0) -> AxialPlane:
    steps = np.arange(-half, half + spacing / 2, spacing, dtype=np.float32)
    x, y = np.meshgrid(steps, steps)
    return AxialPlane(x, y, z, (-half, -half), (spacing, spacing))


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.3])
def test_the_area_of_a_disc_does_not_depend_on_the_pixels(spacing: float) -> None:
    at = plane(spacing)
    disc = coverage(Ellipsoid((1.3, -0.7, 0), (20, 20, 20)).distance(at.x, at.y, 0), spacing)
    assert float(disc.sum()) * spacing**2 == pytest.approx(math.pi * 400, rel=0.002)


def test_a_tube_along_z_has_its_radius_and_is_not_seen_beyond_its_ends() -> None:
    path = tube((0, 0, -30, 6), (0, 0, 0, 6), (0, 0, 30, 6))
    touched = tube_distance(plane(0.5), path)
    assert touched is not None
    assert float(coverage(touched[1], 0.5).sum()) * 0.25 == pytest.approx(math.pi * 36, rel=0.01)
    assert tube_distance(plane(0.5, z=50), path) is None


def test_a_tree_reaches_every_target_and_thins_from_trunk_to_twig() -> None:
    targets = np.random.default_rng(0).uniform(-40, 40, (60, 3))
    tree = grow_tree((0, 0, 0), targets, Growth(twig=0.5, trunk=4.0))
    ends = tree[:, 4:7]
    assert all(np.linalg.norm(ends - target, axis=1).min() < 1e-9 for target in targets)
    assert tree[:, [3, 7]].min() == pytest.approx(0.5)
    assert (tree[:, 3] >= tree[:, 7] - 1e-9).all()
    assert tree[:, 3].max() > 1.2


def test_a_texture_is_the_same_whatever_grid_it_is_seen_on() -> None:
    field = RandomField.draw(np.random.default_rng(3), (3, 9))
    coarse, fine = plane(1.0), plane(0.5)
    np.testing.assert_allclose(field(coarse.x, coarse.y, 4.0), field(fine.x, fine.y, 4.0)[::2, ::2], atol=1e-4)
    assert field(fine.x, fine.y, 0).std() == pytest.approx(1, abs=0.15)


@pytest.fixture(scope="module")
def body() -> Body:
    return Body(PATIENTS[3].plan, seed=5)


def test_a_point_of_the_reference_body_is_found_again_in_a_person(body: Body) -> None:
    x, y, z = body.place((30.0, -20.0, -60.0))
    bent = body.plane(PixelGrid(x, y, 1.0, 1), z)
    assert (float(bent.x[0, 0]), float(bent.y[0, 0]), bent.z) == pytest.approx((30, -20, -60), abs=1e-3)


def test_a_body_looks_the_same_through_any_pixels(body: Body) -> None:
    coarse = body.render(PixelGrid(-160, -140, 2.0, 160), -60.0)
    fine = body.render(PixelGrid(-160.5, -140.5, 1.0, 320), -60.0)
    blocks = fine.reshape(160, 2, 160, 2).mean(axis=(1, 3))
    assert np.abs(blocks - coarse).mean() < 25
    assert abs(float((blocks - coarse).mean())) < 2


def test_bodies_beyond_the_table_are_new_people() -> None:
    again = patient(len(PATIENTS) + 1)
    assert again.patient_id == "SYN-009"
    assert again.plan.scale != PATIENTS[0].plan.scale
