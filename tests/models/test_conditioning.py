"""Conditional networks: read off their weights, told in physical units, moved by what they are told."""

import pytest
import torch

from ctsr.errors import DomainError
from ctsr.models import Architecture, build, describe, load_state
from ctsr.models.conditioning import Conditions, input_channels, is_conditional, with_conditions
from ctsr.models.networks import start_as_bilinear
from ctsr.models.profile import profile

ALL = [Architecture(name, 2, 8, 2, 4, conditional=True) for name in ("rrdb", "rrdb_skip", "edsr", "plain")]


@pytest.mark.parametrize("architecture", ALL, ids=lambda a: a.name)
def test_it_is_read_off_its_weights(architecture: Architecture) -> None:
    state = build(architecture).state_dict()
    found, net = load_state(state)
    assert found.conditional
    assert found == describe(state)
    assert is_conditional(net)
    assert input_channels(net) == 3


@pytest.mark.parametrize("architecture", ALL, ids=lambda a: a.name)
def test_it_begins_as_bilinear_interpolation_of_the_image_alone(architecture: Architecture) -> None:
    net = build(architecture).eval()
    start_as_bilinear(net)
    lr = torch.rand(1, 1, 12, 10) - 0.5
    told = with_conditions(lr, [Conditions(0.7, 0.01)])
    enlarged = torch.nn.functional.interpolate(lr, scale_factor=2, mode="bilinear")
    with torch.inference_mode():
        assert torch.allclose(net(told)[..., 4:-4, 4:-4], enlarged[..., 4:-4, 4:-4], atol=1e-4)


def test_the_answer_depends_on_what_it_is_told() -> None:
    torch.manual_seed(0)
    net = build(ALL[2]).eval()
    lr = torch.rand(1, 1, 12, 10) - 0.5
    answers = [net(with_conditions(lr, [Conditions(0.0, noise)])) for noise in (0.0, 0.02)]
    assert not torch.allclose(*answers)


def test_maps_hold_blur_in_pixels_and_noise_in_units() -> None:
    lr = torch.zeros(2, 1, 4, 5)
    told = with_conditions(lr, [Conditions(0.5, 0.01), Conditions(1.0, 0.02)])
    assert told.shape == (2, 3, 4, 5)
    assert told[:, :, 2, 2].tolist() == [pytest.approx([0, 0.5, 0.01]), pytest.approx([0, 1.0, 0.02])]


def test_others_stay_unconditional() -> None:
    net = build(Architecture("edsr", 2, 8, 2, 0))
    assert not is_conditional(net)
    assert not describe(net.state_dict()).conditional
    assert input_channels(net) == 1


def test_its_cost_counts_three_channels() -> None:
    plain, told = (profile(Architecture("edsr", 2, 8, 2, 0, conditional=c), (16, 16)) for c in (False, True))
    assert told.parameters - plain.parameters == 2 * 8 * 9


@pytest.mark.parametrize("bad", [(-0.1, 0.0), (0.0, -1.0), (float("nan"), 0.0), (0.0, float("inf"))])
def test_impossible_conditions_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(DomainError, match="conditions"):
        Conditions(*bad)


def test_as_many_conditions_as_images() -> None:
    with pytest.raises(DomainError, match="as many"):
        with_conditions(torch.zeros(2, 1, 4, 4), [Conditions(0, 0)])


def test_real_esrgan_takes_no_conditions() -> None:
    with pytest.raises(DomainError, match="no conditions"):
        build(Architecture("real_esrgan", 4, 8, 2, 4, conditional=True))
