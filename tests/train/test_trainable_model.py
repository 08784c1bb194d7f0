"""A learner's step: unscaled before it is clipped, skipped where it is not finite; and the rate's schedules."""

import math

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from ctsr.train.loop import TrainableModel, learner, rate_at

SCALE = 1024.0


def scaled_fabric() -> Fabric:
    """Half precision's loss scaling, which works on a CPU as on a GPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    return Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def one_weight(fabric: Fabric, clip_grad: float, *, ema: float = 0.0) -> TrainableModel:
    bare = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(bare.weight)
    return learner(fabric, bare, lr=0.1, clip_grad=clip_grad, ema=ema)


@pytest.mark.parametrize("gradient", [0.5, 4.0])
def test_gradients_are_unscaled_before_they_are_clipped(gradient: float) -> None:
    """Clipped first, a gradient of 0.5 scaled to 512 would become 1, and 1/1024 once unscaled."""
    fabric = scaled_fabric()
    one = one_weight(fabric, clip_grad=1.0)
    fabric.backward(gradient * one.bare.weight.sum())  # type: ignore[operator]
    assert float(one.bare.weight.grad) == gradient * SCALE  # type: ignore[arg-type]
    assert one.update(fabric, 0.0)
    assert float(one.bare.weight.grad) == pytest.approx(min(gradient, 1.0), rel=1e-5)  # type: ignore[arg-type]
    assert float(one.bare.weight) == pytest.approx(-0.1, rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(poison: float, scaled: bool) -> None:
    fabric = scaled_fabric() if scaled else Fabric(accelerator="cpu")
    one = one_weight(fabric, clip_grad=0.0)
    fabric.backward(poison * one.bare.weight.sum())  # type: ignore[operator]
    assert not one.update(fabric, 0.0)
    assert float(one.bare.weight) == 0  # type: ignore[arg-type]


def test_a_scale_that_is_too_large_comes_down() -> None:
    fabric = scaled_fabric()
    one = one_weight(fabric, clip_grad=1.0)
    fabric.backward(math.inf * one.bare.weight.sum())  # type: ignore[operator]
    one.update(fabric, math.inf)
    assert fabric.strategy.precision.scaler.get_scale() == SCALE / 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loss_that_is_not_finite_leaves_the_weights_alone(scaled: bool) -> None:
    fabric = scaled_fabric() if scaled else Fabric(accelerator="cpu")
    one = one_weight(fabric, clip_grad=0.0)
    fabric.backward(one.bare.weight.sum())  # type: ignore[operator]
    assert not one.update(fabric, math.nan)
    assert float(one.bare.weight) == 0  # type: ignore[arg-type]


def test_without_a_limit_gradients_keep_their_size() -> None:
    fabric = Fabric(accelerator="cpu")
    one = one_weight(fabric, clip_grad=0.0)
    fabric.backward(7 * one.bare.weight.sum())  # type: ignore[operator]
    one.update(fabric, 0.0)
    assert float(one.bare.weight.grad) == 7  # type: ignore[arg-type]


def test_the_average_is_what_is_in_use_where_there_is_one() -> None:
    fabric = Fabric(accelerator="cpu")
    plain, averaged = one_weight(fabric, 0.0), one_weight(fabric, 0.0, ema=0.9)
    assert plain.in_use is plain.bare
    assert averaged.in_use is not averaged.bare
    nn.init.ones_(averaged.bare.weight)  # type: ignore[arg-type]
    averaged.average_in()
    assert float(averaged.in_use.weight) == pytest.approx(0.1)  # type: ignore[arg-type]


def test_schedules_are_functions_of_the_epoch() -> None:
    def rates(name: str) -> list[float]:
        return [rate_at(name, 1.0, epoch=epoch, epochs=10) for epoch in range(1, 11)]

    assert rates("constant") == [1.0] * 10
    assert rates("multistep") == [1.0] * 6 + [0.5] * 2 + [0.25] * 2
    cosine = rates("cosine")
    assert cosine[0] == 1
    assert cosine == sorted(cosine, reverse=True)
    assert 0.01 < cosine[-1] < 0.05
    assert rate_at("multistep", 1.0, epoch=1, epochs=1) == 1
