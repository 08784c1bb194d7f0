"""A training run's state as one file, written whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ctsr.checkpoint.container import read_container
from ctsr.checkpoint.meta import Meta
from ctsr.errors import CheckpointError
from ctsr.files import atomic_path, clear_leftovers
from ctsr.models.architecture import StateDict, describe

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything needed to use a model, and to go on training it."""

    meta: Meta
    weights: StateDict
    """The weights being trained; key `model` in the file."""
    ema: StateDict | None = None
    """Their exponential moving average. Never mistaken for the live ones: it has a key of its own."""
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    """Optimiser, scaler, random states, epoch, step, best values, history: tensors and plain values."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file so that at every moment `path` is the old one or the new one, even when the process is killed.

    What an earlier save that was killed has left beside it is cleared away: a run folder has one writer.

    Raises:
        CheckpointError: something in it could not be loaded again without running code; the message says which.
        OSError: the disk is full or cannot be written. The old file is still there.
    """
    content = {
        "model": dict(checkpoint.weights),
        "ema": None if checkpoint.ema is None else dict(checkpoint.ema),
        "meta": checkpoint.meta.to_plain(),
        "training": checkpoint.training,
    }
    _check_plain(content, "checkpoint")
    clear_leftovers(path.parent, path.name)
    with atomic_path(path) as part, part.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # Where the disk refuses, PyTorch's writer hides that behind a complaint of its own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """One of our own files, in full, its tensors on the CPU.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it cannot be read safely, was not written by this program, or its parts contradict each other.
    """
    container = read_container(path)
    try:
        meta = Meta.from_plain(_mapping(container, "meta"))
        ema = container.get("ema")
        checkpoint = Checkpoint(
            meta=meta,
            weights=_mapping(container, "model"),
            ema=None if ema is None else _mapping(container, "ema"),
            training=dict(_mapping(container, "training")),
        )
        _check_architecture(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no checkpoint to continue from: {error}") from error
    return checkpoint


def _mapping(container: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = container.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"it has no {key!r} part")
    return cast("Mapping[str, Any]", value)


def _check_architecture(checkpoint: Checkpoint) -> None:
    for weights in (checkpoint.weights, checkpoint.ema):
        if weights is not None and (found := describe(weights)) != checkpoint.meta.architecture:
            raise CheckpointError(f"its meta says {checkpoint.meta.architecture}, its weights are {found}")


def _check_plain(value: object, where: str) -> None:
    match value:
        case Tensor() | None | bool() | bytes():
            return
        case int() | float() | str() if type(value) in (int, float, str):  # NumPy's float64 is a float, too
            return
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                _check_plain(key, f"a key of {where}")
                _check_plain(item, f"{where}.{key}")
        case list() | tuple():
            for i, item in enumerate(cast("list[object]", value)):
                _check_plain(item, f"{where}.{i}")
        case _:
            raise CheckpointError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain values")
