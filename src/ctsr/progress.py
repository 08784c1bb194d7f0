"""How long work reports on itself: the library says what it is doing, the command line decides how to show it."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["SILENT", "Progress", "Silent"]

T = TypeVar("T")


class Progress(Protocol):
    """Wraps a loop and speaks for it."""

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Yield `items` unchanged while showing how many of `total` are done; `what` names the work."""
        ...

    def note(self, message: str) -> None:
        """One line of news the user should see: a choice that was made, a warning."""
        ...


class Silent:
    """The progress of a library call: none."""

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Yield `items`."""
        del total, what
        yield from items

    def note(self, message: str) -> None:
        """Say nothing."""
        del message


SILENT: Progress = Silent()
