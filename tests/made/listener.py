"""A progress that remembers what it is told."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Listener:
    """Keeps every note; where asked to, interrupts the work called `stop_in` after so many items."""

    def __init__(self, *, stop_in: str = "", stop_after: int = 0) -> None:
        self.notes: list[str] = []
        self.stop_in = stop_in
        self.stop_after = stop_after

    def note(self, message: str) -> None:
        self.notes.append(message)

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        for i, item in enumerate(items):
            if what == self.stop_in and i == self.stop_after:
                raise KeyboardInterrupt
            yield item
