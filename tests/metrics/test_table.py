import pytest
import torch

from ctsr.errors import UsageError
from ctsr.hu import TISSUES
from ctsr.metrics import GROUPS, METRICS, choose_metrics, of_group


def test_columns_begin_as_files_are_known_by() -> None:
    assert choose_metrics(["default"])[:12] == (
        *("MSE", "RMSE", "MAE", "PSNR", "SSIM"),
        *("LPIPS", "MA", "NIQE", "PI"),
        *("MAE_HU", "RMSE_HU", "BIAS_HU"),
    )


def test_every_metric_belongs_to_one_group() -> None:
    assert sorted(name for group in GROUPS for name in of_group(group)) == sorted(METRICS)


def test_metrics_are_chosen_by_name_or_group_in_any_case_and_come_in_the_order_of_the_columns() -> None:
    assert choose_metrics(["ssim", "PSNR", "hu", "psnr"]) == ("PSNR", "SSIM", "MAE_HU", "RMSE_HU", "BIAS_HU")
    assert choose_metrics(["all"]) == tuple(METRICS)


def test_the_perceptual_index_brings_what_it_is_made_of() -> None:
    assert choose_metrics(["PI"]) == ("MA", "NIQE", "PI")


def test_an_unknown_metric_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'FID'; there are all, default, fidelity.*PSNR"):
        choose_metrics(["FID"])


def test_every_tissue_has_an_error_and_a_bias() -> None:
    assert {metric.tissue for metric in METRICS.values() if metric.group == "tissue"} == set(TISSUES)


def test_what_has_a_function_gives_each_image_a_value() -> None:
    images, reference = torch.rand(3, 1, 16, 16), torch.rand(1, 1, 16, 16)
    for metric in METRICS.values():
        if metric.function and metric.group != "structure":
            assert len(metric.function(images, reference)) == 3
