from dataclasses import replace

import pytest
import torch
from torch import nn

from ctsr.errors import CheckpointError, DomainError
from ctsr.models import FAMILIES, THROUGH_PLANE, Architecture, build, describe, load_state, receptive_radius
from ctsr.models.interpolation import enlarge
from ctsr.models.networks import RRDBNet
from tests.models.foreign import basicsr_forward, basicsr_state, user_forward, user_state

SMALL = [
    Architecture("rrdb", 2, nf=8, nb=1, gc=4),
    Architecture("rrdb", 4, nf=6, nb=3, gc=5),
    Architecture("real_esrgan", 2, nf=4, nb=2, gc=8),
    Architecture("real_esrgan", 4, nf=5, nb=1, gc=3),
    Architecture("edsr", 2, nf=6, nb=3, gc=0),
    Architecture("edsr", 4, nf=5, nb=1, gc=0),
    Architecture("rrdb_skip", 2, nf=6, nb=2, gc=3),
    Architecture("rrdb_skip", 4, nf=4, nb=1, gc=2),
    Architecture("plain", 2, nf=6, nb=4, gc=0),
    Architecture("plain", 4, nf=5, nb=1, gc=0),
    Architecture("rrdb", 4, nf=1, nb=11, gc=1),
    Architecture("edsr", 2, nf=1, nb=11, gc=0),
    Architecture("plain", 2, nf=1, nb=11, gc=0),
]
BETWEEN = Architecture(THROUGH_PLANE, 1, nf=6, nb=2, gc=0)
IN_PLANE = [name for name in FAMILIES if name != THROUGH_PLANE]
SKIPPING = [one for one in SMALL if one.name in {"edsr", "rrdb_skip", "plain"}]


def image(height: int = 12, width: int = 10, channels: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(7)) * 2 - 1


@pytest.mark.parametrize(("scale", "count"), [(2, 16_732_609), (4, 16_880_321)])
def test_the_full_network_has_exactly_its_parameters(scale: int, count: int) -> None:
    with torch.device("meta"):
        net = RRDBNet(scale)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("scale", [0, 1, 3, 8])
@pytest.mark.parametrize("name", IN_PLANE)
def test_a_scale_that_no_network_has_is_refused_and_not_rounded(name: str, scale: int) -> None:
    with pytest.raises(DomainError, match="scales 2 and 4"):
        build(Architecture(name, scale, nf=4, nb=1, gc=2))


@pytest.mark.parametrize(
    ("name", "widths"),
    [(name, widths) for name in IN_PLANE for widths in ((0, 1, 1), (4, 0, 1))]
    + [(name, (4, 1, 0)) for name in ("rrdb", "real_esrgan", "rrdb_skip")],
)
def test_a_network_without_width_or_depth_is_refused(name: str, widths: tuple[int, int, int]) -> None:
    with pytest.raises(DomainError, match="at least 1"):
        build(Architecture(name, 2, *widths))


def test_every_family_is_among_the_examples() -> None:
    assert {one.name for one in SMALL} == set(IN_PLANE)


def test_no_weights_have_the_marks_of_two_families() -> None:
    for one in [*SMALL, BETWEEN]:
        keys = build(one).state_dict().keys()
        assert [name for name, family in FAMILIES.items() if family.marks <= keys] == [one.name]


@pytest.mark.parametrize("architecture", SKIPPING, ids=str)
def test_a_network_with_a_skip_adds_to_a_bilinear_enlargement(architecture: Architecture) -> None:
    net = build(architecture)
    with torch.no_grad():
        with_detail = net(image()) - enlarge(image(), architecture.scale, "bilinear")
        net.conv_up.weight.zero_()
        net.conv_up.bias.zero_()
        assert torch.equal(net(image()), enlarge(image(), architecture.scale, "bilinear"))
    assert with_detail.abs().max() > 1e-3


@pytest.mark.parametrize("harm", ["conv_first", "conv_up"])
def test_colours_or_a_third_scale_of_a_network_with_a_skip_are_refused(harm: str) -> None:
    state = dict(build(SKIPPING[0]).state_dict())
    state[f"{harm}.weight"] = torch.zeros(9, 3, 3, 3)
    with pytest.raises(CheckpointError, match="1 channel and scales 2 and 4"):
        describe(state)


@pytest.mark.parametrize("architecture", [*SMALL, BETWEEN], ids=str)
def test_hyper_parameters_are_read_off_the_weights(architecture: Architecture) -> None:
    assert describe(build(architecture).state_dict()) == architecture


@pytest.mark.parametrize("architecture", SMALL, ids=str)
def test_every_network_enlarges_by_its_scale_at_any_size(architecture: Architecture) -> None:
    net = build(architecture)
    for height, width in ((7, 9), (8, 5), (2, 3)):
        with torch.no_grad():
            assert net(torch.zeros(2, 1, height, width)).shape == (
                2,
                1,
                architecture.scale * height,
                architecture.scale * width,
            )


@pytest.mark.parametrize("scale", [2, 4])
def test_weights_from_before_ctsr_give_what_their_network_gave(scale: int) -> None:
    state = user_state(scale)
    architecture, net = load_state(state)
    assert architecture == Architecture("rrdb", scale, nf=8, nb=2, gc=4)
    with torch.no_grad():
        torch.testing.assert_close(net(image()), user_forward(state, image()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 4])
def test_basicsr_weights_give_the_mean_of_what_their_network_gives_for_the_grey_image(
    scale: int, channels: int
) -> None:
    state = basicsr_state(scale, channels=channels)
    architecture, net = load_state(state)
    assert architecture == Architecture("real_esrgan", scale, nf=8, nb=2, gc=4)
    colour = ((image() + 1) / 2).expand(-1, channels, -1, -1)
    with torch.no_grad():
        expected = basicsr_forward(state, colour).mean(1, keepdim=True) * 2 - 1
        torch.testing.assert_close(net(image()), expected, rtol=1e-5, atol=1e-5)


def test_an_odd_image_is_mirrored_to_be_unshuffled_and_cut_back() -> None:
    _, net = load_state(basicsr_state(2))
    odd = image(7, 9)
    mirrored = torch.cat([odd, odd[..., -2:-1]], -1)
    mirrored = torch.cat([mirrored, mirrored[..., -2:-1, :]], -2)
    with torch.no_grad():
        torch.testing.assert_close(net(odd), net(mirrored)[..., :14, :18])


def test_colours_are_reported_before_they_are_folded() -> None:
    assert describe(basicsr_state(2)).in_channels == 3
    assert describe(user_state(2, channels=3)).in_channels == 3


def test_colour_weights_in_the_users_layout_are_folded_too() -> None:
    state = user_state(4, channels=3)
    _, net = load_state(state)
    with torch.no_grad():
        expected = user_forward(state, image().expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        torch.testing.assert_close(net(image()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    state = user_state(2)
    wrapped = {prefix + key: value for key, value in state.items()} | {"n_averaged": torch.tensor(3)}
    _, net = load_state(wrapped)
    assert set(net.state_dict()) == set(state)
    assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)


def test_half_precision_weights_are_loaded_as_float32() -> None:
    _, net = load_state({key: value.half() for key, value in user_state(2).items()})
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_loading_leaves_the_random_state_alone_and_takes_no_second_memory() -> None:
    state = user_state(2)
    before = torch.get_rng_state()
    _, net = load_state(state)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.get_parameter("conv_first.weight").data_ptr() == state["conv_first.weight"].data_ptr()
    assert all(one.requires_grad for one in net.parameters())


def test_foreign_weights_are_refused_by_naming_some_of_their_keys() -> None:
    with pytest.raises(CheckpointError, match=r"no known network has these weights.*features\.0\.weight"):
        describe(nn.Sequential(nn.Linear(2, 2)).state_dict(prefix="features."))


def test_an_upsampler_of_three_stages_is_refused_as_eightfold() -> None:
    state = user_state(4)
    state |= {f"upsampler.6.{kind}": state[f"upsampler.3.{kind}"] for kind in ("weight", "bias")}
    with pytest.raises(CheckpointError, match="×8"):
        describe(state)


def test_weights_of_a_network_with_unshuffling_by_four_are_refused() -> None:
    state = basicsr_state(4, channels=1)
    state["conv_first.weight"] = torch.zeros(8, 16, 3, 3)
    with pytest.raises(CheckpointError, match="16 channels for 1 out"):
        describe(state)


def _without(key: str):
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (_without("RRDB_trunk.1.rdb2.conv3.bias"), r"incomplete: RRDB_trunk\.1\.rdb2\.conv3\.bias"),
        (_without("conv_first.weight"), "no known network"),
        (lambda state: state.update(surplus=torch.zeros(1)), "does not have: surplus"),
        (lambda state: state.update({"trunk_conv.bias": torch.zeros(3)}), r"trunk_conv\.bias has shape \(3,\)"),
        (lambda state: state.update({"conv_first.weight": torch.zeros(3)}), "malformed"),
        (lambda state: state["conv_last.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_the_part_that_does_not(harm, complaint: str) -> None:
    state = user_state(2)
    harm(state)
    with pytest.raises(CheckpointError, match=complaint):
        load_state(state)


def test_a_fresh_block_is_nearly_the_identity() -> None:
    torch.manual_seed(0)
    block = RRDBNet(2, nf=16, nb=1, gc=8).RRDB_trunk[0]
    x = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        rest = block(x) - 1.2 * x
    assert rest.abs().max() < 0.1


@pytest.mark.parametrize("architecture", [replace(one, nb=1) for one in SMALL[:10]], ids=str)
def test_no_pixel_beyond_the_receptive_radius_changes_the_output(architecture: Architecture) -> None:
    torch.manual_seed(1)
    net = build(architecture).double()
    for parameter in net.parameters():  # all of one sign: nothing cancels on the way
        parameter.data.abs_().clamp_(min=0.1)
    radius = receptive_radius(architecture)
    side = 2 * radius + 9
    reached = 0
    for place in range(radius + 3, radius + 5):
        x = torch.rand(1, 1, 1, side, dtype=torch.float64).expand(1, 1, side, side).clone().requires_grad_()
        middle = architecture.scale * (side // 2)
        rows = slice(middle, middle + architecture.scale)
        columns = slice(architecture.scale * place, architecture.scale * (place + 1))
        net(x)[..., rows, columns].sum().backward()
        touched = x.grad[0, 0].sum(0).nonzero().flatten()
        assert touched.min() >= place - radius
        assert touched.max() <= place + radius
        reached = max(reached, place - int(touched.min()), int(touched.max()) - place)
    assert reached == radius
