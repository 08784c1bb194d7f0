"""Draws: within their ranges, independent, and functions of names and seeds alone."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from ctsr.degrade import (
    Degradation,
    DegradationParams,
    DegradationSampler,
    Sampling,
    antialiased_taps,
    blur_taps,
    degrade,
)
from ctsr.errors import DomainError, ReadError

BLURNOISE = Degradation()


def test_draws_lie_in_their_ranges_and_fill_them() -> None:
    rng = np.random.default_rng(0)
    drawn = [BLURNOISE.sample(rng) for _ in range(2000)]
    for values, (low, high) in (
        ([p.blur_sigma for p in drawn], (0.7, 0.9)),
        ([p.noise_sigma for p in drawn], (0.001, 0.003)),
        ([p.dose for p in drawn], (0.25, 0.5)),
    ):
        assert low <= min(values)
        assert max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, rel=0.03)
        assert np.std(values) == pytest.approx((high - low) / 12**0.5, rel=0.05)


@pytest.mark.parametrize("sampling", ["slice", "det-slice"])
def test_blur_noise_and_dose_are_drawn_independently(sampling: str) -> None:
    sampler = DegradationSampler(BLURNOISE, sampling)  # type: ignore[arg-type]
    drawn = [sampler.draw("P", "1.2", f"1.2.{i}", i).params for i in range(2000)]
    table = np.array([[p.blur_sigma, p.noise_sigma, p.dose] for p in drawn])
    correlation = np.corrcoef(table.T) - np.eye(3)
    assert np.abs(correlation).max() < 4 / np.sqrt(len(drawn))


@pytest.mark.parametrize(("scale", "low", "high", "kernel"), [(2, 0.7, 0.9, 5), (4, 1.05, 1.35, 7)])
def test_the_default_blur_follows_the_scale(scale: int, low: float, high: float, kernel: int) -> None:
    degradation = Degradation(scale=scale)
    assert degradation.sigma_range == (low, high)
    assert degradation.kernel_for((low + high) / 2) == kernel


@pytest.mark.parametrize(("sigma", "kernel"), [(0.1, 3), (0.5, 3), (0.7, 5), (0.8, 5), (1.0, 7), (1.2, 7), (1.5, 9)])
def test_the_kernel_is_the_odd_number_nearest_to_six_sigma(sigma: float, kernel: int) -> None:
    assert Degradation().kernel_for(sigma) == kernel


def test_a_point_range_fixes_the_value_exactly() -> None:
    fixed = Degradation(blur_sigma_range=(0.8, 0.8), noise_sigma_range=(0.002, 0.002), dose_factor_range=(0.3, 0.3))
    params = fixed.sample(np.random.default_rng(1))
    assert (params.blur_sigma, params.noise_sigma, params.dose) == (0.8, 0.002, 0.3)


def test_volumes_of_a_patient_have_noise_fields_of_their_own() -> None:
    """Slices of a NIfTI volume are known by their index alone, which every volume has."""
    sampler = DegradationSampler(BLURNOISE, "slice")
    first, other = sampler.draw("P", "ct", "7", 7), sampler.draw("P", "ct_contrast", "7", 7)
    assert first.noise_seed != other.noise_seed
    assert first.params != other.params


def test_volume_draws_once_for_a_series_and_anew_for_another() -> None:
    sampler = DegradationSampler(BLURNOISE, "volume")
    first = [sampler.draw("P", "1.2", f"s{i}", i) for i in range(5)]
    assert len({draw.params for draw in first}) == 1
    assert len({draw.noise_seed for draw in first}) == 5
    assert sampler.draw("P", "1.3", "s0", 0).params != first[0].params
    assert sampler.draw("Q", "1.2", "s0", 0).params != first[0].params


def test_det_slice_is_the_generator_seeded_with_seed_plus_index() -> None:
    sampler = DegradationSampler(BLURNOISE, "det-slice", deg_seed=42, seed_mode="global")
    rng = np.random.default_rng(42 + 7)
    sigma, noise, dose = (
        0.7 + (0.9 - 0.7) * rng.random(),
        0.001 + (0.003 - 0.001) * rng.random(),
        0.25 + 0.25 * rng.random(),
    )
    params = sampler.draw("P", "1.2", "s7", 7).params
    assert (params.blur_sigma, params.noise_sigma, params.dose) == (sigma, noise, dose)


@pytest.mark.parametrize("sampling", ["volume", "slice", "det-slice"])
def test_a_negative_seed_is_a_seed(sampling: Sampling) -> None:
    drawn = [DegradationSampler(BLURNOISE, sampling, seed, "global").draw("P", "1.2", "s1", 1) for seed in (-5, -6)]
    assert drawn[0] != drawn[1]


def test_global_leaves_the_patient_out() -> None:
    sampler = DegradationSampler(BLURNOISE, "volume", seed_mode="global")
    assert sampler.draw("P", "1.2", "s", 0) == sampler.draw("Q", "1.3", "s", 0)


def test_another_seed_gives_another_draw() -> None:
    one, other = (DegradationSampler(BLURNOISE, deg_seed=seed).draw("P", "1.2", "s", 0) for seed in (42, 43))
    assert one.params != other.params
    assert one.noise_seed != other.noise_seed


def test_draws_are_the_same_in_another_process() -> None:
    program = (
        "import json; from ctsr.degrade import Degradation, DegradationSampler;"
        "d = DegradationSampler(Degradation(), 'slice').draw('P', '1.2', '1.2.3', 4);"
        "print(json.dumps([d.params.blur_sigma, d.params.dose, d.noise_seed]))"
    )
    there = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    here = DegradationSampler(BLURNOISE, "slice").draw("P", "1.2", "1.2.3", 4)
    assert there == [here.params.blur_sigma, here.params.dose, here.noise_seed]


@pytest.mark.parametrize("mode", ["clean", "blur"])
def test_modes_without_noise_add_none(mode: str) -> None:
    params = Degradation(mode).sample(np.random.default_rng(0))  # type: ignore[arg-type]
    assert params.noise_std == 0
    assert (params.blur_kernel == 1) == (mode == "clean")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scale": 3}, "choose 2 or 4"),
        ({"scale": 8}, "choose 2 or 4"),
        ({"mode": "noise"}, "there are clean, blur, blurnoise"),
        ({"blur_kernel": 4}, "odd"),
        ({"blur_sigma_range": (0.9, 0.7)}, "low ≤ high"),
        ({"blur_sigma_range": (-0.1, 0.7)}, "low ≤ high"),
        ({"downsampling": ()}, "bilinear and area"),
        ({"downsampling": ("nearest",)}, "bilinear and area"),
        ({"noise_model": ("pink",)}, "white and correlated"),
        ({"noise_cutoff_range": (0.0, 1.0)}, "0.1"),
        ({"noise_skew": 0.0}, "noise_skew"),
        ({"dose_factor_range": (0.0, 0.5)}, r"\(0, 1\]"),
        ({"dose_factor_range": (0.5, 1.5)}, r"\(0, 1\]"),
        ({"noise_sigma_range": (-0.1, 0.5)}, "low ≤ high"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, object], says: str) -> None:
    with pytest.raises(DomainError, match=says):
        Degradation(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"blur_kernel": 10**9 + 1}, "at most 301"),
        ({"blur_sigma_range": [1e9, 1e9]}, "at most 20"),
        ({"noise_sigma_range": [1e9, 1e9]}, "at most 2"),
        ({"noise_sigma_range": [math.nan, math.nan]}, "needs 0"),
        ({"noise_sigma_range": ["a", "b"]}, "'a' where a number is expected"),
        ({"noise_sigma_range": 5}, "where a list is expected"),
        ({"noise_model": "white"}, "where a list is expected"),
        ({"mode": 5}, "clean, blur, blurnoise"),
        ({"colour": 5}, "unknown 'colour'"),
    ],
)
def test_a_degradation_read_back_is_checked_by_type_and_size(values: dict[str, object], words: str) -> None:
    with pytest.raises((ReadError, DomainError), match=words):
        Degradation.from_dict(Degradation().as_dict() | values)


@pytest.mark.parametrize(
    ("degradation", "expected"),
    [
        (Degradation("clean", antialias_clean=True), "clean: bilinear downsampling, low-passed"),
        (
            Degradation("clean", antialias_clean=True, downsampling=("area",)),
            "clean: bilinear downsampling, low-passed",
        ),
        (
            Degradation("blur", blur_sigma_range=(0.8, 0.8), blur_kernel=7),
            "blur: Gaussian blur of σ 0.8 HR pixels over 7 pixels, bilinear downsampling",
        ),
        (
            Degradation(dose_factor_range=(1, 1)),
            "blurnoise: Gaussian blur of σ 0.7 … 0.9 HR pixels, bilinear downsampling, white noise of σ 0.001 … 0.003 "
            "in [-1, 1] at full dose, dose 1",
        ),
    ],
)
def test_a_degradation_in_words(degradation: Degradation, expected: str) -> None:
    assert degradation.sentence == expected


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("asked", ["bilinear", "area"])
def test_a_low_pass_is_recorded_as_what_was_applied(scale: int, asked: str) -> None:
    """It takes the place of the downsampling that was asked for, and blurs: conditional networks are told so."""
    kind = Degradation("clean", scale, antialias_clean=True, downsampling=(asked,))  # type: ignore[arg-type]
    params = kind.sample(np.random.default_rng(0))
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    applied = degrade(image, [params], [0], scale=scale, antialias=kind.antialias)
    assert params.downsampling == "triangle"
    assert torch.equal(degrade(image, [params], [0], scale=scale), applied)
    taps = antialiased_taps(scale)
    places = taps.first + np.arange(len(taps.weights)) - (scale - 1) / 2
    variance = float((taps.weights * places**2).sum())
    assert params.total_blur_sigma(scale) == pytest.approx(math.sqrt(variance - 1 / 4))


def test_without_a_low_pass_what_was_asked_for_is_recorded() -> None:
    for mode in ("clean", "blur"):
        kind = Degradation(mode, 4, antialias_clean=mode == "blur", downsampling=("area",))  # type: ignore[arg-type]
        assert kind.sample(np.random.default_rng(0)).downsampling == "area"


@pytest.mark.parametrize(("sigma", "kernel"), [(2.0, 3), (2.0, 5), (1.0, 3), (0.8, 5), (1.3, 7)])
def test_a_blur_that_its_kernel_cuts_off_is_as_wide_as_it_is(sigma: float, kernel: int) -> None:
    taps = blur_taps(sigma, kernel, 2)
    places = taps.first + np.arange(len(taps.weights)) - 1 / 2
    variance = float((taps.weights * places**2).sum()) - 1 / 4
    told = DegradationParams(sigma, kernel, noise_sigma=0.0, dose=1.0).total_blur_sigma(2)
    # Whole kernels are told as they were drawn: they are narrower by 3 % at most.
    assert told == pytest.approx(math.sqrt(variance), rel=0.03 if kernel >= 6 * sigma - 1 else 1e-9)
