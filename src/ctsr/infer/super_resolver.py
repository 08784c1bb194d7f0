"""Super-resolution of slices in HU: the one way from an LR slice to an SR slice.

What the network does not decide is decided here: values beyond its range, padding, borders, the air around the body.
Evaluation, viewer and `upscale` all call it, so that what is measured is what is delivered.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from ctsr.errors import DomainError
from ctsr.hu import AIR, HURange
from ctsr.infer.body_roi import Roi, body_roi
from ctsr.infer.engine import Engine
from ctsr.infer.slices import super_resolve
from ctsr.models.conditioning import Conditions, with_conditions
from ctsr.models.interpolation import enlarge
from ctsr.padding import SlicePixels
from ctsr.quality.before_after import block_means
from ctsr.volume import PaddingMask, VoxelsHU

BORDER = 4
"""LR pixels by which a slice is continued beyond its border before a network sees it: convolutions would see zeros
there, which are 500 HU."""
ANCHOR = 2.0
"""LR pixels, standard deviation of the Gaussian below whose frequencies a result keeps to its source: wide enough to
bring back a seventh of white noise at most, narrow enough to hold the mean HU of any organ."""
PROJECTIONS = 6
"""Steps of `consistent`. Each halves, at least, what is left of the finest detail."""


@dataclass(frozen=True, eq=False)
class SliceSuperResolver:
    """Makes slices in HU `scale` times finer.

    Where every value lies in the network's range, the result is the network's answer. Values beyond it are clipped for
    the network, and what was clipped off is interpolated and added; where values above the range (implants) contribute,
    the answer gives way to interpolation. A network that was trained with L1 learns a median, which is off the mean
    where noise is skewed, so the low frequencies of the result are those of the source (see `ANCHOR`).

    Padding is no tissue: the values at its rim are continued into it before anything is computed, and it is padding
    again in the result.
    """

    engine: Engine
    scale: int
    hu_range: HURange
    conditional: bool = False
    """Whether the network takes `Conditions`."""
    skip_air: bool = True
    """Interpolate the air around the body instead of inferring it; see `ctsr.infer.body_roi`."""
    network_share: float = 1.0
    """Share of the network in a mixture with bilinear interpolation, in [0, 1]."""
    consistent: bool = False
    """Project the result onto its source: add back, enlarged, what the mean of each source pixel's area lacks."""

    def __call__(self, pixels: SlicePixels, conditions: Conditions | None = None) -> SlicePixels:
        """Super-resolve one slice.

        Args:
            pixels: (rows, columns) in HU.
            conditions: what a conditional network is told of the slice; None for others.

        Returns:
            (scale·rows, scale·columns) in HU, on the same field of view.

        Raises:
            DomainError: a conditional network is told nothing, or another one something.
        """
        if (conditions is not None) != self.conditional:
            need = "needs conditions" if self.conditional else "takes no conditions"
            raise DomainError(f"this network {need}: blur and noise of its input")
        if pixels.padding is not None and pixels.padding.all():
            padding = self._finer(pixels.padding)
            return SlicePixels.from_padded(np.full(padding.shape, AIR, np.float32), padding)
        hu = pixels.hu if pixels.padding is None else _over_padding(pixels.hu, pixels.padding)
        finer = self._interpolated(hu)
        roi = body_roi(pixels.hu) if self.skip_air else Roi(0, hu.shape[0], 0, hu.shape[1])
        if roi is not None:
            self._infer(hu, finer, roi, conditions)
        if self.consistent:
            self._project(hu, finer)
        return SlicePixels.from_padded(finer, None if pixels.padding is None else self._finer(pixels.padding))

    def _infer(self, hu: VoxelsHU, finer: VoxelsHU, roi: Roi, conditions: Conditions | None) -> None:
        """Put the network's answer into a part of the interpolated slice."""
        clipped = np.clip(hu, self.hu_range.low, self.hu_range.high)
        there = roi.scaled(self.scale).part
        # Interpolation of what the network sees: its answer is added as a difference to that.
        plain = finer if bool((clipped == hu).all()) else self._interpolated(clipped)
        weight = roi.fade((hu.shape[0], hu.shape[1]), self.scale) * np.float32(self.network_share)
        above = hu > self.hu_range.high
        if above.any():
            weight = weight * (1 - self._interpolated(above.astype(np.float32))[there])
        finer[there] += weight * (self._answer(clipped, roi, conditions) - plain[there])

    def _answer(self, clipped: VoxelsHU, roi: Roi, conditions: Conditions | None) -> VoxelsHU:
        """The network's answer to a part of a slice, in HU, with the low frequencies of that part."""
        wider = np.pad(clipped, BORDER, mode="edge")[
            roi.top : roi.bottom + 2 * BORDER, roi.left : roi.right + 2 * BORDER
        ]
        unit = torch.from_numpy(self.hu_range.to_unit(wider))[None, None]
        answer = super_resolve(self.engine, _network_input(unit, conditions))
        border = BORDER * self.scale
        inner = answer[0, 0, border:-border, border:-border].cpu().numpy()
        sharp = self.hu_range.to_hu(inner).astype(np.float32, copy=False)
        lacking = ndimage.gaussian_filter(clipped[roi.part] - block_means(sharp, self.scale), ANCHOR, mode="nearest")
        return sharp + self._interpolated(np.asarray(lacking, np.float32))

    def _project(self, hu: VoxelsHU, finer: VoxelsHU) -> None:
        """Bring the mean over each source pixel's area to that pixel's value, smoothly."""
        for _ in range(PROJECTIONS):
            finer += self._interpolated(hu - block_means(finer, self.scale))

    def _interpolated(self, image: npt.NDArray[np.float32]) -> VoxelsHU:
        return enlarge(torch.from_numpy(image)[None, None], self.scale, "bilinear")[0, 0].numpy()

    def _finer(self, mask: PaddingMask) -> PaddingMask:
        return mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def _network_input(lr: Tensor, conditions: Conditions | None) -> Tensor:
    return lr if conditions is None else with_conditions(lr, [conditions])


def _over_padding(hu: VoxelsHU, padding: PaddingMask) -> VoxelsHU:
    """Give every padded pixel the value of the nearest one that was reconstructed."""
    rows, columns = _nearest(padding.tobytes(), padding.shape)
    return hu[rows, columns]


@lru_cache(maxsize=4)
def _nearest(padding: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Row and column of the nearest reconstructed pixel; the slices of a series mostly share one mask."""
    mask = np.frombuffer(padding, np.bool_).reshape(shape)
    return np.asarray(ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True))
