"""Tiles: only where memory asks for them, and no worse than they say."""

import pytest
import torch

from ctsr.infer import TorchEngine
from ctsr.infer.engine import Tiled, Tiling, plan_tiles, seam_error
from ctsr.models import Architecture, build, receptive_radius

SMALL = Architecture("rrdb", 2, nf=4, nb=1, gc=2)
FULL = Architecture("rrdb", 2, nf=64, nb=23, gc=32)


def engine(architecture: Architecture) -> TorchEngine:
    torch.manual_seed(1)
    return TorchEngine(build(architecture).eval())


def test_a_slice_that_fits_is_not_cut() -> None:
    assert plan_tiles(FULL, (512, 512), 16 * 2**30) is None


def test_tiles_keep_within_the_budget_and_shrink_with_it() -> None:
    cores: list[int] = []
    for budget in (600 * 2**20, 200 * 2**20):
        tiling = plan_tiles(FULL, (512, 512), budget)
        assert tiling is not None
        assert not tiling.is_exact
        cores.append(tiling.core)
    assert 512 > cores[0] > cores[1]


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(90, 70), (71, 64)])
def test_with_the_full_receptive_field_as_margin_tiles_are_the_whole(scale: int, size: tuple[int, int]) -> None:
    architecture = Architecture("rrdb", scale, nf=4, nb=1, gc=2)
    whole = engine(architecture)
    lr = torch.rand(1, 1, *size) * 2 - 1
    tiled = Tiled(whole, scale, Tiling(32, receptive_radius(architecture), True))
    assert (tiled(lr) - whole(lr)).abs().max() < 1e-5


def test_a_small_net_gets_its_full_receptive_field() -> None:
    tiling = plan_tiles(SMALL, (2048, 2048), 64 * 2**20)
    assert tiling is not None
    assert tiling.is_exact
    assert tiling.margin == receptive_radius(SMALL)


def test_the_seams_of_a_margin_that_is_too_small_are_measured() -> None:
    lr = torch.rand(1, 1, 96, 96) * 2 - 1
    errors = [seam_error(engine(SMALL), 2, Tiling(40, margin, False), lr) for margin in (0, 4, 20)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5
