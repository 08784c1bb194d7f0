"""Losses: each has its formula, and a gradient that reaches SR and nothing else."""

import math

import pytest
import torch
from torch import Tensor

from ctsr.degrade import DegradationParams, degrade
from ctsr.errors import CheckpointError, UsageError
from ctsr.losses import (
    TRUNKS,
    Conv,
    GanType,
    PerceptualLoss,
    Trunk,
    artifact_loss,
    artifact_map,
    as_imagenet,
    consistency_loss,
    convolutions_of,
    discriminator_loss,
    generator_loss,
    l1_loss,
)
from ctsr.weights import load_weights
from tests.needs import needs_weights

KINDS: tuple[GanType, ...] = ("ragan", "vanilla", "lsgan", "hinge")


def images(count: int = 2, size: int = 48, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """SR that takes gradients, and HR."""
    draw = torch.Generator().manual_seed(seed)
    hr = torch.rand(count, 1, size, size, generator=draw) * 1.2 - 0.6
    sr = (hr + 0.1 * torch.randn(hr.shape, generator=draw)).clamp(-1, 1)
    return sr.requires_grad_(), hr


@pytest.fixture(scope="module")
def vgg16() -> Trunk:
    return Trunk("vgg16", load_weights("vgg16", needs_weights("vgg16")))


def random_trunk(name: str) -> Trunk:
    """Right shapes, random weights: for rules that do not depend on what the trunk has learned."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    channels = 3
    for number, layer in enumerate(layer for layer in TRUNKS[name] if isinstance(layer, Conv)):
        shape = (layer.channels, channels, layer.kernel, layer.kernel)
        state |= {
            f"features.{number}.weight": 0.05 * torch.randn(shape),
            f"features.{number}.bias": torch.zeros(layer.channels),
        }
        channels = layer.channels
    return Trunk(name, state)


def test_l1_is_the_mean_absolute_difference() -> None:
    sr, hr = images()
    loss = l1_loss(sr, hr)
    loss.backward()
    assert float(loss) == pytest.approx(float((sr - hr).abs().mean()))
    assert torch.allclose(sr.grad, torch.sign(sr - hr).detach() / sr.numel())  # type: ignore[arg-type]


def test_the_perceptual_loss_alone_moves_sr(vgg16: Trunk) -> None:
    """Not so where the image is prepared for the trunk without a gradient: then L1 is all there is."""
    sr, hr = images()
    loss = PerceptualLoss(vgg16, {"conv5_3": 1.0})(sr, hr)
    loss.backward()
    assert float(loss) > 0
    assert sr.grad is not None
    assert (sr.grad != 0).float().mean() > 0.9
    assert all(parameter.grad is None for parameter in vgg16.parameters())


def test_equal_images_have_no_perceptual_loss(vgg16: Trunk) -> None:
    _, hr = images()
    assert float(PerceptualLoss(vgg16, {"conv3_3": 1.0, "conv5_3": 1.0})(hr, hr)) == 0


def test_the_perceptual_loss_is_the_weighted_l1_of_features_before_the_activation(vgg16: Trunk) -> None:
    sr, hr = images()
    layers = {"conv2_2": 0.25, "conv4_3": 2.0}
    expected = 0.0
    for layer, weight in layers.items():
        ours, theirs = (
            vgg16(as_imagenet((image + 1) / 2), [layer], activated=False)[layer] for image in (sr.detach(), hr)
        )
        assert float(ours.min()) < 0  # after the activation nothing is below 0
        expected += weight * float((ours - theirs).abs().mean())
    assert float(PerceptualLoss(vgg16, layers)(sr, hr)) == pytest.approx(expected, rel=1e-5)


def test_a_grey_image_becomes_imagenets_colours() -> None:
    grey = torch.tensor([0.0, 0.485, 1.0]).view(1, 1, 1, 3)
    found = as_imagenet(grey)
    assert found.shape == (1, 3, 1, 3)
    assert float(found[0, 0, 0, 1]) == pytest.approx(0, abs=1e-6)
    assert float(found[0, 2, 0, 2]) == pytest.approx((1 - 0.406) / 0.225, rel=1e-5)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "vgg19"])
def test_trunks_have_the_layers_of_their_papers(name: str) -> None:
    trunk = random_trunk(name)
    assert len(convolutions_of(name)) == {"alexnet": 5, "vgg16": 13, "vgg19": 16}[name]
    last = convolutions_of(name)[-1]
    found = trunk(torch.zeros(1, 3, 64, 64), [last], activated=False)[last]
    assert found.shape == (1, 256, 3, 3) if name == "alexnet" else (1, 512, 4, 4)


def test_unknown_layers_and_foreign_weights_are_refused() -> None:
    trunk = random_trunk("vgg16")
    with pytest.raises(UsageError, match="vgg16 has no layer 'conv6_1'; there are conv1_1"):
        PerceptualLoss(trunk, {"conv6_1": 1.0})
    with pytest.raises(UsageError, match="weights above 0"):
        PerceptualLoss(trunk, {"conv5_3": 0.0})
    with pytest.raises(CheckpointError, match="not the weights of vgg19"):
        Trunk("vgg19", {f"features.{i}.weight": torch.zeros(1) for i in range(13)})


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_of_the_game_pull_sr_in_opposite_directions(kind: GanType) -> None:
    real, fake = torch.tensor([0.5, 0.9]), torch.tensor([0.1, 0.3], requires_grad=True)
    generator_loss(kind, real, fake).backward()
    ours = fake.grad
    assert ours is not None
    assert (ours < 0).all()  # the generator wants its scores higher
    fake.grad = None
    discriminator_loss(kind, real, fake).backward()
    assert fake.grad is not None
    assert (fake.grad > 0).all()


def test_adversarial_losses_are_their_formulas() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])

    def bce(score: Tensor, label: float) -> float:
        p = torch.sigmoid(score)
        return float(-(label * p.log() + (1 - label) * (1 - p).log()).mean())

    assert float(generator_loss("vanilla", real, fake)) == pytest.approx(bce(fake, 1), rel=1e-5)
    ragan = (bce(real - fake.mean(), 0) + bce(fake - real.mean(), 1)) / 2
    assert float(generator_loss("ragan", real, fake)) == pytest.approx(ragan, rel=1e-5)
    ragan = (bce(real - fake.mean(), 1) + bce(fake - real.mean(), 0)) / 2
    assert float(discriminator_loss("ragan", real, fake)) == pytest.approx(ragan, rel=1e-5)
    assert float(discriminator_loss("lsgan", real, fake)) == pytest.approx((2.0 + 2.0) / 2)
    assert float(generator_loss("lsgan", real, fake)) == pytest.approx((1 + 9) / 2)
    assert float(discriminator_loss("hinge", real, fake)) == pytest.approx((0.0 + 0.5) / 2)
    assert float(generator_loss("hinge", real, fake)) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_any_size_give_finite_losses(kind: GanType) -> None:
    real, fake = torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4])
    assert math.isfinite(float(generator_loss(kind, real, fake)))
    assert math.isfinite(float(discriminator_loss(kind, real, fake)))


PARAMS = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.003, dose=0.25)


def test_consistency_sees_what_lr_saw_and_nothing_finer() -> None:
    sr, hr = images()
    loss = consistency_loss(sr, hr, [PARAMS] * 2, scale=2)
    loss.backward()
    assert sr.grad is not None
    assert (sr.grad != 0).float().mean() > 0.9
    smooth = degrade(hr, [PARAMS] * 2, [0, 0], scale=2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    shifted = smooth + 0.1
    checker = torch.ones(48, 48)
    checker[::2] = -1
    assert float(consistency_loss(shifted, smooth, [PARAMS] * 2, scale=2)) == pytest.approx(0.1, abs=1e-5)
    # Rows that alternate cancel between the two that each LR pixel lies between; only the reflected edge tells.
    finer = consistency_loss(smooth + 0.1 * checker, smooth, [PARAMS] * 2, scale=2)
    assert float(finer) < 0.002


def test_consistency_is_without_noise() -> None:
    _, hr = images()
    assert float(consistency_loss(hr, hr, [PARAMS] * 2, scale=2)) == 0


def test_artifacts_are_punished_where_the_average_does_better() -> None:
    sr, hr = images(1)
    steady = hr.clone()
    assert float(artifact_map(sr.detach(), hr, steady).min()) >= 0
    artifact_loss(sr, hr, steady).backward()
    assert sr.grad is not None
    assert (sr.grad != 0).any()
    worse = hr + 10
    assert float(artifact_loss(sr, hr, worse)) == 0
    assert float(artifact_map(hr, hr, steady).max()) == 0


def test_the_map_is_the_local_variance_of_the_residual_times_the_patches_to_a_fifth() -> None:
    sr, hr = images(1, 16)
    residual = (hr - sr).detach().abs()[0, 0]
    found = artifact_map(sr.detach(), hr, hr)
    expected = residual[4:11, 5:12].var() * residual.var() ** 0.2
    assert float(found[0, 0, 7, 8]) == pytest.approx(float(expected), rel=1e-4)
