"""Slices in HU made finer: by a network where it knows its way, by interpolation beyond its range and in the air."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ctsr.hu import AIR, HURange
from ctsr.infer.box import Box, body_box
from ctsr.infer.engine import Engine
from ctsr.infer.slices import super_resolve
from ctsr.models.interpolation import enlarge
from ctsr.padding import SlicePixels
from ctsr.volume import PaddingMask, VoxelsHU

__all__ = ["Enlarger"]

BORDER = 4
"""LR pixels by which a slice goes on beyond its border before a network sees it: convolutions would see zeros there,
which are 500 HU."""


@dataclass(frozen=True, eq=False)
class Enlarger:
    """Makes slices `scale` times finer, in HU.

    Where every value lies in the network's range, the result is the network's answer. Values beyond it (implants) go
    through by bilinear interpolation: the network sees them clipped, what was clipped off is interpolated and added,
    and where nothing but such values contribute, the result is interpolation alone. Padding is no tissue: the values
    at its rim go on into it before anything is computed, and it is padding again in the result.
    """

    engine: Engine
    scale: int
    hu_range: HURange
    skip_air: bool = True
    """Interpolate the air around the body instead of inferring it; see `ctsr.infer.box`."""

    def __call__(self, pixels: SlicePixels) -> SlicePixels:
        """One slice of (rows, columns) in HU → (scale·rows, scale·columns) in HU, on the same field of view."""
        if pixels.padding is not None and pixels.padding.all():
            padding = self._finer(pixels.padding)
            return SlicePixels.from_padded(np.full(padding.shape, AIR, np.float32), padding)
        hu = pixels.hu if pixels.padding is None else _over_padding(pixels.hu, pixels.padding)
        finer = self._interpolated(hu)
        box = body_box(pixels.hu) if self.skip_air else Box(0, hu.shape[0], 0, hu.shape[1])
        if box is not None:
            self._infer(hu, finer, box)
        return SlicePixels.from_padded(finer, None if pixels.padding is None else self._finer(pixels.padding))

    def _infer(self, hu: VoxelsHU, finer: VoxelsHU, box: Box) -> None:
        """Put the network's answer into a part of the interpolated slice."""
        clipped = np.clip(hu, self.hu_range.low, self.hu_range.high)
        fits = bool((clipped == hu).all())
        there = box.scaled(self.scale).part
        # Interpolation of what the network saw: it takes the place of its answer where that has no weight.
        plain = finer if fits else self._interpolated(clipped)
        weight = box.fade((hu.shape[0], hu.shape[1]), self.scale)
        if not fits:
            weight = weight * (1 - self._interpolated((clipped != hu).astype(np.float32))[there])
        finer[there] += weight * (self._answer(clipped, box) - plain[there])

    def _answer(self, clipped: VoxelsHU, box: Box) -> VoxelsHU:
        """The network's answer to a part of a slice, in HU."""
        wider = np.pad(clipped, BORDER, mode="edge")[
            box.top : box.bottom + 2 * BORDER, box.left : box.right + 2 * BORDER
        ]
        answer = super_resolve(self.engine, torch.from_numpy(self.hu_range.to_unit(wider))[None, None])
        border = BORDER * self.scale
        inner = answer[0, 0, border:-border, border:-border].numpy()
        return self.hu_range.to_hu(inner).astype(np.float32, copy=False)

    def _interpolated(self, image: npt.NDArray[np.float32]) -> VoxelsHU:
        return enlarge(torch.from_numpy(image)[None, None], self.scale, "bilinear")[0, 0].numpy()

    def _finer(self, mask: PaddingMask) -> PaddingMask:
        return mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def _over_padding(hu: VoxelsHU, padding: PaddingMask) -> VoxelsHU:
    """Every padded pixel gets the value of the nearest one that was reconstructed."""
    rows, columns = _nearest(padding.tobytes(), padding.shape)
    return hu[rows, columns]


@lru_cache(maxsize=4)
def _nearest(padding: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """The slices of a series mostly have one mask; it is told by its bytes."""
    mask = np.frombuffer(padding, np.bool_).reshape(shape)
    return np.asarray(ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True))
