"""Networks converted for an engine, kept by the hash of their weights: what takes half a minute is done once."""

import hashlib
from pathlib import Path

import platformdirs
from torch import nn

__all__ = ["default_cache", "weights_hash"]


def default_cache() -> Path:
    """The user's cache folder; what is in it can be removed at any time."""
    return Path(platformdirs.user_cache_dir("ctsr")) / "engines"


def weights_hash(net: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a network's weights, in hexadecimal."""
    found = hashlib.sha256()
    for name, value in net.state_dict().items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
