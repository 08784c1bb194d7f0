"""OpenVINO: the fast engine on a CPU. An optional extra; imported only where it is asked for."""

import hashlib
import importlib
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctsr.cache import cache_folder
from ctsr.files import atomic_folder
from ctsr.hashing import digest
from ctsr.infer.engine import Precision
from ctsr.models.conditioning import input_channels

GET_IT = "pip install '.[fast]' in the source folder of ctsr"
"""For whom it is missing."""
LAYOUT = 1
"""Of the cache, and of how networks are converted."""
MODEL_XML = "model.xml"
EXAMPLE_SIDE = 16
"""LR pixels: the network is traced once on so small an image; height and width stay free."""


def is_installed() -> bool:
    """Whether OpenVINO is installed (extra `fast`)."""
    return find_spec("openvino") is not None


class OpenvinoEngine:
    """A converted network on the CPU.

    Args:
        xml: the converted network; weights lie beside it.
        precision: what it computes in, for its name; int8 is a property of the converted network.
        threads: of the CPU; as many as there are cores when None.
        variant: what tells it from other networks that stand for the same model in this precision, for its name.
    """

    def __init__(
        self, xml: Path, precision: Precision = "fp32", *, threads: int | None = None, variant: str = ""
    ) -> None:
        # Without the hint, some CPUs would compute fp32 networks in bf16.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
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
    """Whether a converted network is there and can be read: a full disk or a power cut may have left half of one."""
    if not (folder / MODEL_XML).is_file():
        return False
    try:
        openvino_core().read_model(folder / MODEL_XML)
    except RuntimeError:
        return False
    return True


def _decline() -> None:
    """Answer "no" for the user, in this process; importing OpenVINO asks already, and takes silence for consent."""
    try:
        consent: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:
        return  # then there is nothing that could send
    consent.OptInChecker.check = lambda *_args, **_kwargs: consent.ConsentCheckResult.DECLINED
