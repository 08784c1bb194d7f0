"""Seeds made from names: the same words give the same seed on every machine, in every process, in any order of work."""

import hashlib

import numpy as np

__all__ = ["rng_from", "seed_from"]


def seed_from(*parts: str | int, bits: int = 63) -> int:
    """A seed of at most `bits` bits that depends on every part, its type and its place.

    BLAKE2b over the length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        word = f"{type(part).__name__}:{part}".encode()
        digest.update(len(word).to_bytes(4, "big") + word)
    return int.from_bytes(digest.digest(), "big") >> (64 - bits)


def rng_from(*parts: str | int) -> np.random.Generator:
    """A generator seeded with `seed_from` of the parts."""
    return np.random.default_rng(seed_from(*parts))
