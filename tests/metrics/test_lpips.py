"""LPIPS: the numbers of the package that its authors publish, and what cannot be computed says so."""

import pytest
import torch
from torch import Tensor

from ctsr.errors import CheckpointError
from ctsr.losses import Trunk
from ctsr.metrics.lpips_niqe import LPIPS
from ctsr.weights import load_weights
from tests.golden.lpips_pairs import EXPECTED, distorted, reference
from tests.needs import needs_weights

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}


def made(net: str) -> LPIPS:
    cache = needs_weights(TRUNKS[net], f"lpips-{net}")
    return LPIPS(Trunk(TRUNKS[net], load_weights(TRUNKS[net], cache)), load_weights(f"lpips-{net}", cache))


@pytest.fixture(scope="module")
def alex() -> LPIPS:
    return made("alex")


def tensor(image: object) -> Tensor:
    return torch.as_tensor(image.copy()).permute(2, 0, 1)[None].double() / 255  # type: ignore[attr-defined]


@pytest.mark.parametrize("net", TRUNKS)
def test_it_agrees_with_the_package_lpips(net: str) -> None:
    metric = made(net)
    pair = torch.cat([tensor(distorted(name)) for name in ("blocks", "shifted")])
    found = [one.value for one in metric(pair, tensor(reference()))]
    assert found == pytest.approx([EXPECTED[net, "blocks"], EXPECTED[net, "shifted"]], abs=2e-6)


def test_equal_images_are_at_no_distance_and_each_image_has_its_own(alex: LPIPS) -> None:
    grey = tensor(reference()).mean(dim=1, keepdim=True)
    found = alex(torch.cat((grey, grey * 0.5)), grey)
    assert found[0].value == 0
    assert found[1].value is not None
    assert found[1].value > 0.01
    assert alex(grey * 0.5, grey)[0] == found[1]


def test_a_grey_image_counts_as_the_same_image_in_three_colours(alex: LPIPS) -> None:
    grey = tensor(reference()).mean(dim=1, keepdim=True)
    colours = grey.expand(-1, 3, -1, -1)
    assert alex(grey.flip(-1), grey) == alex(colours.flip(-1), colours)


def test_an_image_too_small_for_the_trunk_has_a_reason(alex: LPIPS) -> None:
    small = torch.rand(2, 1, 31, 40)
    assert [one.reason for one in alex(small, small)] == ["smaller than 32×32"] * 2


def test_heads_of_another_trunk_are_refused(alex: LPIPS) -> None:
    cache = needs_weights("lpips-vgg")
    with pytest.raises(CheckpointError, match="not for alexnet"):
        LPIPS(alex.trunk, load_weights("lpips-vgg", cache))
