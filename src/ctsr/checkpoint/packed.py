"""Models to be passed on: weights alone as safetensors, their meta and their card in the file's header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ctsr.checkpoint.meta import Meta
from ctsr.errors import CheckpointError, MissingInputError
from ctsr.files import atomic_path
from ctsr.models.architecture import StateDict

__all__ = ["PACKED", "read_card", "read_packed", "read_tensors", "save_packed"]

PACKED = ".safetensors"
"""How the names of such files end."""
META_KEY, CARD_KEY = "ctsr", "card"
"""Words of the header: `Meta` as JSON, and what a reader should know, in Markdown."""


def save_packed(path: Path, meta: Meta, weights: StateDict, card: str = "") -> None:
    """Write a model without what only training needs.

    Args:
        path: ends in `PACKED`; a file that is there is replaced.
        meta: goes into the header.
        weights: float32, of `meta.architecture`.
        card: Markdown; goes into the header.

    Raises:
        OSError: the disk is full or cannot be written. The old file is still there.
    """
    header = {"format": "pt", META_KEY: json.dumps(meta.to_plain()), CARD_KEY: card}
    whole = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    with atomic_path(path) as part:
        save_file(whole, part, metadata=header)


def read_packed(path: Path) -> dict[str, Any]:
    """The weights under `model`, and under `meta` what the file says about them, if anything; as in a checkpoint.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, or no safetensors file at all.
    """
    weights, header = read_tensors(path)
    try:
        meta = {"meta": json.loads(header[META_KEY])} if META_KEY in header else {}
    except ValueError as error:
        raise CheckpointError(f"{path}: its meta is not readable: {error}") from error
    return {"model": weights, **meta}


def read_card(path: Path) -> str:
    """The card in a file's header; empty where it has none.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, or no safetensors file at all.
    """
    return read_tensors(path, with_weights=False)[1].get(CARD_KEY, "")


def read_tensors(path: Path, *, with_weights: bool = True) -> tuple[dict[str, Any], Mapping[str, str]]:
    """What a safetensors file holds by name, and the words of its header.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it is damaged, or no safetensors file at all.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            # The list of keys, and what a key gives: an extension module's, of which the type checker knows nothing.
            keys = cast("list[str]", list(file.keys())) if with_weights else []
            # Copies: what it gives is the file itself, mapped into memory, and files are written over.
            return {key: cast("Tensor", file.get_tensor(key)).clone() for key in keys}, file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
