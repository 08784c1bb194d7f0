"""Digests and seeds made from names: the same parts give the same value on every machine, in every process.

Other parts give other values.
"""

import hashlib

import numpy as np


def digest(*parts: str | int, size: int = 16) -> bytes:
    """Hash the parts into `size` bytes that depend on every part, its type and its place.

    BLAKE2b over the length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ.
    """
    hasher = hashlib.blake2b(digest_size=size)
    for part in parts:
        word = f"{type(part).__name__}:{part}".encode()
        hasher.update(len(word).to_bytes(4, "big") + word)
    return hasher.digest()


def seed_from(*parts: str | int, bits: int = 63) -> int:
    """Make a seed of at most `bits` bits that depends on every part, its type and its place."""
    return int.from_bytes(digest(*parts, size=8), "big") >> (64 - bits)


def rng_from(*parts: str | int) -> np.random.Generator:
    """Make a generator seeded with `seed_from` of the parts."""
    return np.random.default_rng(seed_from(*parts))
