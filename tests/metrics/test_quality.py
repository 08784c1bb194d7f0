"""HaarPSI, MS-SSIM and VIF: the numbers of `piq`, and a reason where there is no number."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ctsr.metrics import MetricFunction
from ctsr.metrics.fidelity import NO_EDGE, NO_INFORMATION, haarpsi, ms_ssim, vif
from tests.golden.quality_images import DISTORTIONS, EXPECTED, distorted, original

FUNCTIONS: dict[str, MetricFunction] = {"HaarPSI": haarpsi, "MS-SSIM": ms_ssim, "VIF": vif}
SMALLEST = {"HaarPSI": 16, "MS-SSIM": 176, "VIF": 41}

every_metric = pytest.mark.parametrize("name", FUNCTIONS)


def tensor(image: object) -> Tensor:
    return torch.from_numpy(np.array(image))[None, None].double() / 255


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("case", EXPECTED)
def test_they_agree_with_piq(case: tuple[str, str, int]) -> None:
    name, distortion, size = case
    image, reference = (tensor(one[:size, :size]) for one in (distorted(distortion), original()))
    assert FUNCTIONS[name](image, reference)[0].value == pytest.approx(EXPECTED[case], abs=1e-6)


@every_metric
def test_equal_images_score_one_and_a_batch_scores_as_its_images_do(name: str) -> None:
    reference = tensor(original())
    batch = torch.cat((reference, *(tensor(distorted(one)) for one in DISTORTIONS)))
    found = FUNCTIONS[name](batch, reference)
    assert found[0].value == pytest.approx(1, abs=1e-9)
    assert found == tuple(FUNCTIONS[name](one[None], reference)[0] for one in batch)


@every_metric
def test_more_noise_scores_lower(name: str) -> None:
    reference = tensor(original())
    field = noise(512, 512) - 0.5
    found = [FUNCTIONS[name](reference + amount * field, reference)[0].value or 0 for amount in (0.02, 0.1, 0.4)]
    assert found == sorted(found, reverse=True)


@every_metric
def test_the_smallest_image_has_a_number_and_a_smaller_one_a_reason(name: str) -> None:
    side = SMALLEST[name]
    image, reference = noise(2, 1, side, side + 3), noise(1, 1, side, side + 3).square()
    assert all(one.value is not None for one in FUNCTIONS[name](image, reference))
    reasons = [one.reason for one in FUNCTIONS[name](image[..., 1:, :], reference[..., 1:, :])]
    assert len(reasons) == 2
    assert all(f"smaller than {side}×{side}" in reason for reason in reasons)


@every_metric
def test_an_image_that_is_not_finite_has_that_reason(name: str) -> None:
    image = noise(1, 1, 200, 200)
    image[..., 20, 20] = torch.nan
    assert FUNCTIONS[name](image, noise(1, 1, 200, 200))[0].reason == "not finite"


@every_metric
def test_the_number_of_threads_changes_no_digit(name: str) -> None:
    pair, before = (tensor(distorted("noisy")), tensor(original())), torch.get_num_threads()
    try:
        found: list[float | None] = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(FUNCTIONS[name](*pair)[0].value)
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_uniform_images_have_reasons_where_nothing_can_be_compared() -> None:
    flat, textured = torch.full((1, 1, 200, 200), 0.5), noise(1, 1, 200, 200)
    assert haarpsi(flat, flat / 2)[0].reason == NO_EDGE
    assert haarpsi(textured, flat)[0].value is not None
    assert vif(textured, flat)[0].reason == NO_INFORMATION
    assert vif(flat, textured)[0].value == pytest.approx(0, abs=1e-9)


def test_a_structure_that_is_opposite_scores_zero_in_ms_ssim() -> None:
    image = noise(1, 1, 200, 200)
    assert ms_ssim(1 - image, image)[0].value == 0
