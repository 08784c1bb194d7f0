"""A network ready to use, from any file that holds one."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from ctsr.checkpoint.bundled import FOLDER, IDENTITIES
from ctsr.checkpoint.container import read_container, weights_in
from ctsr.checkpoint.meta import Meta
from ctsr.checkpoint.reference import resolve_model
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.models.architecture import Architecture, load_state
from ctsr.progress import SILENT, Progress

__all__ = ["Blend", "Generator", "find_generator", "load_generator"]


@dataclass(frozen=True)
class Blend:
    """Two generators and the share of the second one."""

    first: str
    """Path of the generator at α = 0, usually trained with L1."""
    first_sha256: str
    second: str
    """Path of the generator at α = 1, usually fine-tuned."""
    second_sha256: str
    alpha: float


@dataclass(frozen=True, eq=False)
class Generator:
    """A network with its weights and where they are from."""

    net: nn.Module
    """``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)``; float32, evaluation mode, on the CPU."""
    architecture: Architecture
    meta: Meta | None
    """None for files that this program did not write."""
    path: Path
    sha256: str
    """Of the file, in hexadecimal: what derived images name the model by."""

    blend: Blend | None = None
    """What it was made of, where it is a mixture of two."""

    @property
    def scale(self) -> int:
        """How many times finer SR is than LR."""
        return self.architecture.scale

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]; the default where the file does not tell."""
        return self.meta.hu_range if self.meta else DEFAULT_RANGE

    @property
    def trained_for(self) -> Degradation:
        """What it was trained on; the default where the file does not tell."""
        return Degradation.from_dict(self.meta.degradation) if self.meta else Degradation(scale=self.scale)

    @property
    def degradation(self) -> Degradation:
        """What its LR images are made with, where nothing else is asked for.

        That which it was trained on; for a conditional network, which is made for any, the default of its scale.
        """
        return Degradation(scale=self.scale) if self.architecture.conditional else self.trained_for


def find_generator(reference: str | None, *, scale: int | None = None, progress: Progress = SILENT) -> Generator:
    """The network that a model reference means; `progress` hears which file was chosen.

    Args:
        reference: see `ctsr.checkpoint.reference.resolve_model`; None takes the newest run.
        scale: of the bundled model, where no run is found.
        progress: told what was chosen, where that was not plain.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: the file holds none that can be loaded.
    """
    resolved = resolve_model(reference, scale=scale)
    if resolved.note:
        progress.note(resolved.note)
    return load_generator(resolved.path)


def load_generator(path: Path, *, use_ema: bool = True) -> Generator:
    """The network in a checkpoint: our own, a bare state dict, one under `model`, or BasicSR's.

    Args:
        path: see `ctsr.checkpoint.reference.resolve_model` for what users write.
        use_ema: take averaged weights where the file has them, otherwise the live ones; False is the other way round.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it cannot be read safely, or its weights fit no known network.
    """
    container = read_container(path)
    try:
        architecture, net = load_state(weights_in(container, use_ema=use_ema))
        meta = _known_patients(path, _meta(container))
        if meta is not None and meta.architecture != architecture:
            raise CheckpointError(f"its meta says {meta.architecture}, its weights are {architecture}")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Generator(net, architecture, meta, path, digest)


def _known_patients(path: Path, meta: Meta | None) -> Meta | None:
    """The meta of a bundled model whose file is older than hashes of patients, with the hashes that lie beside it."""
    if meta is None or meta.trained_identities or path.resolve().parent != FOLDER.resolve():
        return meta
    return replace(meta, trained_identities=tuple(json.loads(IDENTITIES.read_text(encoding="utf-8"))))


def _meta(container: Mapping[str, Any]) -> Meta | None:
    meta = container.get("meta")
    if not isinstance(meta, Mapping) or "format" not in meta:
        return None
    return Meta.from_plain(cast("Mapping[str, Any]", meta))
