"""Patches: aligned with the slices they come from to the bit, drawn from the body, told by seed and ticket alone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ctsr.data.hu_cache import PADDING, StoredSeries
from ctsr.data.pairs import EpochSampler, PatchDataset, PatchPair, Ticket, area_means, centered_crop, slice_pair
from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE
from tests.made.series import bodies, stored_series


def dataset(*series: StoredSeries, patch: int = 48, scale: int = 2, **settings: object) -> PatchDataset:
    degradation = settings.pop("degradation", Degradation(scale=scale))
    return PatchDataset(
        series,
        patch_size=patch,
        degradation=degradation,  # type: ignore[arg-type]
        hu_range=DEFAULT_RANGE,
        seed=1,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("mode", ["clean", "blur"])
def test_a_patch_is_a_crop_of_its_degraded_slice(series: StoredSeries, scale: int, mode: str) -> None:
    degradation = Degradation(mode, scale)  # type: ignore[arg-type]
    patches = dataset(series, scale=scale, degradation=degradation, patches_per_slice=20)
    for index in range(len(patches)):
        place, pair = patches.place(Ticket(1, index)), patches[Ticket(1, index)]
        rows, columns = centered_crop(series.rows, scale), centered_crop(series.columns, scale)
        hr = torch.from_numpy(DEFAULT_RANGE.to_unit(series.hu[place.slice_index][rows, columns]))[None, None]
        lr = degrade(hr, [place.draw.params], [0], scale=scale)
        top, left = (place.top - rows.start), (place.left - columns.start)
        assert top % scale == left % scale == 0
        assert torch.equal(pair.hr, hr[..., top : top + 48, left : left + 48])
        small = (slice(top // scale, (top + 48) // scale), slice(left // scale, (left + 48) // scale))
        assert torch.equal(pair.lr, lr[..., small[0], small[1]])


@pytest.mark.parametrize("mode", ["blur", "blurnoise"])
def test_antialias_clean_leaves_the_blur_in_place_where_there_is_one(series: StoredSeries, mode: str) -> None:
    with_flag, without = (
        slice_pair(series, 0, DegradationSampler(Degradation(mode, antialias_clean=flag))).lr  # type: ignore[arg-type]
        for flag in (True, False)
    )
    assert torch.equal(with_flag, without)


def test_a_batch_is_its_samples_whatever_the_batch_and_the_workers(series: StoredSeries) -> None:
    def epoch(batch: int, workers: int) -> list[PatchPair]:
        loader = DataLoader(
            patches,
            batch_size=batch,
            sampler=EpochSampler(len(patches), seed=3, epoch=2),
            num_workers=workers,
            collate_fn=lambda pair: pair,
        )
        return list(loader)

    patches = dataset(series, augment=True, patches_per_slice=2)
    runs = [epoch(5, 0), epoch(12, 0), epoch(5, 2)]
    lrs = [torch.cat([pair.lr for pair in run]) for run in runs]
    hrs = [torch.cat([pair.hr for pair in run]) for run in runs]
    assert lrs[0].shape == (12, 1, 24, 24)
    for other in (1, 2):
        assert torch.equal(lrs[0], lrs[other])
        assert torch.equal(hrs[0], hrs[other])


def test_epochs_differ_and_come_back(series: StoredSeries) -> None:
    patches = dataset(series)
    first, second, again = (patches[Ticket(epoch, 0)] for epoch in (1, 2, 1))
    assert torch.equal(first.lr, again.lr)
    assert not torch.equal(first.lr, second.lr)


def test_patches_are_centred_in_the_body(series: StoredSeries) -> None:
    patches = dataset(series, patch=16, patches_per_slice=50)
    centres = [patches[Ticket(1, i)].hr[0, 0, 4:12, 4:12].mean() for i in range(len(patches))]
    air_share = np.mean(DEFAULT_RANGE.to_hu(np.array(centres)) < -700)
    assert air_share < 0.05
    assert np.mean(series.hu < -700) > 0.6


def test_a_slice_smaller_than_the_patch_is_continued_by_reflection(tmp_path: Path) -> None:
    small = stored_series(tmp_path / "small", bodies(2, 39, 22))
    pair = dataset(small, patch=64)[Ticket(1, 0)]
    assert pair.hr.shape == (1, 1, 64, 64)
    assert pair.lr.shape == (1, 1, 32, 32)
    assert torch.equal(pair.hr[0, 0, :38, :22], torch.from_numpy(DEFAULT_RANGE.to_unit(small.hu[0][:38])))
    assert torch.equal(pair.hr[0, 0, :, 22], pair.hr[0, 0, :, 20])


def test_padding_is_air_in_a_patch(tmp_path: Path) -> None:
    hu = bodies(1, 64, 64)
    hu[:, :, 32:] = PADDING
    pair = dataset(stored_series(tmp_path / "padded", hu), patch=64, degradation=Degradation("clean"))[Ticket(1, 0)]
    assert (pair.hr[..., 32:] == -1).all()
    assert (pair.lr[..., 16:] == -1).all()


def test_turning_keeps_lr_and_hr_aligned(series: StoredSeries) -> None:
    patches = dataset(series, augment=True, degradation=Degradation("clean"), patches_per_slice=8)
    turned = [patches.place(Ticket(1, i)) for i in range(len(patches))]
    assert {(place.quarter_turns, place.flipped) for place in turned} == {
        (q, f) for q in range(4) for f in (False, True)
    }
    for i in range(len(patches)):
        pair = patches[Ticket(1, i)]
        clean = turned[i].draw.params
        assert torch.allclose(degrade(pair.hr, [clean], [0], scale=2), pair.lr, atol=1e-6)


def test_every_sample_once_an_epoch_in_an_order_of_its_own() -> None:
    orders = [[ticket.index for ticket in EpochSampler(50, seed=1, epoch=epoch)] for epoch in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_evenly(world_size: int) -> None:
    shares = [list(EpochSampler(50, seed=1, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {math.ceil(50 / world_size)}
    assert {ticket.index for share in shares for ticket in share} == set(range(50))


def test_a_patch_size_that_the_scale_does_not_divide_is_refused(series: StoredSeries) -> None:
    with pytest.raises(DomainError, match="not divisible by `scale` 4; the nearest that is: 48"):
        dataset(series, patch=50, scale=4)


@pytest.mark.parametrize("sampling", ["volume", "slice", "det-slice"])
def test_a_slice_pair_is_the_same_for_every_caller_and_in_any_order(series: StoredSeries, sampling: str) -> None:
    sampler = DegradationSampler(Degradation(), sampling)  # type: ignore[arg-type]
    forwards = [slice_pair(series, i, sampler) for i in range(6)]
    backwards = [slice_pair(series, i, DegradationSampler(Degradation(), sampling)) for i in reversed(range(6))][::-1]  # type: ignore[arg-type]
    for one, other in zip(forwards, backwards, strict=True):
        assert torch.equal(one.lr, other.lr)
        assert one.draw == other.draw
    assert forwards[0].hr.shape == (1, 1, 150, 202)


def test_noise_that_needs_whole_slices_is_refused_before_training(series: StoredSeries) -> None:
    with pytest.raises(DomainError, match="`noise_model` projection needs whole slices"):
        dataset(series, degradation=Degradation(noise_model=("white", "projection")))


@pytest.mark.parametrize("reduction", [1.0, 1.37, 2.0])
def test_means_over_areas_keep_what_is_there(reduction: float) -> None:
    weights = area_means(40, reduction)
    assert weights.shape == (40, math.ceil(40 * reduction))
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    # A ramp stays a ramp, as pixels of one value each can tell it: interval i lies at (i + ½)·reduction − ½.
    ramp = weights @ np.arange(weights.shape[1], dtype=np.float32)
    assert np.allclose(ramp, (np.arange(40) + 0.5) * reduction - 0.5, atol=0.2)


def test_reduced_patches_are_quieter_and_as_large(series: StoredSeries) -> None:
    as_is, reduced = (
        dataset(series, patches_per_slice=20, degradation=Degradation("clean"), hr_reduction=bounds)
        for bounds in ((1.0, 1.0), (2.0, 2.0))
    )
    loud, quiet = (
        np.mean([_roughness(patches[Ticket(1, i)].hr) for i in range(len(patches))]) for patches in (as_is, reduced)
    )
    assert reduced[Ticket(1, 0)].hr.shape == as_is[Ticket(1, 0)].hr.shape
    assert quiet < loud


def _roughness(image: torch.Tensor) -> float:
    return float((image[..., 1:] - image[..., :-1]).abs().mean())
