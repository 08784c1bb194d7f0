"""Engines: what runs a network on whole slices or on tiles, in PyTorch or, where it is installed, OpenVINO."""

import copy
import hashlib
import importlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ctsr.documents import as_type, parse_json
from ctsr.errors import ReadError, UsageError
from ctsr.files import atomic_folder, write_json
from ctsr.hashing import digest
from ctsr.models import Architecture, receptive_radius
from ctsr.models.conditioning import input_channels
from ctsr.models.profile import profile
from ctsr.paths import cache_folder
from ctsr.reporting import SILENT, Progress

EngineName: TypeAlias = Literal["auto", "torch", "openvino"]
Precision: TypeAlias = Literal["fp32", "bf16", "int8", "fp16"]

WORKSPACE = 2.0
"""What a convolution library takes beside the activations, as a factor on them."""
PROBE_SIDE = 64
"""LR pixels: activations grow with the area, so one size tells of all."""
FAR_ENOUGH = 32
"""LR pixels: a margin beyond it gains little, even where a network could see farther."""
SMALLEST_CORE = 16
"""LR pixels: smaller tiles would be all margin."""


class Engine(Protocol):
    """A network ready to run."""

    @property
    def name(self) -> str:
        """For people, run.json and UIDs: `torch fp32`. Engines of one name give the same result to rounding."""
        ...

    def __call__(self, lr: Tensor) -> Tensor:
        """The network's answer to one slice.

        Args:
            lr: ``(1, 1, h, w)`` in [-1, 1], float32; ``(1, 3, h, w)`` for a conditional network, see
                `ctsr.models.conditioning`.

        Returns:
            ``(1, 1, s·h, s·w)``, float32, not clipped, on any device.
        """
        ...


class Clocked:
    """An engine that measures how long another one takes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    @property
    def name(self) -> str:
        """The other's."""
        return self._engine.name

    def __call__(self, lr: Tensor) -> Tensor:
        """See `Engine`."""
        started = time.perf_counter()
        answer = self._engine(lr).cpu()  # waits for a GPU
        self.seconds += time.perf_counter() - started
        return answer


class TorchEngine:
    """PyTorch where the network's weights are, in channels-last layout.

    Args:
        net: maps ``(N, 1, h, w)`` in [-1, 1] to ``(N, 1, s·h, s·w)``; used in evaluation mode and left in its own.
        precision: `fp32`, or `fp16` on a GPU.

    Raises:
        UsageError: another precision, or `fp16` on a CPU, where it is slower than fp32.
    """

    def __init__(self, net: nn.Module, precision: Precision = "fp32") -> None:
        self._device = next(net.parameters()).device
        if precision == "int8" or precision == "bf16":
            raise UsageError(f"{precision} is not available in PyTorch; use OpenVINO")
        if precision == "fp16" and self._device.type == "cpu":
            raise UsageError("`precision` fp16 is for GPUs; on a CPU choose fp32, or int8 with `engine` openvino")
        self._precision: Precision = precision
        self._net = copy.deepcopy(net).half() if precision == "fp16" else net

    @property
    def name(self) -> str:
        """`torch fp32`; on another device than the CPU, also the kind of device."""
        device = "" if self._device.type == "cpu" else f" {self._device.type}"
        return f"torch {self._precision}{device}"

    @torch.inference_mode()
    def __call__(self, lr: Tensor) -> Tensor:
        """See `Engine`."""
        kind = torch.float16 if self._precision == "fp16" else torch.float32
        was_training = self._net.training
        self._net.eval()
        try:
            return self._net(lr.to(self._device, kind, memory_format=torch.channels_last)).float()
        finally:
            self._net.train(was_training)


@torch.inference_mode()
def super_resolve(net: nn.Module | Engine, lr: Tensor) -> Tensor:
    """The network's answer to whole slices, one at a time so that memory does not grow with the batch.

    Args:
        net: maps ``(N, 1, h, w)`` in [-1, 1] to ``(N, 1, s·h, s·w)``, used in evaluation mode; or an engine that runs
            such a network.
        lr: ``(N, 1, h, w)`` in [-1, 1]; for a conditional network ``(N, 3, h, w)``, see `ctsr.infer.conditions`.

    Returns:
        ``(N, 1, s·h, s·w)`` in [-1, 1]: what the network says beyond the range it was trained on is clipped.
    """
    engine = TorchEngine(net) if isinstance(net, nn.Module) else net
    pieces = [engine(image[None]) for image in lr]
    return torch.cat(pieces).clamp_(-1, 1).to(lr.device, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Tiling:
    """Squares that cover a slice; each is inferred with a margin of real pixels around it, which is thrown away."""

    core: int
    """LR pixels along a side of what is kept."""
    margin: int
    """LR pixels around it."""
    is_exact: bool
    """The margin reaches as far as the network sees."""

    @property
    def label(self) -> str:
        """For names: `in tiles of 128+32`."""
        return f"in tiles of {self.core}+{self.margin}"

    @property
    def text(self) -> str:
        """For people."""
        exact = "as far as the network sees" if self.is_exact else "less than the network sees"
        return f"tiles of {self.core} LR pixels with a margin of {self.margin}, {exact}"


def plan_tiles(architecture: Architecture, size: tuple[int, int], budget_bytes: float) -> Tiling | None:
    """How a slice of `size` LR pixels must be cut for the network to stay within `budget_bytes`; None if not at all.

    Where even the smallest tiles are too much, these are taken.
    """
    per_pixel = WORKSPACE * profile(architecture, (PROBE_SIDE, PROBE_SIDE)).inference_bytes / PROBE_SIDE**2
    if per_pixel * size[0] * size[1] <= budget_bytes:
        return None
    radius = receptive_radius(architecture)
    side = math.isqrt(int(budget_bytes / per_pixel))
    margin = min(radius, FAR_ENOUGH)
    if side > 2 * radius + FAR_ENOUGH:
        margin = radius  # exact, and not mostly margin
    return Tiling(max(SMALLEST_CORE, side - 2 * margin), margin, margin >= radius)


@dataclass(frozen=True, eq=False)
class Tiled:
    """An engine that runs another one tile by tile."""

    engine: Engine
    scale: int
    tiling: Tiling

    @property
    def name(self) -> str:
        """The engine's, and how it is tiled: the result depends on it."""
        return f"{self.engine.name} {self.tiling.label}"

    def __call__(self, lr: Tensor) -> Tensor:
        """See `ctsr.infer.engine.Engine`."""
        height, width = lr.shape[2:]
        sr = torch.empty(1, 1, height * self.scale, width * self.scale)
        for (top, bottom), (left, right) in product(self._parts(height), self._parts(width)):
            above, before = max(0, top - self.tiling.margin), max(0, left - self.tiling.margin)
            seen = lr[..., above : bottom + self.tiling.margin, before : right + self.tiling.margin]
            answer = self.engine(seen)[
                ...,
                (top - above) * self.scale : (bottom - above) * self.scale,
                (left - before) * self.scale : (right - before) * self.scale,
            ]
            sr[..., top * self.scale : bottom * self.scale, left * self.scale : right * self.scale] = answer
        return sr

    def _parts(self, length: int) -> Iterator[tuple[int, int]]:
        count = -(-length // self.tiling.core)
        for i in range(count):
            yield i * length // count, (i + 1) * length // count


def seam_error(engine: Engine, scale: int, tiling: Tiling, lr: Tensor) -> float:
    """Largest difference between tiles and the whole, in units of [-1, 1].

    Args:
        engine: runs the network.
        scale: the network's.
        tiling: what is to be measured.
        lr: ``(1, 1, h, w)``; a part of a slice from its middle, as large as memory allows, is enough: what matters is
            the seams.
    """
    side = tiling.core + 2 * tiling.margin
    top, left = max(0, (lr.shape[2] - side) // 2), max(0, (lr.shape[3] - side) // 2)
    whole = lr[..., top : top + side, left : left + side]
    halves = Tiled(engine, scale, Tiling(-(-min(whole.shape[2:]) // 2), tiling.margin, tiling.is_exact))
    return float((halves(whole).cpu() - engine(whole).cpu()).abs().max())


def pick_device(name: str = "auto", *, progress: Progress = SILENT) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    `cuda` on a machine without a GPU warns and gives the CPU: recipes written on a workstation run on a laptop.

    Raises:
        UsageError: no such kind of device, or one that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"`device` {name}: not a device; choose auto, cpu, cuda, cuda:1 or mps") from error
    if name == "cuda" and not torch.cuda.is_available():
        progress.note("warning: `device` cuda: no GPU is available here; computing on the CPU, slowly")
        return torch.device("cpu")
    # PyTorch keeps the index in eight bits: cuda:200 reads as −56.
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise UsageError(f"`device` {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not _mps():
        raise UsageError("`device` mps: this machine has no Metal device")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise UsageError(f"`device` {name}: not supported; choose auto, cpu, cuda, cuda:1 or mps")
    return device


def _mps() -> bool:
    return torch.backends.mps.is_available()


GET_IT = "pip install '.[fast]' in the source folder of ctsr"
"""How to install OpenVINO."""
LAYOUT = 1
"""Version of the cache's layout and of how networks are converted."""
MODEL_XML, MODEL_BIN = "model.xml", "model.bin"
SUMS = "sha256.json"
"""Their sums, beside them in the cache."""
EXAMPLE_SIDE = 16
"""LR pixels: the network is traced once on so small an image; height and width stay free."""


def is_installed() -> bool:
    """Whether OpenVINO is installed (extra `fast`)."""
    return find_spec("openvino") is not None


class OpenvinoEngine:
    """A converted network on the CPU.

    Args:
        xml: the converted network; weights lie beside it.
        precision: fp32 or bf16, what it computes in; int8, which is a property of the converted network.
        threads: of the CPU; as many as there are cores when None.
        variant: distinguishes it, in its name, from other networks of the same model and precision.
    """

    def __init__(
        self, xml: Path, precision: Precision = "fp32", *, threads: int | None = None, variant: str = ""
    ) -> None:
        # Without the hint, some CPUs would compute fp32 networks in bf16.
        hint = "bf16" if precision == "bf16" else "f32"
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._options = options
        self._model = openvino_core().read_model(xml)
        self._shape: tuple[int, ...] = ()
        self._compiled: Any = None
        self._name = f"openvino {precision} {variant}".strip()
        # A compiled network has one set of buffers; workers of a cluster may have several threads.
        self._alone = threading.Lock()

    @property
    def name(self) -> str:
        """`openvino fp32`, and the variant where there is one."""
        return self._name

    def __call__(self, lr: Tensor) -> Tensor:
        """See `ctsr.infer.engine.Engine`."""
        with self._alone:
            answer = self._for(tuple(lr.shape))([lr.cpu().contiguous().numpy()], share_inputs=True)[0]
        return torch.from_numpy(answer)

    def _for(self, shape: tuple[int, ...]) -> Any:
        """The network compiled for images of one shape: with a free one it takes twice the memory."""
        if shape != self._shape:
            self._compiled = None  # its buffers go before others come
            model = self._model.clone()
            model.reshape(list(shape))
            self._compiled = openvino_core().compile_model(model, "CPU", self._options)
            self._shape = shape
        return self._compiled


def computes_bf16() -> bool:
    """Whether this processor has instructions for bf16 (AVX-512 BF16, AMX); elsewhere it is slower than fp32."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def converted(net: nn.Module, cache: Path | None = None) -> Path:
    """The network as OpenVINO's `model.xml`, made when it is not in the cache yet.

    Args:
        net: maps ``(N, 1, h, w)``, or ``(N, 3, h, w)`` where it is conditional, to ``(N, 1, s·h, s·w)``; on the CPU.
        cache: folder of converted networks; the user's when None.
    """
    return kept((weights_hash(net), type(net).__name__), lambda: net, cache)


def kept(key: Sequence[str | int], make: Callable[[], nn.Module], cache: Path | None = None) -> Path:
    """A converted network out of the cache; `make` gives the network where none is kept under the key."""
    openvino = import_openvino()
    folder = (cache or default_cache()) / digest(LAYOUT, *key, str(openvino.__version__)).hex()
    if not _is_whole(folder):
        model = convert(make())
        with atomic_folder(folder, replace=True) as part:
            openvino.save_model(model, part / MODEL_XML, compress_to_fp16=False)
            write_json(part / SUMS, sha256_of(part))
    return folder / MODEL_XML


def convert(net: nn.Module) -> Any:
    """The network as an `openvino.Model` with free height and width."""
    with torch.inference_mode():
        channels = input_channels(net)
        example = torch.zeros(1, channels, EXAMPLE_SIDE, EXAMPLE_SIDE)
        shape = [1, channels, -1, -1]
        return import_openvino().convert_model(net.eval(), example_input=example, input=shape)


def default_cache() -> Path:
    """The user's cache folder; what is in it can be removed at any time."""
    return cache_folder("engines")


def weights_hash(net: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a network's weights, in hexadecimal."""
    found = hashlib.sha256()
    for name, value in net.state_dict().items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def import_openvino() -> Any:
    """The module `openvino`, with its telemetry off.

    Raises:
        ImportError: it is not installed.
    """
    _decline()
    return importlib.import_module("openvino")


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, which lives as long as the process does.

    Every core loads its own CPU plugin, which gives the thread a stack for signals. The first of two that goes frees
    its stack, the second puts that back: the next Ctrl-C would be a segmentation fault.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return import_openvino().Core()


def _is_whole(folder: Path) -> bool:
    """Whether a converted network is there and as it was written.

    A full disk or a power cut may have left half of one; and where a bit of it has changed, OpenVINO would compute
    other HU without a word.
    """
    try:
        return as_type(parse_json((folder / SUMS).read_bytes()), dict[str, str]) == sha256_of(folder)
    except (OSError, ReadError):
        return False


def sha256_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a converted network by name, in hexadecimal.

    Raises:
        OSError: one is missing.
    """
    found: dict[str, str] = {}
    for name in (MODEL_XML, MODEL_BIN):
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _decline() -> None:
    """Answer "no" for the user, in this process; importing OpenVINO asks already, and takes silence for consent."""
    try:
        consent: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:
        return  # then there is nothing that could send
    consent.OptInChecker.check = lambda *_args, **_kwargs: consent.ConsentCheckResult.DECLINED
