"""Training losses on images in [-1, 1] and on scores, and the frozen trunks that perceptual ones compare images by."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from ctsr.degrade import DegradationParams, degrade
from ctsr.errors import CheckpointError, UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours on [0, 1], which the trunks were trained on."""


@dataclass(frozen=True)
class Conv:
    """One convolution, the activation that follows it understood."""

    name: str
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True)
class Pool:
    """A maximum over `size`² pixels, every 2 pixels."""

    size: int


def _vgg(*convolutions: int) -> tuple[Conv | Pool, ...]:
    """Five blocks of so many convolutions, a pooling between them (Simonyan and Zisserman, ICLR 2015)."""
    layers: list[Conv | Pool] = []
    for block, (count, channels) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
        layers += [Pool(2)] if layers else []
        layers += [Conv(f"conv{block}_{i}", channels) for i in range(1, count + 1)]
    return tuple(layers)


TRUNKS: Mapping[str, tuple[Conv | Pool, ...]] = {
    "alexnet": (
        Conv("conv1", 64, kernel=11, stride=4, padding=2),
        Pool(3),
        Conv("conv2", 192, kernel=5, padding=2),
        Pool(3),
        Conv("conv3", 384),
        Conv("conv4", 256),
        Conv("conv5", 256),
    ),
    "vgg16": _vgg(2, 2, 3, 3, 3),
    "vgg19": _vgg(2, 2, 4, 4, 4),
}
"""The convolutional part of each network, layer by layer."""


def convolutions_of(name: str) -> tuple[str, ...]:
    """The names of a trunk's convolutions, first to last."""
    return tuple(layer.name for layer in TRUNKS[name] if isinstance(layer, Conv))


def as_imagenet(grey: Tensor) -> Tensor:
    """``(N, 1, H, W)`` on [0, 1] → ``(N, 3, H, W)``, the grey value in all three colours, normalised as ImageNet's."""
    mean = torch.tensor(MEAN, dtype=grey.dtype, device=grey.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, dtype=grey.dtype, device=grey.device).view(1, 3, 1, 1)
    return (grey - mean) / std


class Trunk(nn.Module):
    """A network's convolutions, frozen; gradients pass through it to the image.

    Args:
        name: from `TRUNKS`.
        state: its weights under torchvision's keys (`features.0.weight` …), as `ctsr.weights.load_weights` gives them.

    Raises:
        CheckpointError: the weights are those of another network.
    """

    def __init__(self, name: str, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.name = name
        self.layers = TRUNKS[name]
        self.convolutions = nn.ModuleDict()
        channels = 3
        with torch.device("meta"):  # the weights are about to come
            for layer in self.layers:
                if isinstance(layer, Conv):
                    conv = nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding)
                    self.convolutions[layer.name] = conv
                    channels = layer.channels
        try:
            self.convolutions.load_state_dict(_by_layer(state, list(self.convolutions)), assign=True)
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"these are not the weights of {name}: {error}") from error
        self.requires_grad_(False)
        self.eval()

    def channels(self, layer: str) -> int:
        """How many features a layer has."""
        return next(conv.channels for conv in self.layers if isinstance(conv, Conv) and conv.name == layer)

    def check(self, layers: Collection[str]) -> None:
        """See that these layers exist.

        Raises:
            UsageError: one does not; the message lists those there are.
        """
        for layer in layers:
            if layer not in self.convolutions:
                raise UsageError(f"{self.name} has no layer {layer!r}; there are {', '.join(self.convolutions)}")

    def forward(self, image: Tensor, layers: Collection[str], *, activated: bool) -> dict[str, Tensor]:
        """The features of the named layers; what lies beyond the last of them is not computed.

        Args:
            image: ``(N, 3, H, W)``, normalised as by `as_imagenet`.
            layers: names of convolutions, such as `conv5_3`.
            activated: after the activation (as LPIPS takes them) rather than before it (as ESRGAN does).

        Returns:
            ``(N, channels, h, w)`` by name.
        """
        found: dict[str, Tensor] = {}
        for layer in self.layers:
            if len(found) == len(set(layers)):
                break
            if isinstance(layer, Pool):
                image = nnf.max_pool2d(image, layer.size, stride=2)
                continue
            before = self.convolutions[layer.name](image)
            image = nnf.relu(before)
            if layer.name in layers:
                found[layer.name] = image if activated else before
        return found


def _by_layer(state: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Under our names: torchvision counts activations and poolings, too, but the order is the same."""
    numbers = sorted({int(key.split(".")[1]) for key in state})
    if len(numbers) != len(names):
        raise KeyError(f"{len(numbers)} convolutions, expected {len(names)}")
    return {
        f"{name}.{part}": state[f"features.{number}.{part}"]
        for name, number in zip(names, numbers, strict=True)
        for part in ("weight", "bias")
    }


ARTIFACT_WINDOW = 7
"""Side in pixels of the window in which the artifact loss computes local variance."""

GanType: TypeAlias = Literal["ragan", "vanilla", "lsgan", "hinge"]
Mean: TypeAlias = Callable[[Tensor], Tensor]
"""Mean of all scores of a step as a scalar; with several devices, over the scores of all."""


def l1_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference; two tensors of one shape, any linear unit → a scalar in that unit."""
    return nnf.l1_loss(sr, hr)


class PerceptualLoss(nn.Module):
    """Weighted L1 between deep features of SR and HR (Johnson et al., ECCV 2016).

    Features are taken before the activation, as in ESRGAN (Wang et al., ECCV workshops 2018, section 3.3): activated
    features are mostly zero, and lose the brightness of the image.

    Args:
        trunk: a frozen network.
        layers: weight by name of a layer, such as ``{"conv5_3": 1.0}``.

    Raises:
        UsageError: no layer, a layer that the trunk does not have, or a weight that is not positive.
    """

    def __init__(self, trunk: Trunk, layers: Mapping[str, float]) -> None:
        super().__init__()
        trunk.check(layers)
        if not layers or min(layers.values()) <= 0:
            raise UsageError(f"a perceptual loss needs layers with weights above 0, got {dict(layers)}")
        self.trunk = trunk
        self.layers = dict(layers)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """``(N, 1, H, W)`` in [-1, 1], both → a scalar; its gradient reaches `sr` only."""
        with torch.no_grad():
            target = self._features(hr)
        features = self._features(sr)
        parts = [weight * l1_loss(features[layer], target[layer]) for layer, weight in self.layers.items()]
        return torch.stack(parts).sum()

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        return self.trunk(as_imagenet((image + 1) / 2), self.layers, activated=False)


def consistency_loss(
    sr: Tensor, hr: Tensor, params: Sequence[DegradationParams], *, scale: int, antialias: bool = False
) -> Tensor:
    """L1 between SR and HR after both are blurred and downsampled like LR, without noise.

    It penalises structure larger than an LR pixel that was added or removed. Detail that LR does not contain (the null
    space of the degradation) is not penalised.

    Args:
        sr: ``(N, 1, H, W)`` in [-1, 1]; gradients reach it.
        hr: the same shape.
        params: the degradation of each LR image.
        scale: the network's.
        antialias: see `Degradation.antialias`.

    Returns:
        A scalar, [-1, 1] units.
    """
    noiseless = [image_params.noiseless for image_params in params]
    seeds = [0] * len(noiseless)  # not used without noise
    lr_of_sr = degrade(sr, noiseless, seeds, scale=scale, antialias=antialias)
    lr_of_hr = degrade(hr, noiseless, seeds, scale=scale, antialias=antialias)
    return l1_loss(lr_of_sr, lr_of_hr)


def artifact_loss(sr: Tensor, hr: Tensor, sr_ema: Tensor) -> Tensor:
    """L1 weighted by the probability of a GAN artifact: locally discriminative learning (Liang et al., CVPR 2022).

    Args:
        sr: ``(N, 1, H, W)`` in [-1, 1]; gradients reach it, but not the weights.
        hr: the same shape.
        sr_ema: SR of the averaged generator (EMA) from the same LR.

    Returns:
        A scalar, [-1, 1] units.
    """
    weights = artifact_map(sr.detach(), hr, sr_ema)
    return l1_loss(weights * sr, weights * hr)


@torch.no_grad()
def artifact_map(sr: Tensor, hr: Tensor, sr_ema: Tensor) -> Tensor:
    """Equations 3 to 6 of the paper: local variance of the residual × (variance of the patch)^⅕, 0 where EMA errs more.

    Returns:
        ``(N, 1, H, W)``, non-negative.
    """
    residual = (hr - sr).abs()
    margin = ARTIFACT_WINDOW // 2
    padded = nnf.pad(residual, (margin, margin, margin, margin), mode="reflect")
    windows = padded.unfold(2, ARTIFACT_WINDOW, 1).unfold(3, ARTIFACT_WINDOW, 1)
    local_variance = windows.var(dim=(-1, -2), unbiased=True)
    patch_variance = residual.var(dim=(1, 2, 3), keepdim=True)
    return torch.where(residual < (hr - sr_ema).abs(), 0.0, patch_variance**0.2 * local_variance)


def generator_loss(kind: GanType, real: Tensor, fake: Tensor, *, mean: Mean = Tensor.mean) -> Tensor:
    """Loss of the generator.

    Args:
        kind: `ragan`: relativistic average, as in ESRGAN (Jolicoeur-Martineau, ICLR 2019); `vanilla`, non-saturating
            (Goodfellow et al., NeurIPS 2014); `lsgan` (Mao et al., ICCV 2017); `hinge` (Lim and Ye, 2017).
        real: scores of HR, any shape; used by `ragan` only.
        fake: scores of SR, the same shape; gradients reach them.
        mean: how scores are averaged for `ragan`.

    Returns:
        A scalar.
    """
    match kind:
        case "ragan":
            # Relative to the mean of the other kind: SR should score above HR, and HR below SR.
            return 0.5 * (_as_fake(real - mean(fake)) + _as_real(fake - mean(real)))
        case "vanilla":
            return _as_real(fake)
        case "lsgan":
            return (fake - 1).square().mean()
        case "hinge":
            return -fake.mean()


def discriminator_loss(kind: GanType, real: Tensor, fake: Tensor, *, mean: Mean = Tensor.mean) -> Tensor:
    """Loss of the discriminator; arguments and result as for `generator_loss`."""
    match kind:
        case "ragan":
            return 0.5 * (_as_real(real - mean(fake)) + _as_fake(fake - mean(real)))
        case "vanilla":
            return 0.5 * (_as_real(real) + _as_fake(fake))
        case "lsgan":
            return 0.5 * ((real - 1).square().mean() + fake.square().mean())
        case "hinge":
            return 0.5 * (nnf.relu(1 - real).mean() + nnf.relu(1 + fake).mean())


def _as_real(score: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(score) and 1, without overflow."""
    return nnf.softplus(-score).mean()


def _as_fake(score: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(score) and 0."""
    return nnf.softplus(score).mean()
