"""Discriminators: networks that score how real an image looks, pixel neighbourhood by pixel neighbourhood."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ctsr.models.networks import SLOPE

CriticName: TypeAlias = Literal["patch", "unet"]

PATCH_CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512, 1)
PATCH_STRIDES = (1, 2, 1, 2, 1, 2, 1, 2, 1)


def _spectral(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution whose weight is divided by its largest singular value (Miyato et al., ICLR 2018)."""
    parametrizations.spectral_norm(conv)
    return conv


class PatchCritic(nn.Module):
    """Nine spectrally normalised 3×3 convolutions, four of stride 2: a score for each 16×16 pixels.

    ``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, ⌈H/16⌉, ⌈W/16⌉)``, scores before any sigmoid.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels, stride in zip(PATCH_CHANNELS, PATCH_STRIDES, strict=True):
            layers += [_spectral(nn.Conv2d(before, channels, 3, stride, 1)), nn.LeakyReLU(SLOPE)]
            before = channels
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the neighbourhoods."""
        return self.layers(image)


class UNetCritic(nn.Module):
    """A U-Net with skips and spectral normalisation, as in Real-ESRGAN (Wang et al., ICCV workshops 2021).

    ``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, H, W)``, a score for each pixel, before any sigmoid.
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        widths = (features, 2 * features, 4 * features, 8 * features)
        self.first = nn.Conv2d(1, features, 3, padding=1)
        self.down = nn.ModuleList(
            _spectral(nn.Conv2d(wide, wider, 4, 2, 1, bias=False)) for wide, wider in pairwise(widths)
        )
        self.up = nn.ModuleList(
            _spectral(nn.Conv2d(wider, wide, 3, 1, 1, bias=False))
            for wide, wider in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.after = nn.ModuleList(_spectral(nn.Conv2d(features, features, 3, 1, 1, bias=False)) for _ in range(2))
        self.last = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the pixels."""
        image = _activated(self.first(image))
        skips: list[Tensor] = []
        for down in self.down:
            skips.append(image)
            image = _activated(down(image))
        for up in self.up:
            skip = skips.pop()
            # To the skip's own size: an odd number of pixels was rounded on the way down.
            image = nnf.interpolate(image, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            image = _activated(up(image)) + skip
        for after in self.after:
            image = _activated(after(image))
        return self.last(image)


CRITICS: Mapping[CriticName, Callable[[], nn.Module]] = {"patch": PatchCritic, "unet": UNetCritic}
"""Every discriminator by name."""


def build_critic(name: CriticName) -> nn.Module:
    """A discriminator with fresh weights, in evaluation mode: see `iterate_norms`."""
    return CRITICS[name]().eval()


@torch.no_grad()
def iterate_norms(critic: nn.Module) -> None:
    """One power iteration for each normalised weight: what a training step does once, before it scores anything.

    PyTorch would iterate at every pass in training mode, so that the scores of one step would come from different
    weights. The critics here have nothing else that training mode changes, and stay in evaluation mode.
    """
    critic.train()
    for module in _normalised(critic):
        _ = module.weight  # computing it is what iterates
    critic.eval()


def _normalised(critic: nn.Module) -> Iterator[nn.Module]:
    return (module for module in critic.modules() if parametrize.is_parametrized(module, "weight"))


def _activated(image: Tensor) -> Tensor:
    return nnf.leaky_relu(image, SLOPE)
