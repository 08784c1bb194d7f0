"""Super-resolution of slices in HU: the one way from an LR slice to an SR slice, and the engine that is chosen for it.

What the network does not decide is decided here: values beyond its range, padding, borders, the air around the body.
Evaluation, viewer and `upscale` all call it, so that what is measured is what is delivered.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from ctsr.checkpoint import Model, load_model
from ctsr.degrade import DegradationParams
from ctsr.errors import DomainError, UsageError
from ctsr.hu import AIR, BLOCK, FloatArray, HURange, tissue_blocks
from ctsr.infer.conditions import drawn_conditions
from ctsr.infer.engine import (
    GET_IT,
    Clocked,
    Engine,
    EngineName,
    OpenvinoEngine,
    Precision,
    TorchEngine,
    computes_bf16,
    converted,
    is_installed,
    super_resolve,
)
from ctsr.models.conditioning import ANCHOR, Conditions, is_conditional, with_conditions
from ctsr.models.interpolation import Interpolation, enlarge, interpolate
from ctsr.padding import SlicePixels
from ctsr.reporting import SILENT, Progress
from ctsr.series import Series
from ctsr.volume import PaddingMask, VoxelsHU, block_means


class CheckResult(Protocol):
    """Result of comparing an INT8 engine with fp32."""

    @property
    def passes(self) -> bool:
        """Whether the INT8 engine may be used."""
        ...

    @property
    def text(self) -> str:
        """One line for messages."""
        ...


EngineCheck: TypeAlias = Callable[[Engine, Engine], CheckResult]
"""Compares an INT8 engine, the first argument, with the fp32 engine of the same model."""


class Int8Support(Protocol):
    """Opens and checks the INT8 network of a model; picklable.

    Implemented by `ctsr.quantization.quantized_model.Int8Network`, which is above this package.
    """

    def source(self, model: Model) -> str:
        """Where the network comes from, for messages."""
        ...

    def open(self, model: Model, *, threads: int | None = None, cache: Path | None = None) -> Engine:
        """The INT8 engine."""
        ...

    def check_on_series(self, model: Model, series: Iterable[Series], *, assume_hu: bool = False) -> EngineCheck:
        """A check of the INT8 engine on slices of series that were not used to make it."""
        ...


@dataclass(frozen=True)
class EngineConfig:
    """All that another process needs to run the same network the same way."""

    model_path: Path
    engine: Literal["torch", "openvino"]
    precision: Precision
    device: str
    threads: int | None = None
    """CPU threads; the library's choice when None."""
    cache: Path | None = None
    """Folder of converted networks; the user's when None."""
    int8: Int8Support | None = None
    """Opens the network if the precision is int8."""


@dataclass(frozen=True)
class EngineRequest:
    """What a user wants a network to be run by."""

    engine: EngineName = "auto"
    """`auto` takes OpenVINO on a CPU where it is installed, else PyTorch."""
    precision: Precision = "fp32"
    """`int8` and `bf16` give way to fp32 where the check of them does not pass."""
    device: str = "cpu"
    """What PyTorch would compute on; OpenVINO uses the CPU."""
    int8: Int8Support | None = None
    """Needed for int8."""
    threads: int | None = None
    """CPU threads; the library's choice when None."""
    cache: Path | None = None
    """Folder of converted networks; the user's when None."""


def choose_engine(
    model: Model, asked: EngineRequest, check: EngineCheck | None, progress: Progress = SILENT
) -> EngineConfig:
    """What runs a network from now on; a choice that is not the one asked for is said.

    Args:
        model: the network.
        asked: what the user wants.
        check: compares int8 or bf16 with fp32; needed for both.
        progress: receives a note on what was chosen and why.

    Raises:
        UsageError: the engine is not installed, or does not have the precision; or there is no INT8 network.
    """
    chosen = _available(asked, progress)
    spec = EngineConfig(
        model.path.absolute(), chosen, asked.precision, asked.device, asked.threads, asked.cache, asked.int8
    )
    name, fp32 = spec.precision, replace(spec, precision="fp32")
    if name != "int8" and name != "bf16":
        return spec
    if chosen == "torch":
        remedy = f"which computes on the CPU, not on {asked.device}: choose `engine=openvino` or `device=cpu`"
        progress.note(f"{name} needs OpenVINO, {remedy if is_installed() else GET_IT}: computing in fp32")
        return fp32
    if name == "bf16" and not computes_bf16():
        progress.note("bf16: this processor has no instructions for it: computing in fp32")
        return fp32
    if name == "int8" and asked.int8 is None:
        raise UsageError("no INT8 network is available for this model; choose fp32")
    if check is None:
        raise UsageError(f"`precision` {name} cannot be checked for this model; choose fp32")
    if asked.int8 is not None and name == "int8":
        progress.note(f"int8: {asked.int8.source(model)}")
    result = check(open_engine(spec, model), open_engine(fp32, model))
    progress.note(f"{name} {result.text}: {'in use' if result.passes else 'too much, computing in fp32'}")
    return spec if result.passes else fp32


def open_engine(spec: EngineConfig, model: Model | None = None) -> Engine:
    """The engine that `spec` names; `model` saves loading its model again."""
    model = model or load_model(spec.model_path)
    net = model.net
    if spec.engine == "torch":
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        return TorchEngine(net.to(spec.device), spec.precision)
    if spec.precision == "int8":
        assert spec.int8 is not None, "choose_engine gives int8 only with an INT8 network"
        return spec.int8.open(model, threads=spec.threads, cache=spec.cache)
    return OpenvinoEngine(converted(net.cpu(), spec.cache), spec.precision, threads=spec.threads)


def _available(asked: EngineRequest, progress: Progress) -> Literal["torch", "openvino"]:
    engine, precision, device = asked.engine, asked.precision, asked.device
    if engine == "auto":
        if device != "cpu" or precision == "fp16":
            return "torch"
        if is_installed():
            return "openvino"
        progress.note(f"engine: PyTorch; OpenVINO, which is faster on this CPU, is not installed ({GET_IT})")
        return "torch"
    if engine == "torch" and precision in ("int8", "bf16"):
        raise UsageError(f"`engine` torch has no `precision` {precision}; `engine` openvino has")
    if engine == "openvino":
        if not is_installed():
            raise UsageError(f"`engine` openvino: it is not installed; {GET_IT}, or choose `engine` torch")
        if precision == "fp16":
            raise UsageError("`precision` fp16 is PyTorch's, on a GPU; with `engine` openvino choose fp32 or int8")
        if device != "cpu":
            progress.note(f"engine: OpenVINO computes on the CPU, not on {device}")
    return engine


BORDER = 4
"""LR pixels by which a slice is continued beyond its border before a network sees it: convolutions would see zeros
there, which are 500 HU."""
PROJECTIONS = 6
"""Steps of `consistent`. Each halves, at least, what is left of the finest detail."""

SuperResolver: TypeAlias = Callable[[FloatArray], FloatArray]
"""(rows, columns) in HU → (scale·rows, scale·columns) in HU, on the same field of view."""

MARGIN = 16
"""LR pixels of air around the tissue that the network sees as well. What lies farther away changes its answer inside
the body by less than 1 HU: `tests/upscale/test_real_ct.py` measures it on real series."""
FADE = 8
"""LR pixels, the outermost of the margin, over which the network's answer gives way to interpolation."""
STEP = 32
"""Sides of regions are multiples of this many LR pixels: a series then has few different sizes, and engines
prepare for each size."""


@dataclass(frozen=True)
class Roi:
    """A part of a slice: rows and columns from the first to before the last, in LR pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def part(self) -> tuple[slice, slice]:
        """As an index into a slice."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, scale: int) -> "Roi":
        """The same part of the slice made `scale` times finer."""
        return Roi(self.top * scale, self.bottom * scale, self.left * scale, self.right * scale)

    def fade(self, shape: tuple[int, int], scale: int) -> npt.NDArray[np.float32]:
        """Weight of the network's answer over the region made finer: 1, falling linearly to 0 towards its sides.

        A side that is the border of the slice, `shape` LR pixels large, does not fall.
        """
        rows = _ramp(self.bottom - self.top, scale, self.top > 0, self.bottom < shape[0])
        columns = _ramp(self.right - self.left, scale, self.left > 0, self.right < shape[1])
        return rows[:, None] * columns[None, :]


@dataclass(frozen=True, eq=False)
class SliceSuperResolver:
    """Makes slices in HU `scale` times finer.

    Where every value lies in the network's range, the result is the network's answer. Values beyond it are clipped for
    the network, and what was clipped off is interpolated and added; where values above the range (implants) contribute,
    the answer gives way to interpolation. A network that was trained with L1 learns a median, which is off the mean
    where noise is skewed, so the low frequencies of the result are those of the source (see `ANCHOR`).

    Padding is not tissue: the values at its rim are continued into it before anything is computed, and it is padding
    again in the result.
    """

    engine: Engine
    scale: int
    hu_range: HURange
    conditional: bool = False
    """Whether the network takes `Conditions`."""
    skip_air: bool = True
    """Interpolate the air around the body instead of inferring it; see `ctsr.infer`."""
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
        anchor = ANCHOR if conditions is None else conditions.anchor
        lacking = ndimage.gaussian_filter(clipped[roi.part] - block_means(sharp, self.scale), anchor, mode="nearest")
        return sharp + self._interpolated(np.asarray(lacking, np.float32))

    def _project(self, hu: VoxelsHU, finer: VoxelsHU) -> None:
        """Bring the mean over each source pixel's area to that pixel's value, smoothly."""
        for _ in range(PROJECTIONS):
            finer += self._interpolated(hu - block_means(finer, self.scale))

    def _interpolated(self, image: npt.NDArray[np.float32]) -> VoxelsHU:
        return enlarge(torch.from_numpy(image)[None, None], self.scale, "bilinear")[0, 0].numpy()

    def _finer(self, mask: PaddingMask) -> PaddingMask:
        return mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def by_interpolation(kind: Interpolation, scale: int, hu_range: HURange) -> SuperResolver:
    """A baseline of evaluations, see `ctsr.models.interpolation.interpolate`."""

    def resolve(lr_hu: FloatArray) -> FloatArray:
        sr = interpolate(torch.from_numpy(hu_range.to_unit(lr_hu))[None, None], scale, kind)
        return hu_range.to_hu(sr[0, 0].numpy())

    return resolve


@dataclass(frozen=True)
class NetworkMethod:
    """A network as a function of slices; a conditional one must be told how LR was made first."""

    resolver: SliceSuperResolver
    conditions: Conditions | None = None
    fixed: Conditions | None = None
    """What it is told of every image, whatever that was made with."""
    measure: Callable[[VoxelsHU], Conditions] | None = None
    """What it is told of an image, measured in that image; comes before what it was made with."""

    def __call__(self, lr_hu: FloatArray) -> FloatArray:
        """(rows, columns) in HU → (scale·rows, scale·columns) in HU, within the network's range."""
        pixels = SlicePixels(np.asarray(lr_hu, np.float32), None)
        told = self.conditions
        if self.measure is not None and self.resolver.conditional:
            told = self.measure(pixels.hu)
        sr = self.resolver(pixels, told).hu
        return np.clip(sr, self.resolver.hu_range.low, self.resolver.hu_range.high)


def by_network(net: nn.Module | Engine, scale: int, hu_range: HURange, *, conditional: bool = False) -> NetworkMethod:
    """A network, or an engine that runs it, as `ctsr upscale` applies it to slices.

    Args:
        net: the network, or an engine that runs it.
        scale: how many times finer SR is than LR.
        hu_range: HU that the network sees as [-1, 1].
        conditional: whether an engine's network takes conditions; read off a network.
    """
    if isinstance(net, nn.Module):
        conditional, net = is_conditional(net), TorchEngine(net)
    return NetworkMethod(SliceSuperResolver(net, scale, hu_range, conditional=conditional))


def telling(method: SuperResolver, made_with: DegradationParams | Conditions) -> SuperResolver:
    """The method told how its LR images were made, or what to take them for; others are returned as they are."""
    if isinstance(method, NetworkMethod) and method.resolver.conditional:
        drawn = (
            drawn_conditions(made_with, method.resolver.scale)
            if isinstance(made_with, DegradationParams)
            else made_with
        )
        return replace(method, conditions=method.fixed or drawn)
    return method


def body_roi(hu: VoxelsHU) -> Roi | None:
    """The smallest region around everything other than air, with its margin; None where all is air.

    Args:
        hu: (rows, columns).
    """
    blocks = tissue_blocks(hu)
    if not blocks.any():
        return None
    rows, columns = np.nonzero(blocks)
    (top, bottom), (left, right) = _side(rows, hu.shape[0]), _side(columns, hu.shape[1])
    return Roi(top, bottom, left, right)


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


def _side(occupied: npt.NDArray[np.intp], size: int) -> tuple[int, int]:
    """From where to where the region reaches along an axis, whose blocks these are."""
    start = max(0, int(occupied.min()) * BLOCK - MARGIN)
    stop = min(size, (int(occupied.max()) + 1) * BLOCK + MARGIN)
    more = -(stop - start) % STEP
    start = max(0, start - more // 2)
    return start, min(size, stop + more - more // 2)


def _ramp(size: int, scale: int, falls_at_start: bool, falls_at_end: bool) -> npt.NDArray[np.float32]:
    steps = (np.arange(size * scale, dtype=np.float32) + 0.5) / (FADE * scale)
    weight = np.ones_like(steps)
    if falls_at_start:
        weight = np.minimum(weight, steps)
    if falls_at_end:
        weight = np.minimum(weight, steps[::-1])
    return weight.astype(np.float32, copy=False)


__all__ = [
    "Clocked",
    "Engine",
    "SuperResolver",
    "TorchEngine",
    "by_interpolation",
    "by_network",
    "super_resolve",
    "telling",
]
