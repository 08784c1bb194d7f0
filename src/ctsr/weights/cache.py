"""The folder where fetched weights are kept, each as one safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.files import atomic_path
from ctsr.weights.table import WEIGHTS, Weights

__all__ = ["cached_path", "default_cache", "known", "load_weights", "store_weights", "weights_path"]


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(platformdirs.user_cache_dir("ctsr")) / "weights"


def known(name: str) -> Weights:
    """The row of the table.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in WEIGHTS:
        raise UsageError(f"no weights are called {name!r}; there are {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def cached_path(name: str, cache: Path | None = None) -> Path:
    """Where weights of that name are kept once they were fetched."""
    return (cache or default_cache()) / f"{known(name).name}.safetensors"


def weights_path(name: str, cache: Path | None = None) -> Path:
    """The file with these weights.

    Args:
        name: from `WEIGHTS`.
        cache: the folder to look in; the user's cache folder when left out.

    Raises:
        MissingInputError: they were not fetched yet; the message has the command that does.
        UsageError: no weights have that name.
    """
    path = cached_path(name, cache)
    if not path.is_file():
        where = "" if cache is None else f" --cache {cache}"
        raise MissingInputError(
            f"the weights {name} ({WEIGHTS[name].purpose}) are not in {path.parent}; "
            f"`ctsr weights fetch {name}{where}` brings them"
        )
    return path


def load_weights(name: str, cache: Path | None = None) -> dict[str, Tensor]:
    """The tensors by name, on the CPU: trunks under torchvision's keys, heads as `lin0` … `lin4`, in float32.

    NIQE's model is `mean` ``(36,)`` and `covariance` ``(36, 36)``, in float64.

    Raises:
        MissingInputError: they were not fetched yet.
        CheckpointError: the file is damaged.
        UsageError: no weights have that name.
    """
    path = weights_path(name, cache)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; `ctsr weights fetch {name} --force` mends it") from error
    return tensors


def store_weights(name: str, tensors: Mapping[str, Tensor], source: str, cache: Path | None = None) -> Path:
    """Keep unpacked weights, whole or not at all; the file tells where they are from.

    Raises:
        CheckpointError: these are not as many tensors as the weights have.
    """
    weights = known(name)
    if len(tensors) != weights.tensors:
        raise CheckpointError(f"{source} holds {len(tensors)} tensors of {name}, expected {weights.tensors}")
    path = cached_path(name, cache)
    with atomic_path(path) as part:
        save_file(
            {key: tensors[key].contiguous() for key in sorted(tensors)},
            part,
            metadata={"name": name, "source": source, "licence": weights.licence},
        )
    return path
