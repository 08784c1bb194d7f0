"""Digests, seeds and DICOM UIDs made from names: the same parts give the same value on every machine, in every process.

Other parts give other values.
"""

import hashlib
import uuid

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


def derived_uid(*parts: str) -> str:
    """Make the UID that belongs to `parts`, in this order: ``2.25.`` and an integer of at most 39 digits.

    DICOM's PS3.5 B.2 lets anyone make a UID from a UUID. This one has the layout of version 5 (name-based); its bits
    come from `digest`, which keeps the parts apart.
    """
    return f"2.25.{uuid.UUID(bytes=digest(*parts), version=5).int}"
