"""Plans: a batch is cut into equal shares that fit, the user's number wins, and the network is left alone."""

import math

import pytest
import torch
from torch import nn

from ctsr.models import Architecture, build
from ctsr.train.devices import make_plan

HUGE = 10**6
"""Side of a patch that no memory holds."""


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return build(Architecture("rrdb", 2, nf=4, nb=1, gc=2))


@pytest.mark.parametrize(("batch", "at_most"), [(10, 6), (10, 4), (10, 3), (7, 6), (12, 5), (5, 5), (4, 1), (1, 3)])
def test_micro_batches_are_equal_shares_of_as_few_pieces_as_fit(net: nn.Module, batch: int, at_most: int) -> None:
    share = make_plan(net, patch=8, batch=batch, steps=1, micro_batch=at_most).micro_batch
    pieces = math.ceil(batch / share)
    assert share <= at_most
    assert pieces == math.ceil(batch / at_most)
    # No smaller share makes as few pieces: the largest and the smallest piece differ as little as they can.
    assert share == math.ceil(batch / pieces)


def test_a_batch_that_fits_is_one_piece_and_one_that_does_not_is_cut(net: nn.Module) -> None:
    assert make_plan(net, patch=8, batch=10, steps=1).micro_batch == 10
    assert make_plan(net, patch=HUGE, batch=10, steps=1).micro_batch == 1


def test_the_users_number_wins_over_what_memory_allows(net: nn.Module) -> None:
    assert make_plan(net, patch=HUGE, batch=8, steps=1, micro_batch=4).micro_batch == 4
    assert make_plan(net, patch=8, batch=8, steps=1, micro_batch=2).micro_batch == 2
    assert make_plan(net, patch=8, batch=8, steps=1, micro_batch=100).micro_batch == 8


def test_memory_and_time_grow_with_the_area_of_the_patch(net: nn.Module) -> None:
    small, large = (make_plan(net, patch=side, batch=4, steps=3) for side in (8, 80))
    assert large.step_bytes == pytest.approx(100 * small.step_bytes)
    assert large.step_seconds > small.step_seconds > 0
    half = make_plan(net, patch=8, batch=4, steps=3, micro_batch=2)
    assert half.step_bytes == pytest.approx(small.step_bytes / 2)


def test_planning_touches_neither_weights_nor_gradients_nor_random_state(net: nn.Module) -> None:
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    make_plan(net, patch=8, batch=2, steps=1)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plan_reads_as_one_line(net: nn.Module) -> None:
    plan = make_plan(net, patch=8, batch=10, steps=25, micro_batch=6)
    assert "\n" not in str(plan)
    for words in ("a step takes about ", "(5 patches at once)", "an epoch of 25 steps about "):
        assert words in str(plan)
