import math

import pytest
import torch
from torch import Tensor

from ctsr.errors import DomainError
from ctsr.metrics import bias, mae, mse, psnr, rmse, ssim
from ctsr.metrics.fidelity import IDENTICAL, NOT_FINITE, MetricValue

METRICS = [mse, rmse, mae, bias, psnr, ssim]


def pair(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    reference = torch.rand(*shape, generator=rng, dtype=torch.float64)
    return (reference + 0.1 * torch.randn(*shape, generator=rng, dtype=torch.float64)).clamp(0, 1), reference


def test_errors_of_a_known_difference_are_known() -> None:
    reference = torch.zeros(1, 1, 16, 16)
    image = reference.clone()
    image[..., :8] = 0.5  # half the pixels are off by one half
    assert mse(image, reference) == (MetricValue(0.125),)
    assert rmse(image, reference) == (MetricValue(math.sqrt(0.125)),)
    assert mae(image, reference) == (MetricValue(0.25),)
    assert bias(image, reference) == (MetricValue(0.25),)
    assert psnr(image, reference)[0].value == pytest.approx(10 * math.log10(8), abs=1e-12)


def test_bias_keeps_its_sign_and_lets_noise_cancel() -> None:
    reference = torch.zeros(1, 1, 4, 4)
    image = torch.tensor([1.0, -1.0]).repeat(8).view(1, 1, 4, 4)
    assert bias(image, reference) == (MetricValue(0.0),)
    assert bias(image - 0.25, reference) == (MetricValue(-0.25),)
    assert mae(image, reference) == (MetricValue(1.0),)


def test_every_image_of_a_batch_gets_its_own_value() -> None:
    images, references = pair(0, 3, 1, 24, 20)
    for metric in METRICS:
        alone = [metric(i[None], r[None])[0] for i, r in zip(images, references, strict=True)]
        assert list(metric(images, references)) == alone


def test_one_reference_serves_a_whole_batch() -> None:
    images, references = pair(1, 3, 1, 24, 20)
    for metric in METRICS:
        assert metric(images, references[:1]) == metric(images, references[:1].expand(3, -1, -1, -1))


def test_identical_images_have_no_psnr_and_say_why() -> None:
    image = torch.rand(1, 1, 16, 16)
    assert psnr(image, image.clone()) == (MetricValue(None, IDENTICAL),)


def test_the_same_error_scores_the_same_wherever_it_lies() -> None:
    """A metric that reads its domain off the data scores 1 HU of error 63 dB apart at 0 and at 2 HU."""
    scores = []
    for level in (0.0, 0.3, 0.9):
        reference = torch.full((1, 1, 16, 16), level, dtype=torch.float64)
        scores.append(psnr(reference + 2.0**-10, reference)[0].value)
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-6)


def test_psnr_follows_the_data_range_it_is_told() -> None:
    image, reference = pair(2, 1, 1, 16, 16)
    narrow, wide = psnr(image, reference)[0].value, psnr(3000 * image, 3000 * reference, data_range=3000)[0].value
    assert narrow == pytest.approx(wide, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_image_that_is_not_finite_has_no_value_but_a_reason(metric, bad: float) -> None:
    image, reference = pair(3, 2, 1, 16, 16)
    image[1, 0, 5, 5] = bad
    good, spoilt = metric(image, reference)
    assert good.value is not None
    assert spoilt == MetricValue(None, NOT_FINITE)


@pytest.mark.parametrize("metric", METRICS)
def test_images_of_another_shape_than_the_reference_are_refused(metric) -> None:
    with pytest.raises(DomainError, match="16, 16"):
        metric(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 15))


@pytest.mark.parametrize("metric", METRICS)
def test_the_number_of_threads_changes_no_digit(metric) -> None:
    images, references = pair(4, 2, 1, 300, 310)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(metric(images, references))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_metric_value_is_finite_or_has_a_reason(value: float | None) -> None:
    with pytest.raises(DomainError):
        MetricValue(value)
