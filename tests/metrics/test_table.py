import torch

from ctsr.metrics import HU, METRICS, NOT_COMPUTED, PERCEPTUAL, WINDOWED, MetricValue, measure, mse


def test_every_metric_is_computed_on_one_domain_or_says_that_it_is_not() -> None:
    assert {*WINDOWED, *PERCEPTUAL, *HU} == set(METRICS)
    assert len(WINDOWED) + len(PERCEPTUAL) + len(HU) == len(METRICS)


def test_columns_keep_the_order_that_files_are_known_by() -> None:
    assert list(METRICS) == [
        *("MSE", "RMSE", "MAE", "PSNR", "SSIM"),
        *("LPIPS", "MA", "NIQE", "PI"),
        *("MAE_HU", "RMSE_HU", "BIAS_HU"),
    ]


def test_what_is_not_computed_is_neither_zero_nor_nan_but_has_a_reason() -> None:
    image = torch.rand(2, 1, 16, 16)
    for found in measure(PERCEPTUAL, image, image):
        assert found == dict.fromkeys(PERCEPTUAL, MetricValue(None, NOT_COMPUTED))


def test_measure_gives_each_image_the_named_metrics() -> None:
    images, reference = torch.rand(3, 1, 16, 16), torch.rand(1, 1, 16, 16)
    found = measure(WINDOWED, images, reference)
    assert [list(one) for one in found] == [list(WINDOWED)] * 3
    assert [one["MSE"] for one in found] == list(mse(images, reference))
