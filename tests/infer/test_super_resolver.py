"""Slices in HU made finer: what the network decides, and what it must not touch."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import FADE, MARGIN, STEP, SliceSuperResolver, TorchEngine, body_roi
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import enlarge
from ctsr.padding import SlicePixels
from ctsr.quality import block_means
from tests.made.ct import body, ellipse

SCALE = 2
HU = npt.NDArray[np.float32]


class Striped:
    """Interpolates, and adds `lift` HU to every other column and takes it off the rest; remembers the shapes."""

    def __init__(self, lift: float = 0.0) -> None:
        self.lift = lift / DEFAULT_RANGE.hu_per_unit
        self.seen: list[tuple[int, ...]] = []

    @property
    def name(self) -> str:
        return "striped"

    def __call__(self, lr: Tensor) -> Tensor:
        self.seen.append(tuple(lr.shape[2:]))
        sr = enlarge(lr[:, :1], SCALE, "bilinear")
        # One LR pixel covers a column of each kind: its mean stays what it was.
        return sr + self.lift * (1 - 2 * (torch.arange(sr.shape[3]) % 2))


class Brighter(Striped):
    """Interpolates, and adds `lift` HU to everything it sees."""

    def __call__(self, lr: Tensor) -> Tensor:
        return enlarge(lr[:, :1], SCALE, "bilinear") + self.lift


def finer(hu: HU, padding: npt.NDArray[np.bool_] | None = None, *, lift: float = 0.0, skip_air: bool = True) -> HU:
    super_resolver = SliceSuperResolver(Striped(lift), SCALE, DEFAULT_RANGE, skip_air=skip_air)
    return super_resolver(SlicePixels.from_padded(hu.astype(np.float32), padding)).hu


def test_the_network_decides_over_the_body() -> None:
    hu = body(96, radius=0.5).astype(np.float32)
    inside = ellipse((192, 192), 0.35, 0.35)  # at the skin, air cannot become darker than the range
    assert np.allclose(np.abs(finer(hu, lift=70) - finer(hu))[inside], 70, atol=0.5)


def test_the_mean_hu_of_an_organ_is_the_sources_whatever_the_network_says() -> None:
    hu = body(96, radius=0.5).astype(np.float32)
    inside = ellipse((192, 192), 0.3, 0.3)
    resolver = SliceSuperResolver(Brighter(70), SCALE, DEFAULT_RANGE)
    assert np.abs(resolver(SlicePixels(hu, None)).hu - finer(hu))[inside].max() < 0.5


def test_a_consistent_result_gives_its_source_back() -> None:
    hu = np.random.default_rng(0).normal(40, 30, (64, 64)).astype(np.float32)
    loose = SliceSuperResolver(Striped(), SCALE, DEFAULT_RANGE)
    tight = replace(loose, consistent=True)
    lost, kept = (block_means(r(SlicePixels(hu, None)).hu, SCALE) - hu for r in (loose, tight))
    assert np.abs(lost).mean() > 5
    assert np.abs(kept).mean() < 1


def test_the_networks_share_lies_between_interpolation_and_network() -> None:
    hu = body(64, texture=5).astype(np.float32)
    whole = SliceSuperResolver(Striped(70), SCALE, DEFAULT_RANGE)
    results = [replace(whole, network_share=share)(SlicePixels(hu, None)).hu for share in (0.0, 0.25, 1.0)]
    assert np.allclose(results[1], 0.75 * results[0] + 0.25 * results[2], atol=0.01)


@pytest.mark.parametrize("conditional", [True, False])
def test_conditions_are_given_where_they_are_taken(conditional: bool) -> None:
    resolver = SliceSuperResolver(Striped(), SCALE, DEFAULT_RANGE, conditional=conditional)
    wrong = None if conditional else Conditions(0.0, 0.0)
    with pytest.raises(DomainError, match="conditions"):
        resolver(SlicePixels(body(32).astype(np.float32), None), wrong)


def test_an_implant_keeps_its_hu_and_the_tissue_around_it_the_networks() -> None:
    hu = np.full((64, 64), 40, np.float32)
    hu[24:36, 24:36] = 3000
    result = finer(hu, lift=70)
    assert np.allclose(result[50:70, 50:70], 3000, atol=0.01)
    assert np.allclose(result[:20, ::2], 110, atol=0.1)
    assert np.allclose(result[:20, 1::2], -30, atol=0.1)


def test_values_below_the_range_pass_through_too() -> None:
    hu = np.full((64, 64), 40, np.float32)
    hu[12:52, 12:52] = -1024
    assert np.allclose(finer(hu)[56:72, 56:72], -1024, atol=0.01)


def test_noise_below_the_range_does_not_switch_the_network_off() -> None:
    hu = np.random.default_rng(0).normal(-990, 40, (64, 64)).astype(np.float32)
    stripes = finer(hu, lift=70, skip_air=False) - finer(hu, skip_air=False)
    # Half of the stripes lie below the range, too; with the network off wherever HU do, a quarter would be left.
    assert np.abs(stripes).mean() > 35


def test_noise_about_the_ends_of_the_range_keeps_its_mean() -> None:
    hu = np.random.default_rng(0).normal(-1000, 30, (128, 128)).astype(np.float32)
    result = finer(hu, skip_air=False)
    assert abs(result.mean() - hu.mean()) < 0.2


def test_padding_stays_padding_and_does_not_reach_into_tissue() -> None:
    padding = ~ellipse((64, 64), 0.9, 0.9)
    hu = np.where(padding, -1000, 40).astype(np.float32)
    super_resolver = SliceSuperResolver(Striped(), SCALE, DEFAULT_RANGE)
    result = super_resolver(SlicePixels.from_padded(hu, padding))
    assert result.padding is not None
    assert np.array_equal(result.padding, padding.repeat(2, 0).repeat(2, 1))
    assert np.allclose(result.hu[~result.padding], 40, atol=0.01)
    assert (result.hu[result.padding] == -1000).all()


def test_a_slice_that_is_all_padding_is_padding() -> None:
    nothing = np.ones((16, 16), np.bool_)
    resolver = SliceSuperResolver(Striped(), SCALE, DEFAULT_RANGE)
    result = resolver(SlicePixels(np.full((16, 16), -1000, np.float32), nothing))
    assert result.padding is not None
    assert result.padding.all()
    assert result.padding.shape == (32, 32)


def test_a_uniform_slice_is_uniform_to_its_border(bilinear_net: torch.nn.Module) -> None:
    super_resolver = SliceSuperResolver(TorchEngine(bilinear_net), SCALE, DEFAULT_RANGE)
    result = super_resolver(SlicePixels(np.full((40, 48), 60, np.float32), None))
    assert np.abs(result.hu - 60).max() < 1


def test_air_is_not_inferred() -> None:
    hu = np.full((256, 256), -1000, np.float32)
    hu[96:160, 104:152] = 40
    engine = Striped(70)
    result = SliceSuperResolver(engine, SCALE, DEFAULT_RANGE)(SlicePixels(hu, None))
    ((rows, columns),) = engine.seen
    assert rows * columns < 0.4 * hu.size
    assert np.array_equal(result.hu[:40], np.full((40, 512), -1000, np.float32))
    box = body_roi(hu)
    assert box is not None
    for start, tissue in ((box.top, 96), (box.left, 104)):
        assert tissue - MARGIN - STEP < start <= tissue - MARGIN
    # The answer gives way over the margin's outermost pixels, without a step.
    rise = np.abs(np.diff(result.hu[:, 256]))[: 2 * (box.top + FADE) + 4]
    assert rise.max() < 70 / (SCALE * FADE) + 0.1


def test_a_slice_of_air_needs_no_network() -> None:
    engine = Striped()
    SliceSuperResolver(engine, SCALE, DEFAULT_RANGE)(SlicePixels(np.full((64, 64), -990, np.float32), None))
    assert engine.seen == []


def test_positions_stay_where_they_were() -> None:
    y, x = np.indices((80, 72))
    hu = (-1000 + 1000 * np.exp(-((x - 40.3) ** 2 + (y - 33.6) ** 2) / 50)).astype(np.float32)
    result = finer(hu).astype(np.float64) + 1000
    row, column = ndimage.center_of_mass(result)
    assert ((row + 0.5) / 2 - 0.5, (column + 0.5) / 2 - 0.5) == pytest.approx((33.6, 40.3), abs=0.01)
