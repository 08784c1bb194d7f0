"""Discriminators: their shapes, their norms, and that the scores of one step come from one set of weights."""

from typing import get_args

import pytest
import torch
from torch import nn

from ctsr.models.discriminators import CRITICS, PATCH_CHANNELS, PATCH_STRIDES, CriticName, build_critic, iterate_norms


@pytest.fixture(params=list(CRITICS))
def critic(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build_critic(request.param)


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


def test_the_names_are_those_of_the_flag() -> None:
    assert set(get_args(CriticName)) == set(CRITICS)


def test_the_patch_critic_has_nine_convolutions() -> None:
    found = convolutions(build_critic("patch"))
    assert tuple(conv.out_channels for conv in found) == PATCH_CHANNELS == (64, 64, 128, 128, 256, 256, 512, 512, 1)
    assert tuple(conv.stride[0] for conv in found) == PATCH_STRIDES == (1, 2, 1, 2, 1, 2, 1, 2, 1)
    assert all(nn.utils.parametrize.is_parametrized(conv, "weight") for conv in found)


@pytest.mark.parametrize("size", [(48, 48), (50, 37)])
def test_every_neighbourhood_or_pixel_has_a_score(size: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *size)
    assert build_critic("unet")(image).shape == (2, 1, *size)
    assert build_critic("patch")(image).shape == (2, 1, -(-size[0] // 16), -(-size[1] // 16))


def test_scores_reach_back_to_the_image(critic: nn.Module) -> None:
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    critic(image).sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).all()


def test_iterating_brings_the_largest_singular_value_to_one(critic: nn.Module) -> None:
    for _ in range(60):
        iterate_norms(critic)
    for conv in convolutions(critic):
        if nn.utils.parametrize.is_parametrized(conv, "weight"):
            norm = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), ord=2)
            assert float(norm) == pytest.approx(1, abs=0.05)


def test_scores_change_with_an_iteration_and_with_nothing_else(critic: nn.Module) -> None:
    image = torch.rand(1, 1, 32, 32)
    assert not critic.training
    first, again = critic(image), critic(image)
    assert torch.equal(first, again)
    iterate_norms(critic)
    assert not critic.training
    assert not torch.equal(critic(image), first)
