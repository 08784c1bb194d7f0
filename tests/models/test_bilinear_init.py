"""The warm start: a fresh network is bilinear interpolation, and learns from there."""

import pytest
import torch

from ctsr.models import Architecture, build
from ctsr.models.interpolation import interpolate
from ctsr.models.networks import RRDBNet, start_as_bilinear


@pytest.mark.parametrize("scale", [2, 4])
def test_a_fresh_network_doubles_bilinearly_at_each_stage_away_from_the_border(scale: int) -> None:
    net = RRDBNet(scale, 8, 2, 4)
    start_as_bilinear(net)
    lr = torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        sr = net(lr)
    expected = interpolate(lr, 2, "bilinear")
    if scale == 4:
        expected = interpolate(expected, 2, "bilinear")
    border = 2 * scale
    inner = (..., slice(border, -border), slice(border, -border))
    assert torch.allclose(sr[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("name", ["edsr", "rrdb_skip", "plain"])
def test_a_fresh_network_with_a_skip_is_bilinear_up_to_the_border(name: str) -> None:
    net = build(Architecture(name, 2, 8, 1, 4))
    start_as_bilinear(net)
    lr = torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(net(lr), interpolate(lr, 2, "bilinear"))


@pytest.mark.parametrize("name", ["rrdb", "edsr", "rrdb_skip", "plain"])
def test_every_weight_moves_within_three_steps(name: str) -> None:
    torch.manual_seed(0)
    net = build(Architecture(name, 2, 8, 1, 4))
    start_as_bilinear(net)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    lr, hr = torch.rand(2, 1, 12, 12) * 2 - 1, torch.rand(2, 1, 24, 24) * 2 - 1
    for _ in range(3):
        optimizer.zero_grad()
        (net(lr) - hr).abs().mean().backward()
        optimizer.step()
    still = [name for name, value in net.named_parameters() if torch.equal(value, before[name])]
    assert still == []
