import math

import pytest
import torch
from torch import nn

from ctsr.errors import DomainError
from ctsr.models import FAMILIES, THROUGH_PLANE, Architecture, build
from ctsr.models.profile import profile, training_bytes_per_pixel

IN_PLANE = [name for name in FAMILIES if name != THROUGH_PLANE]
NETWORKS = [Architecture(name, scale, nf=8, nb=2, gc=4) for name in IN_PLANE for scale in (2, 4)]


def kept_for_backward(net: nn.Module, image: torch.Tensor) -> int:
    """Bytes at distinct addresses that a real forward pass keeps, weights left out."""
    weights = {p.data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = net(image)  # alive until all is counted: no address is used twice
    assert result.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("architecture", NETWORKS, ids=str)
def test_training_memory_is_what_a_real_forward_pass_keeps(architecture: Architecture) -> None:
    net = build(architecture)
    truth = kept_for_backward(net, torch.zeros(1, 1, 20, 28))
    assert profile(architecture, (20, 28)).training_bytes == truth
    assert training_bytes_per_pixel(net) * 20 * 28 == pytest.approx(truth)


def test_training_memory_of_a_dense_block_is_its_five_inputs_and_four_activations() -> None:
    """Per pixel: inputs of nf, nf+gc, … nf+4gc channels and four activations of gc, 4 bytes each, 3·nb times."""
    nf, gc, nb = 8, 4, 3
    with_blocks = training_bytes_per_pixel(build(Architecture("rrdb", 2, nf, nb, gc)))
    with_one = training_bytes_per_pixel(build(Architecture("rrdb", 2, nf, 1, gc)))
    assert with_blocks - with_one == 4 * (5 * nf + 10 * gc + 4 * gc) * 3 * (nb - 1)


def test_measuring_leaves_weights_gradients_and_random_state_alone() -> None:
    net = build(NETWORKS[0])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    training_bytes_per_pixel(net)
    profile(net, (8, 8))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None and p.device.type == "cpu" for p in net.parameters())
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in before)


def test_half_precision_needs_half_of_the_training_memory() -> None:
    net = build(Architecture("rrdb", 2, nf=16, nb=2, gc=8))
    full = training_bytes_per_pixel(net)
    with torch.autocast("cpu", torch.bfloat16):
        half = training_bytes_per_pixel(net)
    assert 0.45 < half / full < 0.75


def test_inference_memory_is_the_most_that_is_alive_at_once() -> None:
    """At the end of RRDB ×2: image, trunk output, 4·nf channels before the shuffle and again after it."""
    nf, pixels = 8, 32 * 32
    assert profile(NETWORKS[0], (32, 32)).inference_bytes == 4 * pixels * (1 + nf + 4 * nf + 4 * nf)


def test_operations_are_weights_times_pixels() -> None:
    cost = profile(Architecture("rrdb", 2, nf=64, nb=23, gc=32), (256, 256))
    biases = 64 * 2 + 256 + 1 + 23 * 3 * (4 * 32 + 64)
    last = 64 * 9  # runs on four times as many pixels
    assert cost.parameters == 16_732_609
    assert cost.macs == (cost.parameters - biases - last) * 256**2 + last * 512**2


@pytest.mark.parametrize("architecture", NETWORKS, ids=str)
def test_the_parts_add_up_to_the_whole(architecture: Architecture) -> None:
    cost = profile(architecture, (16, 24))
    assert sum(group.parameters for group in cost.groups) == cost.parameters
    assert sum(group.macs for group in cost.groups) == cost.macs
    last = cost.groups[-1].output_shape
    assert math.prod(last) == 16 * architecture.scale * 24 * architecture.scale


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DomainError, match="0 × 8"):
        profile(NETWORKS[0], (0, 8))
