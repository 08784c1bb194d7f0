"""Slices of a body with known structure, and pairs made of them."""

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, DegradationParams, Draw, degrade
from ctsr.hu import DEFAULT_RANGE, HURange

Slice = npt.NDArray[np.float32]
SIZE = 256


def body(size: int = SIZE, *, texture: float = 0.0, noise: float = 0.0, seed: int = 0) -> Slice:
    """A round body of 40 HU in air; `texture` and `noise` are standard deviations in HU, the first one smooth."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(size, size)), 2.5, mode="wrap")
    rows, columns = np.ogrid[:size, :size]
    inside = np.hypot(rows - size / 2, columns - size / 2) < 0.46 * size
    tissue = 40 + texture * smooth / smooth.std() + noise * rng.normal(size=(size, size))
    return np.where(inside, tissue, -1000).astype(np.float32)


def pair_of(
    hr_hu: Slice,
    params: DegradationParams,
    degradation: Degradation | None = None,
    *,
    noise_seed: int = 7,
    hu_range: HURange = DEFAULT_RANGE,
) -> SlicePair:
    """HR and its LR, degraded with these parameters."""
    degradation = degradation or Degradation()
    hr = torch.from_numpy(hu_range.to_unit(hr_hu))[None, None]
    lr = degrade(hr, [params], [noise_seed], scale=degradation.scale, antialias=degradation.antialias)
    return SlicePair(lr, hr, hr_hu, Draw(params, noise_seed))
