"""Learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1, on fetched weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctsr.errors import CheckpointError
from ctsr.features import Trunk, as_imagenet
from ctsr.metrics.value import MetricValue, PerImage, values

LAYERS = {
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "conv5"),
    "vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
}
"""Trunk → layers whose activated features are compared."""
SMALLEST = 32
"""Pixels on a side below which the trunks' last features have no pixels."""
EPSILON = 1e-10
"""Keeps a feature vector of zeros from being divided by its length."""


class LPIPS:
    """Perceptual distance: 0 for equal images, larger where people see a larger difference.

    Args:
        trunk: AlexNet or VGG16.
        heads: `lin0` … `lin4`, the weight of each channel of each layer, as `ctsr.weights` gives them.

    Raises:
        CheckpointError: the heads belong to another trunk.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, Tensor]) -> None:
        self.trunk = trunk
        self.layers = LAYERS[trunk.name]
        self.heads = [heads[f"lin{i}"] for i in range(len(self.layers))]
        channels = [trunk.channels(layer) for layer in self.layers]
        if [len(head) for head in self.heads] != channels:
            raise CheckpointError(f"these LPIPS heads are not for {trunk.name}: {[len(head) for head in self.heads]}")

    def __call__(self, image: Tensor, reference: Tensor) -> PerImage:
        """Distance of each image from its reference.

        Args:
            image: ``(N, 1, H, W)`` on [0, 1]; three channels are taken as colours.
            reference: the same, or one image for the whole batch.
        """
        if min(image.shape[-2:]) < SMALLEST:
            return (MetricValue(None, f"smaller than {SMALLEST}×{SMALLEST}"),) * len(image)
        wanted = self._unit_features(reference)
        # One at a time: VGG's features of a 512² slice take 250 MB.
        return values(self._distance(self._unit_features(one[None]), wanted, i) for i, one in enumerate(image))

    @torch.inference_mode()
    def _unit_features(self, image: Tensor) -> list[Tensor]:
        """Features of each layer, as vectors of length 1 at each pixel."""
        found = self.trunk(as_imagenet(image.float()), self.layers, activated=True)
        return [found[layer] / (found[layer].norm(dim=1, keepdim=True) + EPSILON) for layer in self.layers]

    @torch.inference_mode()
    def _distance(self, features: list[Tensor], wanted: list[Tensor], index: int) -> float:
        total = 0.0
        for head, ours, theirs in zip(self.heads, features, wanted, strict=True):
            reference = theirs if len(theirs) == 1 else theirs[index : index + 1]
            weighted = (ours - reference).square() * head.view(1, -1, 1, 1)
            total += float(weighted.sum(dim=1).mean(dtype=torch.float64))
        return total
