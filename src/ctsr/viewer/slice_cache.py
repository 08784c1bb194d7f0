"""Computed slices of a viewer, as many as there is room for."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

Pixels: TypeAlias = npt.NDArray[np.float32]


class SliceCache:
    """Least recently used cache of computed slices, limited in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        def size(pixels: Pixels) -> int:
            # A slice larger than the cache counts as all of it: it evicts everything else and is kept.
            return min(pixels.nbytes, max_bytes)

        self._slices: LRUCache[Hashable, Pixels] = LRUCache(max_bytes, getsizeof=size)
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return int(self._slices.currsize)

    def get(self, key: Hashable) -> Pixels | None:
        """Return the slice and mark it as used; None where it is not cached."""
        with self._lock:
            return self._slices.get(key)

    def has(self, key: Hashable) -> bool:
        """Whether the slice is cached; does not count as a use."""
        return key in self._slices

    def fits(self, num_bytes: int) -> bool:
        """Whether `num_bytes` more can be held without evicting anything."""
        return self._slices.currsize + num_bytes <= self._slices.maxsize

    def drop(self, is_unwanted: Callable[[Any], bool]) -> None:
        """Forget the slices whose keys are unwanted."""
        with self._lock:
            for key in [key for key in self._slices if is_unwanted(key)]:
                del self._slices[key]

    def put(self, key: Hashable, value: Pixels) -> None:
        """Cache a slice and evict the least recently used ones beyond the limit."""
        with self._lock:
            self._slices[key] = value
