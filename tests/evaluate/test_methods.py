import numpy as np
import pytest
import torch
from torch import nn

from ctsr.evaluate.methods import METHODS, reconstructions, slice_metrics
from ctsr.hu import DEFAULT_RANGE, PRESETS, HURange, Window
from ctsr.metrics import METRICS, NOT_COMPUTED, MetricValue
from ctsr.models.interpolation import interpolate

GLOBAL = PRESETS["global"]


def unit(hu: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(DEFAULT_RANGE.to_unit(hu))[None, None]


class Nearest(nn.Module):
    """A model that is easy to foretell."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.gain * lr.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_all_methods_enlarge_the_same_lr_in_their_order() -> None:
    lr = torch.rand(1, 1, 9, 7)
    images = reconstructions(Nearest(), lr, 2)
    assert images.shape == (len(METHODS), 1, 18, 14)
    assert torch.equal(images[0], interpolate(lr, 2, "bilinear")[0])
    assert torch.equal(images[1], interpolate(lr, 2, "bicubic")[0])
    assert torch.equal(images[2, 0, ::2, ::2], lr[0, 0])


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 4])
def test_interpolation_keeps_a_ramp_where_it_is(kind, scale: int) -> None:
    """LR pixel j lies at HR coordinate (j + ½)·scale − ½; a shift by half an HR pixel is 1/8 or 1/4 of a step."""
    hr_position = (torch.arange(16 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    lr = (torch.arange(16, dtype=torch.float64) / 16).expand(1, 1, 16, 16)
    inner = slice(4 * scale, 12 * scale)
    steps_off = 16 * interpolate(lr, scale, kind)[0, 0, 0, inner] - hr_position[inner]
    assert abs(float(steps_off.mean())) < 1e-12
    # Bicubic with a = −0.75 bends a ramp a little, to both sides alike; bilinear keeps it straight.
    assert float(steps_off.abs().max()) < (0.05 if kind == "bicubic" else 1e-12)


def test_an_error_in_hu_is_measured_in_hu() -> None:
    reference = np.linspace(-900, 1500, 32 * 32).reshape(32, 32)
    (found,) = slice_metrics(unit(reference + 15.0), reference, GLOBAL, DEFAULT_RANGE)
    for name in ("MAE_HU", "RMSE_HU", "BIAS_HU"):
        assert found[name].value == pytest.approx(15.0, abs=1e-3)
    assert found["MAE"].value == pytest.approx(15 / 3000, abs=1e-6)


@pytest.mark.parametrize("window", [GLOBAL, PRESETS["soft_tissue"]])
def test_one_hu_scores_alike_near_zero_and_far_from_it(window: Window) -> None:
    """A metric that guesses its domain from the data's range scores 6 dB here and 69 dB there."""
    scores = []
    for level in (0.0, 2.0, 100.0):
        reference = np.full((16, 16), level)
        (found,) = slice_metrics(unit(reference + 1.0), reference, window, DEFAULT_RANGE)
        scores.append(found["PSNR"].value)
    assert scores == pytest.approx([20 * np.log10(window.width)] * 3, abs=0.01)


def test_a_narrow_window_sees_nothing_of_what_lies_outside_it() -> None:
    reference = np.full((16, 16), 1000.0)
    (found,) = slice_metrics(unit(reference + 100.0), reference, PRESETS["soft_tissue"], DEFAULT_RANGE)
    assert found["PSNR"] == MetricValue(None, "identical")
    assert found["MAE_HU"].value == pytest.approx(100, abs=1e-3)


def test_what_the_model_cannot_represent_counts_where_the_window_shows_it() -> None:
    implant = np.full((16, 16), 3000.0)
    wide = Window.from_range(-1000, 4000)
    (found,) = slice_metrics(unit(implant), implant, wide, DEFAULT_RANGE)
    assert found["MAE"].value == pytest.approx(1000 / 5000, abs=1e-6)
    assert found["MAE_HU"].value == pytest.approx(0, abs=1e-3)


def test_the_models_range_is_read_back_as_hu() -> None:
    narrow = HURange(-200, 300)
    reference = np.linspace(-150, 250, 256).reshape(16, 16)
    image = torch.from_numpy(narrow.to_unit(reference))[None, None]
    (found,) = slice_metrics(image, reference, Window(40, 400), narrow)
    assert found["MAE_HU"].value == pytest.approx(0, abs=1e-4)


def test_every_column_has_a_value_or_a_reason() -> None:
    (found,) = slice_metrics(torch.rand(1, 1, 16, 16), np.zeros((16, 16)), GLOBAL, DEFAULT_RANGE)
    assert list(found) == list(METRICS)
    assert {name for name, value in found.items() if value.reason == NOT_COMPUTED} == {"LPIPS", "MA", "NIQE", "PI"}
