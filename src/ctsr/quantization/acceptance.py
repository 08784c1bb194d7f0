"""Acceptance of an INT8 engine: its error on slices with a known reference, real or synthetic, beside that of fp32."""

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.checkpoint import Model
from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.errors import DomainError
from ctsr.exams import read_slice, scan
from ctsr.hu import HURange
from ctsr.infer.conditions import network_input
from ctsr.infer.engine import Engine, super_resolve
from ctsr.volume import VoxelsHU

MAX_LOSS_DB = 0.05
"""Largest accepted loss of PSNR relative to fp32, over the model's whole HU range."""
MAX_BIAS_HU = 0.5
"""Largest accepted shift of the mean relative to fp32."""

PATIENTS = 6
"""They cover every scanner of the set, and an implant."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A slice and its degraded version."""

    lr: Tensor
    """``(1, 1, h, w)`` in [-1, 1]."""
    hr: Tensor
    """``(1, 1, s·h, s·w)`` in [-1, 1]."""


@dataclass(frozen=True)
class Acceptance:
    """Result of comparing an engine with fp32."""

    loss_db: float
    """Loss of PSNR, averaged over slices; negative if PSNR is higher than that of fp32."""
    bias_hu: float
    """Mean difference over all pixels."""
    num_slices: int

    @property
    def passes(self) -> bool:
        """Whether both are within their limits."""
        return self.loss_db <= MAX_LOSS_DB and abs(self.bias_hu) < MAX_BIAS_HU

    @property
    def text(self) -> str:
        """One line for messages."""
        return (
            f"loses {self.loss_db:.3f} dB to fp32 (at most {MAX_LOSS_DB:g}) and shifts the mean by "
            f"{self.bias_hu:+.2f} HU (less than {MAX_BIAS_HU:g}) on {self.num_slices} slices"
        )


def degraded_pairs(
    slices: Iterable[VoxelsHU],
    degradation: Degradation,
    hu_range: HURange,
    *,
    conditional: bool = False,
) -> list[Pair]:
    """Degrade slices, each ``(rows, columns)`` in HU, with fixed seeds; `conditional` adds what the network is told."""
    sampler = DegradationSampler(degradation)
    pairs: list[Pair] = []
    for i, hu in enumerate(slices):
        rows, columns = hu.shape[0] // degradation.scale, hu.shape[1] // degradation.scale
        cropped = hu[: rows * degradation.scale, : columns * degradation.scale]
        hr = torch.from_numpy(hu_range.to_unit(cropped))[None, None]
        draw = sampler.draw("trial", str(i), str(i), i)
        lr = degrade(hr, [draw.params], [draw.noise_seed], scale=degradation.scale, antialias=degradation.antialias)
        pairs.append(Pair(network_input(lr, [draw.params], conditional=conditional), hr))
    return pairs


def compare_engines(engine: Engine, reference: Engine, pairs: Sequence[Pair], hu_range: HURange) -> Acceptance:
    """Super-resolve the same slices with two engines and compare the results with HR and with each other.

    Raises:
        DomainError: `pairs` is empty.
    """
    if not pairs:
        raise DomainError("no slice to compare the engines on")
    losses: list[float] = []
    biases: list[float] = []
    for pair in pairs:
        sr = super_resolve(engine, pair.lr).double()
        sr_reference = super_resolve(reference, pair.lr).double()
        mse = float((sr - pair.hr).square().mean())
        mse_reference = float((sr_reference - pair.hr).square().mean())
        losses.append(10 * math.log10(max(mse, 1e-12) / max(mse_reference, 1e-12)))
        biases.append(float((sr - sr_reference).mean()) * hu_range.hu_per_unit)
    return Acceptance(sum(losses) / len(losses), sum(biases) / len(biases), len(pairs))


@dataclass(frozen=True)
class SyntheticSlices:
    """LR images of the synthetic exam set, degraded as the model's training data; the same on every machine."""

    degradation: Degradation
    hu_range: HURange
    """The model's."""
    conditional: bool = False
    """Whether the model takes conditions."""

    @classmethod
    def of(cls, model: Model) -> "SyntheticSlices":
        """Images such as a model was trained on."""
        return cls(model.trained_for, model.hu_range, model.architecture.conditional)

    @property
    def key(self) -> str:
        """See `ctsr.quantization.calibration.Calibration`."""
        return f"synthetic {PATIENTS} {self.degradation!r} {self.hu_range!r}"

    @property
    def series_uids(self) -> frozenset[str]:
        """Empty: no real series is used."""
        return frozenset()

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """``(1, 1, h, w)`` in [-1, 1], one per series."""
        # The anatomy is ten modules, which nobody needs who only compares engines.
        from ctsr.phantom.exams import make_exams

        with tempfile.TemporaryDirectory(prefix="ctsr-calibration-") as folder:
            make_exams(Path(folder), patients=PATIENTS, slices=1, workers=1)
            slices = [read_slice(series, 0).hu for series in scan(Path(folder)).all_series()]
        pairs = degraded_pairs(slices, self.degradation, self.hu_range, conditional=self.conditional)
        return [pair.lr.numpy() for pair in pairs]
