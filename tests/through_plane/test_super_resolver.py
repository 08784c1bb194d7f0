"""Slices between slices: where they lie, and that nothing is made of nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset

from ctsr.errors import DomainError, SeriesError, UsageError
from ctsr.exams import scan_patient
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import TorchEngine
from ctsr.models import THROUGH_PLANE, Architecture, build
from ctsr.models.networks import start_as_bilinear
from ctsr.padding import SlicePixels
from ctsr.through_plane import (
    SliceGrid,
    SliceProfile,
    interpolation,
    parse_profile,
    plan_slices,
    super_resolver,
    thickening,
)
from ctsr.through_plane.super_resolver import Block, ThroughPlaneSuperResolver
from tests.made.ct import body, write_series

GRID = SliceGrid(count=14, distance=3.0, profile=SliceProfile(3.0), spacing=1.0)


def resolver(*, trained: bool) -> ThroughPlaneSuperResolver:
    torch.manual_seed(3)
    net = build(Architecture(THROUGH_PLANE, 1, nf=4, nb=1, gc=0))
    if not trained:
        start_as_bilinear(net)
    return ThroughPlaneSuperResolver(TorchEngine(net), DEFAULT_RANGE)


def thick_slices(count: int = 14, size: int = 40) -> Block:
    return np.stack([body(size, seed=i, smooth=1.5, texture=60) for i in range(count)]).astype(np.float32)


def made(maker: ThroughPlaneSuperResolver, thick: Block, grid: SliceGrid = GRID) -> Block:
    return np.stack([pixels.hu for pixels in maker(lambda i: SlicePixels(thick[i], None), grid, 5.0)])


def test_wanted_slices_go_from_the_first_source_slice_to_the_last() -> None:
    assert GRID.num_wanted == 40
    assert replace(GRID, spacing=0.7).num_wanted == 56  # 39 mm hold 55 steps of 0.7
    assert [GRID.nearest(index) for index in (0, 1, 2, 39)] == [0, 0, 1, 13]
    assert GRID.sources(3) == (1,)
    assert GRID.sources(4) == (0, 1, 2, 3)


@pytest.mark.parametrize(("count", "spacing"), [(1, 1.0), (14, 3.0), (14, 0.01)])
def test_slices_that_need_none_between_are_refused(count: int, spacing: float) -> None:
    with pytest.raises(DomainError):
        SliceGrid(count, 3.0, SliceProfile(3.0), spacing)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("thickness", "distance"), [(3.0, 3.0), (5.0, 3.0)])
def test_thickening_the_result_gives_the_source_back(trained: bool, thickness: float, distance: float) -> None:
    thick, grid = thick_slices(), SliceGrid(14, distance, SliceProfile(thickness), 1.0)
    result = made(resolver(trained=trained), thick, grid)
    assert result.shape == (40, 40, 40)
    # Whole profiles: those of the outermost slices end beyond the result.
    operator = thickening(grid.profile, grid.source_positions(1, 13), grid.wanted_positions(0, 40))
    back = np.tensordot(operator, result, 1)
    assert np.abs(back - thick[1:13]).mean() < (0.5 if thickness == distance else 3.0)


def test_a_network_that_has_learned_nothing_leaves_interpolation_and_its_source() -> None:
    thick = np.broadcast_to(np.linspace(-200, 300, 14)[:, None, None], (14, 40, 40)).astype(np.float32)
    result = made(resolver(trained=False), thick)
    weights = interpolation("cubic", GRID.source_positions(0, 14), GRID.wanted_positions(0, 40))
    np.testing.assert_allclose(result[6:34, 20, 20], (weights @ thick[:, 20, 20])[6:34], atol=0.5)


def test_slabs_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    thick = thick_slices()
    whole = made(resolver(trained=True), thick)
    monkeypatch.setattr(super_resolver, "FEWEST_KEPT", 8)
    monkeypatch.setattr(super_resolver, "SLAB_PIXELS", 1)
    np.testing.assert_allclose(made(resolver(trained=True), thick), whole, atol=0.5)


def test_each_source_slice_is_read_once_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(super_resolver, "FEWEST_KEPT", 6)
    monkeypatch.setattr(super_resolver, "SLAB_PIXELS", 1)
    thick, read = thick_slices(), list[int]()

    def source(index: int) -> SlicePixels:
        read.append(index)
        return SlicePixels(thick[index], None)

    assert len(list(resolver(trained=True)(source, GRID, 0.0))) == 40
    assert read == list(range(14))


@pytest.mark.parametrize("air", [False, True])
def test_progress_moves_with_every_plane(monkeypatch: pytest.MonkeyPatch, air: bool) -> None:
    monkeypatch.setattr(super_resolver, "FEWEST_KEPT", 16)
    monkeypatch.setattr(super_resolver, "SLAB_PIXELS", 1)
    thick = np.full_like(thick_slices(), -1000) if air else thick_slices()
    maker = resolver(trained=True)
    steps = list(maker.steps(lambda i: SlicePixels(thick[i], None), GRID, 5.0))
    assert len(steps) == maker.num_steps(GRID, 40, 40) == 40 + 3 * (40 + 40)  # 40 slices in three slabs
    assert [step is None for step in steps[:80]] == [True] * 80
    assert steps[80] is not None
    np.testing.assert_array_equal(np.stack([step.hu for step in steps if step is not None]), made(maker, thick))


def test_padding_stays_padding_and_metal_stays_metal() -> None:
    thick = thick_slices()
    thick[7, 20, 20] = 9000
    padding = np.zeros((40, 40), np.bool_)
    padding[:4] = True
    maker = resolver(trained=True)
    slices = list(maker(lambda i: SlicePixels.from_padded(thick[i], padding), GRID, 0.0))
    assert all(pixels.padding is not None and np.array_equal(pixels.padding, padding) for pixels in slices)
    assert slices[21].hu[20, 20] > 7000
    assert maker.disagreement.mean_hu is not None


def test_a_profile_is_typed_as_thickness_and_blur() -> None:
    assert parse_profile("5") == SliceProfile(5.0)
    assert parse_profile("5,0.6") == SliceProfile(5.0, 0.6)
    for text in ("", "thick", "5,1,2", "-3"):
        with pytest.raises(UsageError, match="expected the slice's thickness"):
            parse_profile(text)


def test_headers_give_the_profile_or_are_said_not_to(tmp_path: Path) -> None:
    root = tmp_path
    write_series(root / "a", 4)
    (stated,) = scan_patient(root / "a").series
    grid, notes = plan_slices(stated, 1.0)
    assert (grid.profile, grid.distance, notes) == (SliceProfile(2.5), 2.5, [])

    write_series(root / "b", 4, lambda ds, _: setattr(ds, "SliceThickness", None))
    (silent,) = scan_patient(root / "b").series
    grid, notes = plan_slices(silent, 1.0)
    assert grid.profile == SliceProfile(2.5)
    assert "no SliceThickness" in notes[0]

    write_series(root / "c", 4, lambda ds, i: setattr(ds, "SliceThickness", (1, 1, 2, 2)[i]))
    (mixed,) = scan_patient(root / "c").series
    assert "SliceThickness varies" in " ".join(plan_slices(mixed, 1.0)[1])


def test_gaps_and_single_slices_are_refused(tmp_path: Path) -> None:
    root = tmp_path

    def moved(ds: Dataset, i: int) -> None:
        ds.ImagePositionPatient = [-100, -120, 30 + 2.5 * (i + (i > 2))]

    write_series(root / "gap", 6, moved)
    write_series(root / "one", 1)
    for name in ("gap", "one"):
        (series,) = scan_patient(root / name).series
        with pytest.raises(SeriesError):
            plan_slices(series, 1.0)
