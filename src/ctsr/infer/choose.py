"""Which engine runs a network: settled once, from what was asked for and what is there."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ctsr.checkpoint import Generator, load_generator
from ctsr.infer.engine import Engine, EngineName, Precision, TorchEngine

__all__ = ["EngineSpec", "open_engine"]


@dataclass(frozen=True)
class EngineSpec:
    """All that another process needs to run the same network the same way."""

    model_path: Path
    engine: EngineName
    precision: Precision
    device: str
    threads: int | None = None
    """Of the CPU; as many as the library likes when None."""


def open_engine(spec: EngineSpec, generator: Generator | None = None) -> Engine:
    """The engine that `spec` names; `generator` saves loading its model again."""
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    net = (generator or load_generator(spec.model_path)).net
    return TorchEngine(net.to(spec.device), spec.precision)
