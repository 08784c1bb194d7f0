"""Models by name, and the engines that run them; both are kept for the next call."""

import copy
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, get_args

from ctsr.checkpoint import Model, resolve_model
from ctsr.checkpoint import load_model as load_checkpoint_model
from ctsr.errors import UsageError
from ctsr.files import file_state
from ctsr.infer import EngineRequest, choose_engine, open_engine
from ctsr.infer.engine import Engine, EngineName, Precision, pick_device, weights_hash
from ctsr.reporting import WARN
from ctsr.upscale import DEFAULT_MODEL

ModelLike: TypeAlias = Model | str | os.PathLike[str]
"""A model of `ctsr.load_model`, or what that function takes."""


def load_model(reference: ModelLike = DEFAULT_MODEL) -> Model:
    """Load a network with its weights, and what is known of its training.

    Args:
        reference: name of a bundled model (`ctsr-x2`, `ctsr-x4`), a checkpoint, a run folder, or the name of an
            experiment below ``runs/``. A model is returned as it is. A run that was no better than interpolation on its
            validation slices is a Python warning.

    Returns:
        The model: `net` (``(N, 1, h, w)`` in [-1, 1] → ``(N, 1, scale·h, scale·w)``, float32), `scale`, `hu_range`,
        `architecture`, `meta`, `sha256`. The network of a conditional model takes ``(N, 3, h, w)``, see
        `ctsr.models.conditioning.with_conditions`. The same file gives the same object.

    Raises:
        MissingInputError: there is no such model; the message lists those that there are.
        CheckpointError: the file holds none that can be loaded safely.

    Examples:
        >>> model = ctsr.load_model("ctsr-x2")
        >>> model.scale, model.architecture.name, model.architecture.conditional
        (2, 'edsr', True)
    """
    if isinstance(reference, Model):
        return reference
    found = resolve_model(os.fspath(reference))
    WARN.note(found.note)
    return _loaded(found.path, file_state(found.path))


def asked_for(engine: EngineName, precision: Precision, device: str) -> EngineRequest:
    """What a caller wants a network to be run by.

    Raises:
        UsageError: an engine, precision or device that there is not.
    """
    if engine not in get_args(EngineName):
        raise UsageError(f"`engine` is one of {', '.join(get_args(EngineName))}, got {engine!r}")
    if precision not in {"fp32", "fp16"}:
        raise UsageError(f"`precision` is fp32 or, on a GPU, fp16, got {precision!r}; `ctsr upscale` has int8 as well")
    return EngineRequest(engine, precision, str(pick_device(device)))


def open_for(model: Model, asked: EngineRequest) -> Engine:
    """The engine that runs a model, opened once for all calls that ask for the same of the same weights."""
    return _opened(model, asked, weights_hash(model.net))


@lru_cache(maxsize=4)
def _loaded(path: Path, _state: tuple[int, int]) -> Model:
    return load_checkpoint_model(path)


@lru_cache(maxsize=4)
def _opened(model: Model, asked: EngineRequest, _weights: str) -> Engine:
    # Of a copy: the caller may train the network on, or run it elsewhere.
    return open_engine(choose_engine(model, asked, None), replace(model, net=copy.deepcopy(model.net)))
