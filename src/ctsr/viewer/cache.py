"""Computed slices in memory, up to a number of bytes; the one that was not used for longest goes first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

import numpy as np
import numpy.typing as npt

__all__ = ["SliceCache"]

Slice = npt.NDArray[np.float32]


class SliceCache:
    """Arrays by key. Threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._slices: OrderedDict[Hashable, Slice] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: Hashable) -> Slice | None:
        """The slice, which counts as used now; None where it is not there."""
        with self._lock:
            found = self._slices.get(key)
            if found is not None:
                self._slices.move_to_end(key)
            return found

    def has(self, key: Hashable) -> bool:
        """Whether the slice is there; does not count as a use."""
        return key in self._slices

    def fits(self, num_bytes: int) -> bool:
        """Whether so much more can be held without giving anything up."""
        return self._bytes + num_bytes <= self._max_bytes

    def put(self, key: Hashable, value: Slice) -> None:
        """Keep a slice and give up the oldest ones beyond the limit; the newest one stays even when it is too large."""
        with self._lock:
            self._drop(key)
            self._slices[key] = value
            self._bytes += value.nbytes
            while self._bytes > self._max_bytes and len(self._slices) > 1:
                self._drop(next(iter(self._slices)))

    def _drop(self, key: Hashable) -> None:
        dropped = self._slices.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.nbytes
