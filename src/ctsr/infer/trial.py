"""Whether a faster engine may stand in for fp32: both enlarge slices whose finer truth is known, and are compared."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.errors import DomainError
from ctsr.hu import HURange
from ctsr.infer.engine import Engine
from ctsr.infer.slices import super_resolve
from ctsr.volume import VoxelsHU

__all__ = ["MOST_BIAS_HU", "MOST_LOSS_DB", "Pair", "Verdict", "compare", "pairs_of"]

MOST_LOSS_DB = 0.05
"""PSNR to the truth, on the model's whole range, that may be lost."""
MOST_BIAS_HU = 0.5
"""HU by which the mean may differ from that of fp32."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A slice and its degraded twin."""

    lr: Tensor
    """``(1, 1, h, w)`` in [-1, 1]."""
    hr: Tensor
    """``(1, 1, s·h, s·w)`` in [-1, 1]."""


@dataclass(frozen=True)
class Verdict:
    """How a faster engine compares with fp32."""

    loss_db: float
    """Mean over the slices of the PSNR that is lost; negative where it is gained."""
    bias_hu: float
    """Mean over all pixels of the difference."""
    num_slices: int

    @property
    def passes(self) -> bool:
        """Whether it may stand in."""
        return self.loss_db <= MOST_LOSS_DB and abs(self.bias_hu) < MOST_BIAS_HU

    @property
    def text(self) -> str:
        """For people."""
        return (
            f"loses {self.loss_db:.3f} dB to fp32 (at most {MOST_LOSS_DB:g}) and shifts the mean by "
            f"{self.bias_hu:+.2f} HU (less than {MOST_BIAS_HU:g}) on {self.num_slices} slices"
        )


def pairs_of(slices: Iterable[VoxelsHU], degradation: Degradation, hu_range: HURange) -> list[Pair]:
    """Slices in HU, and what the degradation that a model was trained on makes of them; the same on every run."""
    sampler = DegradationSampler(degradation)
    pairs: list[Pair] = []
    for i, hu in enumerate(slices):
        rows, columns = (size - size % degradation.scale for size in hu.shape)
        hr = torch.from_numpy(hu_range.to_unit(hu[:rows, :columns]))[None, None]
        draw = sampler.draw("trial", str(i), str(i), i)
        lr = degrade(hr, [draw.params], [draw.noise_seed], scale=degradation.scale, antialias=degradation.antialias)
        pairs.append(Pair(lr, hr))
    return pairs


def compare(engine: Engine, reference: Engine, pairs: Sequence[Pair], hu_range: HURange) -> Verdict:
    """Let both enlarge the same slices.

    Raises:
        DomainError: there is no slice to compare on.
    """
    if not pairs:
        raise DomainError("there is no slice to compare the engines on")
    losses: list[float] = []
    shifts: list[float] = []
    for pair in pairs:
        fast, exact = (super_resolve(one, pair.lr).double() for one in (engine, reference))
        errors = [float((image - pair.hr).square().mean()) for image in (fast, exact)]
        losses.append(10 * math.log10(max(errors[0], 1e-12) / max(errors[1], 1e-12)))
        shifts.append(float((fast - exact).mean()) * hu_range.hu_per_unit)
    return Verdict(sum(losses) / len(losses), sum(shifts) / len(shifts), len(pairs))
