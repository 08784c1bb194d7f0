"""Seeds made from names: the same words give the same seed on every machine, in every process, in any order of work."""

import numpy as np

from ctsr.digests import digest

__all__ = ["rng_from", "seed_from"]


def seed_from(*parts: str | int, bits: int = 63) -> int:
    """A seed of at most `bits` bits that depends on every part, its type and its place."""
    return int.from_bytes(digest(*parts, size=8), "big") >> (64 - bits)


def rng_from(*parts: str | int) -> np.random.Generator:
    """A generator seeded with `seed_from` of the parts."""
    return np.random.default_rng(seed_from(*parts))
