"""Selection of the engine that runs a network: settled once, from what was asked for and what is there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import torch

from ctsr.checkpoint import Model, load_model
from ctsr.errors import UsageError
from ctsr.infer.engine import Engine, EngineName, Precision, TorchEngine
from ctsr.infer.openvino_engine import GET_IT, OpenvinoEngine, converted, is_installed
from ctsr.progress import SILENT, Progress
from ctsr.series import Series


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
    """Of the CPU; as many as the library likes when None."""
    cache: Path | None = None
    """Of converted networks; the user's when None."""
    int8: Int8Support | None = None
    """Opens the network if the precision is int8."""


@dataclass(frozen=True)
class EngineRequest:
    """What a user wants a network to be run by."""

    engine: EngineName = "auto"
    """`auto` takes OpenVINO on a CPU where it is installed, else PyTorch."""
    precision: Precision = "fp32"
    """`int8` gives way to fp32 where its own check does not pass."""
    device: str = "cpu"
    """What PyTorch would compute on; OpenVINO uses the CPU."""
    int8: Int8Support | None = None
    """Needed for int8."""
    threads: int | None = None
    """Of the CPU; as many as the library likes when None."""
    cache: Path | None = None
    """Of converted networks; the user's when None."""


def choose_engine(
    model: Model, asked: EngineRequest, check: EngineCheck | None, progress: Progress = SILENT
) -> EngineConfig:
    """What runs a network from now on; a choice that is not the one asked for is said.

    Args:
        model: the network.
        asked: what the user wants.
        check: compares INT8 with fp32; needed for int8.
        progress: hears what was chosen and why.

    Raises:
        UsageError: the engine is not installed, or does not have the precision; or there is no INT8 network.
    """
    chosen = _available(asked, progress)
    spec = EngineConfig(
        model.path.absolute(), chosen, asked.precision, asked.device, asked.threads, asked.cache, asked.int8
    )
    if spec.precision != "int8":
        return spec
    fp32 = replace(spec, precision="fp32")
    if chosen == "torch":
        progress.note(f"int8 needs OpenVINO ({GET_IT}): computing in fp32")
        return fp32
    if asked.int8 is None or check is None:
        raise UsageError("no INT8 network is available for this model; choose fp32")
    progress.note(f"int8: {asked.int8.source(model)}")
    result = check(open_engine(spec, model), open_engine(fp32, model))
    progress.note(f"int8 {result.text}: {'in use' if result.passes else 'too much, computing in fp32'}")
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
    if engine == "torch" and precision == "int8":
        raise UsageError("`engine` torch has no `precision` int8; `engine` openvino has")
    if engine == "openvino":
        if not is_installed():
            raise UsageError(f"`engine` openvino: it is not installed; {GET_IT}, or choose `engine` torch")
        if precision == "fp16":
            raise UsageError("`precision` fp16 is PyTorch's, on a GPU; with `engine` openvino choose fp32 or int8")
        if device != "cpu":
            progress.note(f"engine: OpenVINO computes on the CPU, not on {device}")
    return engine
