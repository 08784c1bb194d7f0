"""Conversion of downloaded files to tensors under torchvision's names; pickles are read without executing code."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from torch import Tensor

from ctsr.errors import CheckpointError
from ctsr.weights.table import Source

Array = npt.NDArray[np.floating[Any]]
Arrays = Mapping[str, Any]

POOLED_AFTER = {5: (0, 1, 4), 13: (1, 3, 6, 9, 12)}
"""Convolutions of AlexNet and VGG16 that a pooling follows, by how many convolutions there are."""

ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, MatReadError)

NUMPY_ONLY = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    # The constructor of pickled arrays, as named by NumPy 1 and 2.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


def unpack(file: Path, source: Source) -> dict[str, Tensor]:
    """The weights in a verified file.

    Trunks under torchvision's keys, heads as `lin0` … `lin4`, NIQE's model as `mean` and `covariance`.

    Raises:
        CheckpointError: the content is not what `source` says.
    """
    try:
        content = _member(file, source.member) if source.member else file.read_bytes()
        match source.layout:
            case "torch":
                return _from_torch(content)
            case "flax-trunk":
                return _trunk_from_flax(_load_arrays(content))
            case "flax-heads":
                return _heads_from_flax(_load_arrays(content))
            case "niqe":
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return _model_of_niqe(arrays["mu_pris_param"], arrays["cov_pris_param"])
            case "niqe-mat":
                arrays = loadmat(io.BytesIO(content))
                return _model_of_niqe(arrays["mu_prisparam"], arrays["cov_prisparam"])
    except (KeyError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError, *ARCHIVE_ERRORS) as error:
        raise CheckpointError(f"{file.name} does not hold the weights it should: {error}") from error


def _member(archive: Path, member: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return opened.read(member)
    with tarfile.open(archive) as opened:
        found = opened.extractfile(member)
        if found is None:
            raise KeyError(member)
        return found.read()


def _from_torch(content: bytes) -> dict[str, Tensor]:
    """The trunk of a torchvision classifier, or the heads of LPIPS."""
    state = cast("Mapping[str, Tensor]", torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    if any(key.startswith("features.") for key in state):
        return {key: value for key, value in state.items() if key.startswith("features.")}
    return {key.partition(".")[0]: value.flatten() for key, value in state.items()}


class _NumpyUnpickler(pickle.Unpickler):
    """Creates NumPy arrays and plain containers, and refuses every other global."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Resolve the globals that NumPy arrays are pickled with."""
        try:
            return NUMPY_ONLY[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is refused") from None


def _load_arrays(content: bytes) -> Arrays:
    return _NumpyUnpickler(cast("IO[bytes]", io.BytesIO(content))).load()


def _trunk_from_flax(arrays: Arrays) -> dict[str, Tensor]:
    """Kernels (height, width, in, out) → (out, in, height, width), numbered as torchvision numbers its layers."""
    (trunk,) = (value for key, value in arrays.items() if not key.startswith("NetLinLayer"))
    state: dict[str, Tensor] = {}
    layer = 0
    for i in range(len(trunk)):
        conv = trunk[f"Conv_{i}"]
        state[f"features.{layer}.weight"] = _tensor(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{layer}.bias"] = _tensor(conv["bias"])
        layer += 3 if i in POOLED_AFTER[len(trunk)] else 2  # an activation follows each, a pooling some
    return state


def _heads_from_flax(arrays: Arrays) -> dict[str, Tensor]:
    return {f"lin{i}": _tensor(arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)) for i in range(5)}


def _model_of_niqe(mean: Array, covariance: Array) -> dict[str, Tensor]:
    return {"mean": _tensor(mean.reshape(-1)), "covariance": _tensor(covariance)}


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
