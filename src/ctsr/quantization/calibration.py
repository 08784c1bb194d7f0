"""Post-training quantization: modules that compute in fp32 what 8-bit integers will, and calibration of them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ctsr.checkpoint import Model
from ctsr.errors import DomainError, MissingInputError, ReadError, SeriesError
from ctsr.exams import read_slice, scan
from ctsr.files import file_state
from ctsr.hashing import digest
from ctsr.hu import AS_READ, HUCorrection
from ctsr.infer.engine import kept, weights_hash
from ctsr.models import TRUNKS, Architecture, StateDict, build
from ctsr.quantization.acceptance import kind_of_input, model_pairs
from ctsr.reporting import SILENT, Progress
from ctsr.series import Series, check
from ctsr.volume import VoxelsHU

VERSION = 3
"""Version of the procedure; part of the cache key of calibrated networks."""
OUTLIERS = 2e-5
"""Fraction of values clipped at each end of a range: covering them would coarsen the steps of all others."""
MAX_SERIES = 12
MAX_REASONS = 3
"""Series that a message names, where none can be used."""
POSITIONS = (0.3, 0.7)
"""Positions of the calibration slices, as fractions of a series' length."""

NUM_LEVELS = 256
"""Levels of an input."""
MAX_WEIGHT_STEP = 63
"""Largest magnitude of a quantized weight, in steps."""
MIN_RANGE = 1e-6
"""Smallest range of inputs and weights, so that scales are positive even where all values are 0."""


class Calibration(Protocol):
    """A source of calibration images, which are made only if no calibrated network is cached; picklable."""

    def key(self, model: Model, /) -> str:
        """Identifies the images for a model."""
        ...

    @property
    def identities(self) -> frozenset[str]:
        """Whom the images are of, see `ctsr.hashing`; the network is not checked on them."""
        ...

    def images(self, model: Model, /) -> Sequence[npt.NDArray[np.float32]]:
        """Inputs of a model's network, each ``(1, channels, h, w)``, as `ctsr.quantization.acceptance.Pair.lr`."""
        ...


@dataclass(frozen=True)
class ExamSlices:
    """Inputs made of slices of real exams."""

    series: tuple[Series, ...]

    @classmethod
    def below(
        cls,
        root: Path,
        *,
        assume_hu: bool = False,
        correction: HUCorrection = AS_READ,
        progress: Progress = SILENT,
    ) -> "ExamSlices":
        """Use the first series below a folder that could be trained on.

        Args:
            root: of exams.
            assume_hu: take stored values for HU where a series has no rescale.
            correction: applied to the values of every series.
            progress: told of series that are left out, or unusual.

        Raises:
            MissingInputError: there is no usable series.
        """
        found: list[Series] = []
        refused: list[str] = []
        for series in scan(root.absolute(), correction=correction, progress=progress).all_series():
            try:
                for warning in check(series, "train", assume_hu=assume_hu):
                    progress.note(f"warning: {warning}")
                found.append(series)
            except SeriesError as error:
                refused.append(str(error))
                progress.note(f"left out of the calibration: {error}")
            if len(found) == MAX_SERIES:
                break
        if not found:
            reasons = f": {'; '.join(refused[:MAX_REASONS])}" if refused else ""
            raise MissingInputError(f"{root}: no usable CT series for INT8 calibration{reasons}")
        return cls(tuple(found))

    def key(self, model: Model) -> str:
        """See `Calibration`."""
        states = list[str]()
        for series, index in self._used:
            header = series.slices[index]
            rescale = f"{header.rescale_slope} {header.rescale_intercept}"
            states.append(f"{series.series_uid} {index} {file_state(header.path)} {rescale}")
        return digest(kind_of_input(model), *states).hex()

    @property
    def identities(self) -> frozenset[str]:
        """See `Calibration`."""
        return frozenset(chain.from_iterable(series.identities for series in self.series))

    def images(self, model: Model) -> Sequence[npt.NDArray[np.float32]]:
        """See `Calibration`. A slice that cannot be read is left out.

        Raises:
            MissingInputError: none can be read.
        """
        images = [pair.lr.numpy() for pair in model_pairs(model, self._slices(), self._middles())]
        if not images:
            raise MissingInputError("no slice for INT8 calibration can be read; calibrate on other exams")
        return images

    @property
    def _used(self) -> Iterator[tuple[Series, int]]:
        """The slices that the images are made of."""
        for series in self.series:
            yield from ((series, index) for index in sorted({*_degraded(series), len(series.slices) // 2}))

    def _slices(self) -> Iterator[VoxelsHU]:
        for series in self.series:
            for index in _degraded(series):
                with suppress(ReadError):
                    yield read_slice(series, index, assume_hu=True).hu

    def _middles(self) -> Iterator[tuple[VoxelsHU, tuple[float, float]]]:
        for series in self.series:
            with suppress(ReadError):
                yield read_slice(series, len(series.slices) // 2, assume_hu=True).hu, series.pixel_spacing


def _degraded(series: Series) -> list[int]:
    """Slices of which degraded images are made."""
    return sorted({round(position * (len(series.slices) - 1)) for position in POSITIONS})


def convert_calibrated(
    net: nn.Module,
    key: str,
    images: Callable[[], Sequence[npt.NDArray[np.float32]]],
    cache: Path | None = None,
) -> Path:
    """The calibrated INT8 network as OpenVINO's `model.xml`, from the cache if possible.

    Args:
        net: maps ``(N, channels, h, w)`` to ``(N, 1, s·h, s·w)``; on the CPU.
        key: identifies the images.
        images: makes the inputs on which the ranges are set; asked only if no network is cached.
        cache: folder of converted networks; the user's if None.

    Raises:
        DomainError: the network has no known trunk.
    """
    cached = ("int8", VERSION, weights_hash(net), type(net).__name__, key)
    return kept(cached, lambda: calibrated(net, [torch.from_numpy(image) for image in images()]), cache)


def calibrated(net: nn.Module, images: Sequence[Tensor]) -> nn.Module:
    """A quantized copy of a network, with ranges and bias set on images.

    Args:
        net: on the CPU.
        images: ``(N, 1, h, w)`` in [-1, 1].

    Raises:
        DomainError: the network has no known trunk.
    """
    quantized = fake_quantized(net)
    calibrate_ranges(quantized, images)
    correct_bias(quantized, net, images)
    return quantized


@torch.no_grad()
def calibrate_ranges(net: nn.Module, images: Sequence[Tensor], outliers: float = OUTLIERS) -> None:
    """Set the range of every input quantizer to the values it meets on images, without outliers.

    Args:
        net: quantized; its ranges are replaced.
        images: ``(N, 1, h, w)`` in [-1, 1].
        outliers: fraction of the values of a batch that may be clipped, at each end.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
            low, high = ranges.get(name, (0.0, 0.0))
            values = inputs[0].flatten()
            rank = 1 + round(outliers * len(values))
            batch_low = float(values.topk(rank, largest=False).values[-1])
            batch_high = float(values.topk(rank).values[-1])
            ranges[name] = min(low, batch_low), max(high, batch_high)
            return inputs[0]  # not quantized, so that ranges do not depend on those of earlier layers

        return hook

    hooks = [quantizer.register_forward_hook(observe(name)) for name, quantizer in input_quantizers(net)]
    for image in images:
        net(image)
    for hook in hooks:
        hook.remove()
    for name, quantizer in input_quantizers(net):
        quantizer.set_range(*ranges[name])


def correct_bias(net: nn.Module, reference: nn.Module, images: Sequence[Tensor]) -> None:
    """Shift the bias of a quantized network's last convolution, which is fp32, until its mean is the reference's."""
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    assert last.bias is not None, "every convolution of these networks has a bias"
    # Change of the output's mean with the bias: 1 unless the network rescales its output.
    gain = torch.autograd.grad(net(images[0][:1]).mean(), last.bias)[0].sum()
    with torch.no_grad():
        differences = [(reference(image) - net(image)).mean(dtype=torch.float64) for image in images]
        last.bias += float(torch.stack(differences).mean() / gain)


class FakeQuantize(nn.Module):
    """Round to the nearest of `NUM_LEVELS` levels; the gradient is 1 within the range and 0 outside."""

    scale: Tensor
    """Step between levels; a scalar."""
    zero_point: Tensor
    """Index of the level that is 0; an int32 scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))

    def set_range(self, low: float, high: float) -> None:
        """Spread the levels over ``[low, high]``, extended to contain 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        self.scale.fill_(max(high - low, MIN_RANGE) / (NUM_LEVELS - 1))
        self.zero_point.fill_(round(-low / float(self.scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, NUM_LEVELS - 1)


class QuantizedConv2d(nn.Conv2d):
    """A 3×3 convolution with quantized weights and input; bias and output stay in fp32.

    The scale of each output channel's weights is set from the initial weights and fixed during training.
    """

    weight_scale: Tensor
    """``(channels_out,)``."""
    weight_zero_point: Tensor
    """``(channels_out,)``, all 0."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, kernel_size=3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.input_quantizer = FakeQuantize()
        largest = conv.weight.detach().abs().amax((1, 2, 3))
        self.register_buffer("weight_scale", largest.clamp_min(MIN_RANGE) / MAX_WEIGHT_STEP)
        zeros = torch.zeros(conv.out_channels, dtype=torch.int32)
        self.register_buffer("weight_zero_point", zeros, persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (named as in nn.Conv2d)
        """``(N, channels_in, H, W)`` → ``(N, channels_out, H, W)``."""
        # The full 8-bit range, by which engines recognise quantized weights; `clamp_weights` keeps them to 7 bits.
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, self.weight_zero_point, 0, -128, 127
        )
        return self._conv_forward(self.input_quantizer(input), weight, self.bias)

    @torch.no_grad()
    def clamp_weights(self) -> None:
        """Clip weights to the quantized range, which a training step may have left."""
        limit = MAX_WEIGHT_STEP * self.weight_scale[:, None, None, None]
        self.weight.clamp_(-limit, limit)


def fake_quantized(net: nn.Module) -> nn.Module:
    """A copy of a network with a quantized trunk, in evaluation mode; input ranges are still to be calibrated.

    Raises:
        DomainError: the network has no known trunk.
    """
    net = copy.deepcopy(net)
    trunk_convs: list[tuple[str, nn.Conv2d]] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith(TRUNKS):
            trunk_convs.append((name, module))
    if not trunk_convs:
        raise DomainError("the network has no trunk that can be quantized")
    for name, conv in trunk_convs:
        parent, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(parent), attribute, QuantizedConv2d(conv))
    return net.eval()


def build_quantized(architecture: Architecture, state: StateDict) -> nn.Module:
    """Build the quantized network of an architecture and load weights and scales; the global RNG is not advanced.

    Raises:
        DomainError: `state` does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        net = fake_quantized(build(architecture))
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise DomainError(f"the weights are not those of a quantized {architecture}") from error
    return net


def input_quantizers(net: nn.Module) -> Iterator[tuple[str, FakeQuantize]]:
    """Quantizers of a network by name, in the order of its modules."""
    for name, module in net.named_modules():
        if isinstance(module, FakeQuantize):
            yield name, module
