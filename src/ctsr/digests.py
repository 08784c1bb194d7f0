"""Names made into bytes: the same parts give the same digest on every machine, and other parts another."""

import hashlib

__all__ = ["digest"]


def digest(*parts: str | int, size: int = 16) -> bytes:
    """`size` bytes that depend on every part, its type and its place.

    BLAKE2b over the length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ.
    """
    found = hashlib.blake2b(digest_size=size)
    for part in parts:
        word = f"{type(part).__name__}:{part}".encode()
        found.update(len(word).to_bytes(4, "big") + word)
    return found.digest()
