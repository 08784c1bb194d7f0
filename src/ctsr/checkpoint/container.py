"""Opening a weight file of any origin without running what is in it."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from ctsr.checkpoint.packed import PACKED, read_packed
from ctsr.errors import CheckpointError, MissingInputError

__all__ = ["read_container", "weights_in"]

EMA_KEYS = ("ema", "params_ema")
"""Where averaged weights are found: our own files, BasicSR's."""
LIVE_KEYS = ("model", "params")
"""Where the weights that were being trained are found: our own files, those of the scripts before ctsr, BasicSR's."""

DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(OSError, RuntimeError, TypeError, ValueError),
)
"""What PyTorch's readers raise on bytes that are no checkpoint, or cut short, or altered, by where they notice."""

NEEDS_CODE = re.compile(r"GLOBAL ([\w.]+)|(TorchScript)|(persistent id|reduce|instantiate|[Bb]uild)")
"""What PyTorch's restricted unpickler says where a file asks for more than tensors and plain values."""

PLAIN_PICKLES = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files start that `pickle` wrote by itself: `torch.save` uses protocol 2."""


def read_container(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, its tensors on the CPU: one written by `torch.save`, or one of safetensors.

    Of the former only tensors, plain containers, numbers and strings are read, and NumPy numbers, which older runs left
    among their statistics. Nothing in the file is executed.

    Raises:
        MissingInputError: there is no such file.
        CheckpointError: it needs code to load, is damaged or no such file at all, or holds something else.
    """
    if path.suffix == PACKED:
        return read_packed(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such checkpoint file")
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file) and (member := zipfile.ZipFile(file).testzip()):
                # PyTorch does not compare the checksums that it writes.
                raise CheckpointError(f"{path} is damaged: the checksum of {member} is wrong; copy it again")
            file.seek(0)
            content = _load_safely(file)
        except DAMAGED as error:
            file.seek(0)
            raise CheckpointError(f"{path} {_why(error, file.read(2))}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no weights by name, but a {type(content).__name__}")
    return dict(cast("Mapping[str, Any]", content))


def weights_in(container: Mapping[str, Any], *, use_ema: bool) -> dict[str, Tensor]:
    """The generator's weights: under a known key, averaged or live ones first as asked, or the mapping itself.

    Raises:
        CheckpointError: there are none; the message names the keys there are.
    """
    keys = (*EMA_KEYS, *LIVE_KEYS) if use_ema else (*LIVE_KEYS, *EMA_KEYS)
    for candidate in (*(container.get(key) for key in keys), container):
        if _is_state(candidate):
            return dict(cast("Mapping[str, Tensor]", candidate))
    there = ", ".join(sorted(map(str, container))[:6]) or "nothing"
    raise CheckpointError(f"holds no weights: expected them at the top or under {', '.join(keys)}, found {there}")


def _is_state(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(item, Tensor) for item in cast("Mapping[str, object]", value).values())


def _load_safely(file: IO[bytes]) -> object:
    with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats: what cannot be read raises
        return torch.load(file, map_location="cpu", weights_only=True)


def _why(error: Exception, head: bytes) -> str:
    if head in PLAIN_PICKLES:
        return "is a plain pickle, which needs code to load, and is refused; save a state_dict with torch.save"
    needed = NEEDS_CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError | RuntimeError) else None
    if needed is None:
        return "cannot be read as a checkpoint: it is damaged, cut short, or not written by torch.save"
    what = f" ({needed[1] or needed[2]})" if needed[1] or needed[2] else ""
    return f"needs code to load{what} and is refused; save its state_dict alone with torch.save"


def _numpy_numbers() -> list[Any]:
    """What NumPy numbers are pickled with, under the names of NumPy 1 and 2. They make numbers and do nothing else."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
