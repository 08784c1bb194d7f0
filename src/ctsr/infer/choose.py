"""Which engine runs a network: settled once, from what was asked for and what is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ctsr.checkpoint import Generator, load_generator
from ctsr.checkpoint.int8 import Int8Twin, int8_beside, read_int8
from ctsr.errors import UsageError
from ctsr.infer.cache import weights_hash
from ctsr.infer.calibration import Calibration
from ctsr.infer.engine import Engine, EngineName, Precision, TorchEngine
from ctsr.infer.int8 import quantised
from ctsr.infer.openvino_engine import GET_IT, OpenvinoEngine, converted, is_installed
from ctsr.infer.trial import Pair, Verdict, compare
from ctsr.progress import SILENT, Progress

__all__ = ["AskedFor", "EngineSpec", "choose_engine", "open_engine"]


@dataclass(frozen=True)
class EngineSpec:
    """All that another process needs to run the same network the same way."""

    model_path: Path
    engine: Literal["torch", "openvino"]
    precision: Precision
    device: str
    threads: int | None = None
    """Of the CPU; as many as the library likes when None."""
    cache: Path | None = None
    """Of converted networks; the user's when None."""
    calibration: Calibration | None = None
    """For int8, where the model has no twin beside it and the cache does not hold the network yet."""


@dataclass(frozen=True)
class AskedFor:
    """What a user wants a network to be run by."""

    engine: EngineName = "auto"
    """`auto` takes OpenVINO on a CPU where it is installed, else PyTorch."""
    precision: Precision = "fp32"
    """`int8` gives way to fp32 where its own check does not pass."""
    device: str = "cpu"
    """What PyTorch would compute on; OpenVINO uses the CPU."""
    calibration: Calibration | None = None
    """For int8: images that set its scales."""
    threads: int | None = None
    """Of the CPU; as many as the library likes when None."""
    cache: Path | None = None
    """Of converted networks; the user's when None."""


def choose_engine(
    generator: Generator, asked: AskedFor, trial: Callable[[], Sequence[Pair]], progress: Progress = SILENT
) -> EngineSpec:
    """What runs a network from now on; a choice that is not the one asked for is said.

    Args:
        generator: the network.
        asked: what the user wants.
        trial: for int8: slices with their truth to check it on, of patients that are not among the calibration's.
        progress: hears what was chosen and why.

    Raises:
        UsageError: the engine is not installed, or does not have the precision; or int8 without a calibration.
    """
    chosen = _available(asked, progress)
    spec = EngineSpec(
        generator.path.absolute(), chosen, asked.precision, asked.device, asked.threads, asked.cache, asked.calibration
    )
    if spec.precision != "int8":
        return spec
    exact = replace(spec, precision="fp32")
    twin = read_int8(generator)
    if asked.calibration is None and twin is None:
        raise UsageError("int8 needs images that set its scales: give a calibration, or choose fp32")
    if chosen == "torch":
        progress.note(f"int8 needs OpenVINO ({GET_IT}): computing in fp32")
        return exact
    if twin is not None:
        progress.note(f"int8: the model's twin, {int8_beside(generator.path)}")
    verdict = _verdict(generator, spec, exact, trial(), twin)
    progress.note(f"int8 {verdict.text}: {'in use' if verdict.passes else 'too much, computing in fp32'}")
    return spec if verdict.passes else exact


def open_engine(spec: EngineSpec, generator: Generator | None = None) -> Engine:
    """The engine that `spec` names; `generator` saves loading its model again."""
    generator = generator or load_generator(spec.model_path)
    net = generator.net
    if spec.engine == "torch":
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        return TorchEngine(net.to(spec.device), spec.precision)
    if spec.precision == "int8":
        return _in_int8(generator, spec)
    return OpenvinoEngine(converted(net.cpu(), spec.cache), spec.precision, threads=spec.threads)


def _in_int8(generator: Generator, spec: EngineSpec) -> Engine:
    """The twin that lies beside the model; where there is none, the model as it is, calibrated here."""
    twin = read_int8(generator)
    if twin is not None:
        variant = f"twin {weights_hash(twin.net)[:8]}"
        return OpenvinoEngine(converted(twin.net, spec.cache), "int8", threads=spec.threads, variant=variant)
    assert spec.calibration is not None, "int8 is chosen with a calibration"
    xml = quantised(generator.net.cpu(), spec.calibration, spec.cache)
    # Other images make another network, whose results must not be taken for those of this one.
    variant = f"calibrated {spec.calibration.key[:8]}"
    return OpenvinoEngine(xml, "int8", threads=spec.threads, variant=variant)


def _available(asked: AskedFor, progress: Progress) -> Literal["torch", "openvino"]:
    engine, precision, device = asked.engine, asked.precision, asked.device
    if engine == "auto":
        if device != "cpu" or precision == "fp16":
            return "torch"
        if is_installed():
            return "openvino"
        progress.note(f"engine: PyTorch; OpenVINO, which is faster on this CPU, is not installed ({GET_IT})")
        return "torch"
    if engine == "torch" and precision == "int8":
        raise UsageError("--engine torch has no --precision int8; --engine openvino has")
    if engine == "openvino":
        if not is_installed():
            raise UsageError(f"--engine openvino: it is not installed; {GET_IT}, or choose --engine torch")
        if precision == "fp16":
            raise UsageError("--precision fp16 is PyTorch's, on a GPU; with --engine openvino choose fp32 or int8")
        if device != "cpu":
            progress.note(f"engine: OpenVINO computes on the CPU, not on {device}")
    return engine


def _verdict(
    generator: Generator, fast: EngineSpec, exact: EngineSpec, pairs: Sequence[Pair], twin: Int8Twin | None
) -> Verdict:
    """On these slices; where its twin has learned from all there are, the verdict that it was kept for."""
    if twin is not None and not pairs:
        return Verdict(twin.notes.loss_db, twin.notes.bias_hu, twin.notes.num_slices)
    return compare(open_engine(fast, generator), open_engine(exact, generator), pairs, generator.hu_range)
