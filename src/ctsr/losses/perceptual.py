"""The distance of deep features (Johnson et al., ECCV 2016), taken before the activation as in ESRGAN."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctsr.errors import UsageError
from ctsr.features import Trunk, as_imagenet
from ctsr.losses.pixel import l1_loss

__all__ = ["PerceptualLoss"]


class PerceptualLoss(nn.Module):
    """Weighted L1 between the features of SR and HR (Wang et al., ESRGAN, ECCV workshops 2018, section 3.3).

    Features before the activation are dense where activated ones are mostly zero, and keep the image's brightness.

    Args:
        trunk: a frozen network.
        layers: weight by name of a layer, such as ``{"conv5_3": 1.0}``.

    Raises:
        UsageError: no layers, a layer that the trunk does not have, or a weight that is not above 0.
    """

    def __init__(self, trunk: Trunk, layers: Mapping[str, float]) -> None:
        super().__init__()
        trunk.check(layers)
        if not layers or min(layers.values()) <= 0:
            raise UsageError(f"a perceptual loss needs layers with weights above 0, got {dict(layers)}")
        self.trunk = trunk
        self.layers = dict(layers)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """``(N, 1, H, W)`` against the same, [-1, 1] → a scalar whose gradient reaches SR; HR is the target."""
        with torch.no_grad():
            target = self._features(hr)
        found = self._features(sr)
        parts = [weight * l1_loss(found[layer], target[layer]) for layer, weight in self.layers.items()]
        return torch.stack(parts).sum()

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        return self.trunk(as_imagenet((image + 1) / 2), self.layers, activated=False)
