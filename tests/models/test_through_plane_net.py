"""The network between slices."""

import pytest
import torch

from ctsr.errors import DomainError
from ctsr.models import THROUGH_PLANE, Architecture, build, receptive_radius
from ctsr.models.conditioning import (
    ThroughPlaneConditions,
    input_channels,
    is_conditional,
    is_through_plane,
    through_plane_input,
)
from ctsr.models.networks import start_as_bilinear

SMALL = Architecture(THROUGH_PLANE, 1, nf=6, nb=1, gc=0)
TOLD = ThroughPlaneConditions(thickness=5.0, distance=3.0, noise_sigma=0.01)


def network_input(height: int = 12, width: int = 10) -> torch.Tensor:
    planes = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(7)) * 2 - 1
    return through_plane_input(planes, [TOLD, TOLD], torch.zeros(2, height))


def test_it_is_told_thickness_distance_noise_and_the_way_to_the_nearest_slice() -> None:
    way = torch.arange(12.0)[None].repeat(2, 1)
    given = through_plane_input(torch.zeros(2, 1, 12, 10), [TOLD, TOLD], way)
    assert given.shape == (2, 5, 12, 10)
    torch.testing.assert_close(given[1, :, 3, 4], torch.tensor([0.0, 5.0, 3.0, 0.01, 3.0]))
    with pytest.raises(DomainError, match="as many conditions"):
        through_plane_input(torch.zeros(2, 1, 12, 10), [TOLD], way)


def test_it_begins_as_the_interpolation_it_is_given() -> None:
    net = build(SMALL)
    start_as_bilinear(net)
    given = network_input()
    with torch.no_grad():
        torch.testing.assert_close(net(given), given[:, :1])


def test_its_kind_is_known() -> None:
    net = build(SMALL)
    assert is_through_plane(net)
    assert not is_conditional(net)
    assert input_channels(net) == 5
    other = build(Architecture("edsr", 2, nf=4, nb=1, gc=0, conditional=True))
    assert is_conditional(other)
    assert not is_through_plane(other)


@pytest.mark.parametrize("scale", [0, 2, 4])
def test_it_has_no_scale(scale: int) -> None:
    with pytest.raises(DomainError, match="has scale 1"):
        build(Architecture(THROUGH_PLANE, scale, nf=4, nb=1, gc=0))


def test_a_network_without_width_or_depth_is_refused() -> None:
    for nf, nb in ((0, 1), (4, 0)):
        with pytest.raises(DomainError, match="at least 1"):
            build(Architecture(THROUGH_PLANE, 1, nf=nf, nb=nb, gc=0))


@pytest.mark.parametrize(("thickness", "distance", "noise"), [(0.0, 1.0, 0.0), (1.0, float("inf"), 0.0), (1, 1, -0.1)])
def test_impossible_conditions_are_refused(thickness: float, distance: float, noise: float) -> None:
    with pytest.raises(DomainError, match="must be above 0"):
        ThroughPlaneConditions(thickness, distance, noise)


def test_no_pixel_beyond_the_receptive_radius_changes_the_output() -> None:
    torch.manual_seed(1)
    net = build(SMALL).double()
    radius = receptive_radius(SMALL)
    side = 2 * radius + 8
    given = network_input(side, side)[:1].double().requires_grad_()
    middle = side // 2
    net(given)[..., middle, middle].sum().backward()
    assert given.grad is not None
    rows = given.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert rows.min() >= middle - radius
    assert rows.max() <= middle + radius
