"""What a library says to people while it works and in messages: progress, numbers and lists as text."""

import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters of C0 and C1, line separators, and marks that change the direction of writing."""


def size(num_bytes: float) -> str:
    """`1.46 GiB`, or `12.3 MiB` below one."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """In milliseconds, seconds, minutes or hours, whichever reads best."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: `1 slice`, `3 slices`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def one_line(message: object) -> str:
    """A message without its line breaks, those of libraries often have some; `printable`."""
    return printable(" ".join(str(message).split()))


def safe_name(text: str) -> str:
    """`text` with what a file name on some system cannot hold, or a glob would read, replaced by ``_``."""
    return re.sub(r"[^\w.+-]", "_", text)


def printable(text: str) -> str:
    r"""Spell out what a terminal would obey or cannot show, and return text that can be written as UTF-8.

    A byte of a file name that is no UTF-8 reads as `\xfc`, an escape character as `\x1b`, a mark that reverses the
    direction of writing as `\u202e`.
    """
    # Python keeps such a byte as the lone surrogate U+DCFC.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\\udc", "\\x")
    return UNSEEN.sub(_spelled, text)


def printable_lines(text: str) -> str:
    """`printable`, line by line: line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))


def _spelled(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


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
    """Progress that is not shown: the default of library calls."""

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:  # noqa: ARG002  (a `Progress`)
        """Yield `items`."""
        yield from items

    def note(self, message: str) -> None:
        """Say nothing."""


SILENT: Progress = Silent()


TOLD = ("warning: ", "failed: ", "left out: ")
"""What notes about something wrong begin with."""


def warn(text: str) -> None:
    """Give a Python warning that points at the caller's line, however deep the library is when it finds out."""
    level = 1
    frame = inspect.currentframe()
    while (
        frame is not None
        and frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == "ctsr"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


class Warnings(Silent):
    """Shows no progress, and gives a Python warning for each note about something wrong."""

    def note(self, message: str) -> None:
        """Pass on what is wrong, in whichever line; other news is not shown."""
        for line in message.splitlines():
            if line.startswith(TOLD):
                warn(line.removeprefix(TOLD[0]))


WARN: Progress = Warnings()
"""The progress of calls that are given none."""
