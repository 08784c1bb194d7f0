"""Acceptance of an engine in INT8 or bf16: compared with fp32 on simulated and on real inputs."""

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.checkpoint import Model
from ctsr.degrade import Degradation, DegradationSampler, degrade
from ctsr.errors import DomainError, ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.hu import HURange, tissue_masks
from ctsr.infer import EngineCheck, EngineRequest
from ctsr.infer.conditions import STRENGTHS, network_input
from ctsr.infer.engine import Engine, super_resolve
from ctsr.models.conditioning import FOLD, ThroughPlaneConditions, through_plane_input, with_conditions
from ctsr.quality.noise import measure_noise
from ctsr.series import Series
from ctsr.through_plane import SliceProfile, thicken, to_nearest
from ctsr.volume import VoxelsHU

MAX_LOSS_DB = 0.05
"""Largest accepted loss of PSNR relative to fp32, over the model's whole HU range."""
MAX_BIAS_HU = 0.5
"""Largest accepted shift of the mean relative to fp32, over all pixels and inside each tissue."""
MAX_APART_HU = 100.0
"""Largest accepted difference of any pixel from fp32: an activation beyond its calibrated range can be off by more."""
FEWEST_PIXELS = 1000
"""Fewest pixels of a tissue, over all slices, for its mean to be compared."""
NATIVE_SIDE = 256
"""Pixels along each side of what is taken of a slice as it is, from its middle."""
CHECK_POSITIONS = (0.2, 0.5, 0.8)
"""Positions of the slices that an engine is checked on, as fractions of a series' length."""

BETWEEN = ((5.0, 5.0), (5.0, 3.0), (3.0, 3.0))
"""Thickness and distance of the slices that inputs of a model between slices are made from, in wanted slices."""
FEWEST_ROWS = 16
"""Of an axial slice that is made thick: three slices of 5 rows must find room."""
PATIENTS = 6
"""They cover every scanner of the set, and an implant."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An input of the network, and the slice that it was made from."""

    lr: Tensor
    """``(1, 1, h, w)`` in [-1, 1]; ``(1, 3, h, w)`` for a conditional network, ``(1, 5, z, w)`` between slices."""
    hr: Tensor | None
    """``(1, 1, s·h, s·w)`` in [-1, 1]; None for a slice as it is."""


@dataclass(frozen=True)
class Acceptance:
    """Result of comparing an engine with fp32."""

    loss_db: float
    """Loss of PSNR, averaged over degraded slices; negative if PSNR is higher than that of fp32."""
    bias_hu: float
    """Mean difference over all pixels."""
    num_slices: int
    tissue_bias_hu: Mapping[str, float] = field(default_factory=dict[str, float])
    """Tissue → mean difference inside of it."""
    most_apart_hu: float = 0.0
    """Largest difference of any pixel."""

    @property
    def largest_bias_hu(self) -> float:
        """The bias farthest from 0, of all pixels and of each tissue."""
        return max(self.bias_hu, *self.tissue_bias_hu.values(), key=abs) if self.tissue_bias_hu else self.bias_hu

    @property
    def passes(self) -> bool:
        """Whether all are within their limits."""
        quiet = abs(self.largest_bias_hu) < MAX_BIAS_HU and self.most_apart_hu <= MAX_APART_HU
        return self.loss_db <= MAX_LOSS_DB and quiet

    @property
    def text(self) -> str:
        """One line for messages."""
        by_tissue = ", ".join(f"{name} {bias:+.2f}" for name, bias in self.tissue_bias_hu.items())
        tissues = f"; {by_tissue}" if by_tissue else ""
        return (
            f"loses {self.loss_db:.3f} dB to fp32 (at most {MAX_LOSS_DB:g}) and shifts the mean by "
            f"{self.bias_hu:+.2f} HU{tissues} (less than {MAX_BIAS_HU:g} each), any pixel by at most "
            f"{self.most_apart_hu:.0f} HU ({MAX_APART_HU:g}), on {self.num_slices} slices"
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
        told = network_input(lr, [draw.params], scale=degradation.scale, conditional=conditional)
        pairs.append(Pair(told, hr))
    return pairs


def native_pairs(
    hu: VoxelsHU, pixel_spacing: tuple[float, float], scale: int, hu_range: HURange, *, conditional: bool = False
) -> list[Pair]:
    """Inputs that the network gets of a slice as it is: one, or for a conditional one what each named strength tells.

    Args:
        hu: (rows, columns), HU.
        pixel_spacing: mm between rows, between columns.
        scale: of the network.
        hu_range: HU that it sees as [-1, 1].
        conditional: whether the network takes conditions.
    """
    unit = torch.from_numpy(hu_range.to_unit(_middle(hu)).astype(np.float32))[None, None]
    if not conditional:
        return [Pair(unit, None)]
    noise_hu = measure_noise([hu], pixel_spacing).sigma_hu or 0.0
    told = [strength.conditions(noise_hu, scale, hu_range) for strength in STRENGTHS.values()]
    return [Pair(with_conditions(unit, [conditions]), None) for conditions in told]


def _middle(hu: VoxelsHU) -> VoxelsHU:
    rows, columns = hu.shape
    top, left = max(0, rows - NATIVE_SIDE) // 2, max(0, columns - NATIVE_SIDE) // 2
    return hu[top : top + NATIVE_SIDE, left : left + NATIVE_SIDE]


def between_pairs(slices: Iterable[VoxelsHU], hu_range: HURange) -> list[Pair]:
    """Inputs of a network between slices, made of axial slices ``(rows, columns)`` in HU, which it also learns from.

    The middle of each is made thick along its rows, as far apart as `BETWEEN` says, and interpolated; no noise is told.
    """
    pairs: list[Pair] = []
    for hu in slices:
        unit = hu_range.to_unit(_middle(hu)).astype(np.float32)
        unit = unit[:, : unit.shape[1] // FOLD * FOLD]
        if len(unit) < FEWEST_ROWS or not unit.shape[1]:
            continue
        for thickness, distance in BETWEEN:
            made = thicken(unit[:, None], 1.0, SliceProfile(thickness), distance)
            grid, num_rows = made.grid, made.grid.num_wanted // FOLD * FOLD
            wanted = grid.wanted_positions(0, num_rows)
            plane = torch.from_numpy(made.interpolated("cubic")[None, :num_rows, 0])
            nearest = to_nearest(grid.source_positions(0, grid.count), wanted).astype(np.float32)
            told = ThroughPlaneConditions(thickness, distance, 0.0)
            lr = through_plane_input(plane[None], [told], torch.from_numpy(nearest)[None])
            pairs.append(Pair(lr, torch.from_numpy(made.truth[None, None, :num_rows, 0])))
    return pairs


def model_pairs(
    model: Model, degraded: Iterable[VoxelsHU], native: Iterable[tuple[VoxelsHU, tuple[float, float]]]
) -> list[Pair]:
    """Inputs such as a model gets, by its kind.

    Args:
        model: in plane, or between slices.
        degraded: slices, (rows, columns) in HU, to simulate inputs from.
        native: slices as they are, with their mm between rows and between columns; left out between slices, where one
            slice is no input.
    """
    if model.architecture.is_through_plane:
        return between_pairs(degraded, model.hu_range)
    conditional = model.architecture.conditional
    pairs = degraded_pairs(degraded, model.trained_for, model.hu_range, conditional=conditional)
    for hu, spacing in native:
        pairs += native_pairs(hu, spacing, model.scale, model.hu_range, conditional=conditional)
    return pairs


def series_pairs(model: Model, series: Iterable[Series], *, assume_hu: bool = False) -> list[Pair]:
    """Inputs made of a few slices of the first series that serves; none where none does, as where all are too small."""
    for candidate in series:
        last = len(candidate.slices) - 1
        indices = sorted({round(position * last) for position in CHECK_POSITIONS})
        with suppress(ReadError):  # reported when this series is processed; the next one serves as well
            slices = [read_slice(candidate, index, assume_hu=assume_hu).hu for index in indices]
            if pairs := model_pairs(model, slices, [(hu, candidate.pixel_spacing) for hu in slices]):
                return pairs
    return []


def check_on_series(
    model: Model, asked: EngineRequest, series: Iterable[Series], *, assume_hu: bool = False
) -> EngineCheck | None:
    """What compares the engine that is asked for with fp32, on the first of these series that can be read.

    Returns:
        None where the precision needs no check. The check raises UsageError if no series can be read.
    """
    if asked.precision == "int8" and asked.int8 is not None:
        return asked.int8.check_on_series(model, series, assume_hu=assume_hu)
    return _check_of_bf16(model, series, assume_hu) if asked.precision == "bf16" else None


def _check_of_bf16(model: Model, series: Iterable[Series], assume_hu: bool) -> EngineCheck:
    def check(engine: Engine, fp32: Engine) -> Acceptance:
        pairs = series_pairs(model, series, assume_hu=assume_hu)
        if not pairs:
            raise UsageError("no series here can be read and is large enough to check the precision on; choose fp32")
        return compare_engines(engine, fp32, pairs, model.hu_range)

    return check


def compare_engines(engine: Engine, reference: Engine, pairs: Sequence[Pair], hu_range: HURange) -> Acceptance:
    """Super-resolve the same slices with two engines and compare the results with each other, and with HR if known.

    Raises:
        DomainError: `pairs` is empty.
    """
    if not pairs:
        raise DomainError("no slice to compare the engines on")
    losses, biases = list[float](), list[float]()
    tissues: dict[str, list[npt.NDArray[np.float64]]] = {}
    most_apart = 0.0
    for pair in pairs:
        sr = super_resolve(engine, pair.lr).double()
        sr_reference = super_resolve(reference, pair.lr).double()
        apart_hu = (sr - sr_reference)[0, 0].cpu().numpy() * hu_range.hu_per_unit
        biases.append(float(apart_hu.mean()))
        most_apart = max(most_apart, float(np.abs(apart_hu).max()))
        for name, mask in tissue_masks(hu_range.to_hu(sr_reference[0, 0].cpu().numpy())).items():
            tissues.setdefault(name, []).append(apart_hu[mask])
        if pair.hr is not None:
            mse = float((sr - pair.hr).square().mean())
            mse_reference = float((sr_reference - pair.hr).square().mean())
            losses.append(10 * math.log10(max(mse, 1e-12) / max(mse_reference, 1e-12)))
    pooled = {name: np.concatenate(found) for name, found in tissues.items()}
    return Acceptance(
        loss_db=sum(losses) / len(losses) if losses else 0.0,
        bias_hu=sum(biases) / len(biases),
        num_slices=len(pairs),
        tissue_bias_hu={name: float(found.mean()) for name, found in pooled.items() if len(found) >= FEWEST_PIXELS},
        most_apart_hu=most_apart,
    )


@dataclass(frozen=True)
class SyntheticSlices:
    """Inputs made of the synthetic exam set; the same on every machine."""

    def key(self, model: Model) -> str:
        """See `ctsr.quantization.calibration.Calibration`."""
        return f"synthetic {PATIENTS} {kind_of_input(model)}"

    @property
    def identities(self) -> frozenset[str]:
        """Empty: nobody real."""
        return frozenset()

    def images(self, model: Model) -> Sequence[npt.NDArray[np.float32]]:
        """See `ctsr.quantization.calibration.Calibration`."""
        # The synthetic anatomy is needed here only.
        from ctsr.phantom import make_exams

        with tempfile.TemporaryDirectory(prefix="ctsr-calibration-") as folder:
            make_exams(Path(folder), patients=PATIENTS, slices=1, workers=1)
            found = [(read_slice(series, 0).hu, series.pixel_spacing) for series in scan(Path(folder)).all_series()]
        slices = [hu for hu, _ in found]
        return [pair.lr.numpy() for pair in model_pairs(model, slices, found)]


def kind_of_input(model: Model) -> str:
    """What `model_pairs` makes of the same slices depends on this and no more."""
    if model.architecture.is_through_plane:
        return f"between slices {BETWEEN} {model.hu_range!r}"
    return f"{model.trained_for!r} {model.hu_range!r} {model.architecture.conditional}"
