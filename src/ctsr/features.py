"""Deep features of AlexNet and VGG trunks: what perceptual losses and LPIPS compare images by."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from ctsr.errors import CheckpointError, UsageError

__all__ = ["TRUNKS", "Conv", "Pool", "Trunk", "as_imagenet", "convolutions_of"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours on [0, 1]: what the trunks were trained on."""


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


TRUNKS = MappingProxyType(
    {
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
)
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
