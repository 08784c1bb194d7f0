"""The degradation: right in its statistics, and the same bits whoever asks for whichever part."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from ctsr.degrade import Degradation, DegradationParams, WholeSlice, degrade, margin_of
from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE

CLEAN = DegradationParams(blur_sigma=0, blur_kernel=1, noise_sigma=0, dose=1)
BLUR = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0, dose=1)
NOISE = DegradationParams(blur_sigma=0, blur_kernel=1, noise_sigma=0.003, dose=0.25)
BOTH = DegradationParams(blur_sigma=0.83, blur_kernel=5, noise_sigma=0.002, dose=0.3)
WIDE = DegradationParams(blur_sigma=1.3, blur_kernel=9, noise_sigma=0.001, dose=0.5)


def image(n: int = 1, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (n, 1, height, width)).astype(np.float32))


@pytest.mark.parametrize("scale", [2, 4])
def test_clean_is_bilinear_sampling_with_aligned_centres(scale: int) -> None:
    hr = image()
    expected = F.interpolate(hr, scale_factor=1 / scale, mode="bilinear", align_corners=False, antialias=False)
    assert torch.allclose(degrade(hr, [CLEAN], [0], scale=scale), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_antialiased_clean_agrees_with_torch_away_from_the_border(scale: int) -> None:
    hr = image()
    expected = F.interpolate(hr, scale_factor=1 / scale, mode="bilinear", align_corners=False, antialias=True)
    made = degrade(hr, [CLEAN], [0], scale=scale, antialias=True)
    assert torch.allclose(made[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("params", [BLUR, DegradationParams(1.2, 7, 0, 1)])
def test_blur_is_a_reflected_normalised_gaussian_then_sampling(scale: int, params: DegradationParams) -> None:
    hr = image(height=32, width=48)
    radius = params.blur_kernel // 2
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / params.blur_sigma) ** 2)
    kernel /= kernel.sum()
    blurred = hr[0, 0].double().numpy()
    for axis in (0, 1):
        # SciPy calls reflection that does not repeat the border pixel "mirror".
        blurred = ndimage.correlate1d(blurred, kernel, axis=axis, mode="mirror")
    sampled = F.interpolate(torch.from_numpy(blurred)[None, None], scale_factor=1 / scale, mode="bilinear")
    assert torch.allclose(degrade(hr, [params], [0], scale=scale).double(), sampled, atol=1e-6)


def test_the_blur_has_the_width_it_was_asked_for() -> None:
    sigma = 2.0
    hr = torch.full((1, 1, 129, 129), -1.0)
    hr = F.pad(hr, (0, 1, 0, 1), value=-1.0)
    hr[0, 0, 64, 64] = 1.0
    spread = degrade(hr, [DegradationParams(sigma, 25, 0, 1)], [0], scale=2)[0, 0].double() + 1
    row = spread.sum(0)
    position = 2 * torch.arange(len(row)) + 0.5
    mean = (row * position).sum() / row.sum()
    variance = (row * (position - mean) ** 2).sum() / row.sum()
    # Sampling half-way between two pixels adds the variance of two points one pixel apart: 1/4.
    assert mean == pytest.approx(64, abs=0.01)
    assert variance.sqrt() == pytest.approx((sigma**2 + 0.25) ** 0.5, rel=0.01)


def test_noise_has_the_standard_deviation_in_hu_that_dose_and_sigma_say() -> None:
    flat = torch.zeros(4, 1, 512, 512)
    noisy = degrade(flat, [NOISE] * 4, [1, 2, 3, 4], scale=2)
    hu = noisy.numpy() * DEFAULT_RANGE.hu_per_unit
    assert hu.std() == pytest.approx(4.5 / 0.25**0.5, rel=0.01)
    assert abs(hu.mean()) < 0.1


def test_noise_is_white_and_fields_of_different_seeds_are_independent() -> None:
    flat = torch.zeros(2, 1, 512, 512)
    one, other = degrade(flat, [NOISE] * 2, [7, 8], scale=2)[:, 0].double().numpy()
    pairs = {
        "right neighbour": (one[:, 1:], one[:, :-1]),
        "lower neighbour": (one[1:], one[:-1]),
        "other seed": (one, other),
        "other seed, one row on": (one[1:], other[:-1]),
    }
    for name, (a, b) in pairs.items():
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(a.size), name


@pytest.mark.parametrize("params", [CLEAN, BLUR, BOTH])
def test_the_result_stays_within_the_range(params: DegradationParams) -> None:
    lr = degrade(torch.sign(image()), [params], [3], scale=2)
    assert lr.min() >= -1
    assert lr.max() <= 1


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("mode", ["clean", "blur", "blurnoise"])
@pytest.mark.parametrize("antialias", [False, True])
def test_a_degraded_patch_is_the_patch_of_the_degraded_slice(scale: int, mode: str, antialias: bool) -> None:
    degradation = Degradation(mode, scale, antialias_clean=antialias)  # type: ignore[arg-type]
    params = degradation.sample(np.random.default_rng(5))
    slice_ = image(height=160, width=128)
    whole = degrade(slice_, [params], [9], scale=scale, antialias=degradation.antialias)
    margin, top, left, size = margin_of(degradation), 48, 64, 32
    window = slice_[..., top - margin : top + size + margin, left - margin : left + size + margin]
    patch = degrade(
        window,
        [params],
        [9],
        scale=scale,
        antialias=degradation.antialias,
        margin=margin,
        origin=(top // scale, left // scale),
    )
    expected = whole[..., top // scale : (top + size) // scale, left // scale : (left + size) // scale]
    assert torch.equal(patch, expected)


def test_a_batch_of_different_degradations_is_each_of_them_alone() -> None:
    hr, params, seeds = image(n=4), [BOTH, CLEAN, WIDE, BLUR], [1, 2, 3, 4]
    together = degrade(hr, params, seeds, scale=2)
    for i in range(4):
        assert torch.equal(together[i : i + 1], degrade(hr[i : i + 1], params[i : i + 1], seeds[i : i + 1], scale=2))


def test_the_bits_do_not_depend_on_the_process_or_its_threads() -> None:
    program = (
        "import hashlib, sys, torch; torch.set_num_threads(int(sys.argv[1]));"
        "from tests.degrade.test_apply import image, BOTH, WIDE; from ctsr.degrade import degrade;"
        "lr = degrade(image(2, 256, 320), [BOTH, WIDE], [5, 6], scale=2);"
        "print(hashlib.sha256(lr.numpy().tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program, threads], capture_output=True, text=True, check=True).stdout
        for threads in ("1", "2", "3")
    ]
    assert len(set(runs)) == 1


def test_a_margin_that_is_too_small_is_refused_rather_than_reflected() -> None:
    with pytest.raises(DomainError, match="beyond the margin"):
        degrade(image(height=36, width=36), [WIDE], [0], scale=2, margin=2)


@pytest.mark.parametrize(("height", "width", "scale"), [(63, 64, 2), (64, 66, 4)])
def test_a_size_that_the_scale_does_not_divide_is_refused(height: int, width: int, scale: int) -> None:
    with pytest.raises(DomainError, match="not divisible"):
        degrade(image(height=height, width=width), [CLEAN], [0], scale=scale)


def test_an_image_smaller_than_the_kernel_is_degraded_by_reflecting_as_often_as_needed() -> None:
    constant = torch.full((1, 1, 2, 4), 0.25)
    assert torch.allclose(degrade(constant, [WIDE], [0], scale=2)[0, 0, 0], torch.full((2,), 0.25), atol=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees() -> None:
    hr = image(n=2)
    on_gpu = degrade(hr.cuda(), [BOTH, WIDE], [1, 2], scale=2).cpu()
    assert torch.allclose(on_gpu, degrade(hr, [BOTH, WIDE], [1, 2], scale=2), atol=1e-5)


def body(size: int = 192) -> Tensor:
    """A water body of 300 mm on pixels of 1.7 mm, in air, in [-1, 1]."""
    away = np.hypot(*np.mgrid[-size / 2 + 0.5 : size / 2, -size / 2 + 0.5 : size / 2]) * 1.7
    return torch.from_numpy(DEFAULT_RANGE.to_unit(np.where(away < 150, 0.0, -1000.0)))[None, None]


def test_noise_of_projections_is_that_of_an_exam_at_less_dose() -> None:
    params = DegradationParams(0, 1, noise_sigma=0.01, dose=0.25, noise_model="projection", noise_cutoff=0.8)
    hr, whole = body(), WholeSlice(1.7, DEFAULT_RANGE)
    noise = (degrade(hr, [params], [5], scale=2, whole=whole) - degrade(hr, [params.noiseless], [5], scale=2))[0, 0]
    away = torch.from_numpy(np.hypot(*np.mgrid[-47.5:48, -47.5:48]))
    # What full dose with a noise of 0.01 lacks to a quarter: 0.01·√3 over the body, more where rays pass through more.
    inside = hr[0, 0, ::2, ::2] > -0.5
    assert float((noise[inside] ** 2).mean().sqrt()) == pytest.approx(0.01 * 3**0.5, rel=0.02)
    assert noise[away < 18].std() > 1.2 * noise[(away > 33) & (away < 43)].std()
    assert degrade(hr, [params], [5], scale=2, whole=whole).equal(degrade(hr, [params], [5], scale=2, whole=whole))
    assert replace(params, dose=1.0).noise_std == 0


def test_noise_of_projections_is_refused_where_images_are_not_whole() -> None:
    params = DegradationParams(0, 1, noise_sigma=0.01, dose=0.25, noise_model="projection")
    with pytest.raises(DomainError, match="whole slices"):
        degrade(image(), [params], [0], scale=2)
