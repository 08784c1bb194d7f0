"""The one place that prints: progress bars on a terminal, plain lines elsewhere, tables, notes and errors."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ctsr.cli.flag_text import with_flags

__all__ = ["Console"]

T = TypeVar("T")

PLAIN_WIDTH = 200
"""Columns to lay a table out in where there is no terminal to ask."""
PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


class Console:
    """Results on standard output; progress, notes and errors on standard error."""

    def __init__(self) -> None:
        # Paths and names are shown as they are: `a:x:b` is no emoji, `[1]` no markup.
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self._out = RichConsole(width=width, highlight=False, markup=False, emoji=False)
        self._err = RichConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def print(self, text: str = "") -> None:
        """One line of the result."""
        self._out.print(text, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of the result; columns whose cells are all numbers are set flush right."""
        cells = [tuple(map(with_flags, row)) for row in rows]
        table = Table(show_edge=False, pad_edge=False)
        for i, name in enumerate(columns):
            numeric = bool(cells) and all(_is_number(row[i]) for row in cells)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
        for row in cells:
            table.add_row(*row)
        if title:
            self.print(title)
        self._out.print(table)

    def note(self, message: str) -> None:
        """One line of news: a choice that was made, a warning."""
        self._err.print(with_flags(message))

    def error(self, message: str) -> None:
        """One line that says what failed and what to do."""
        self._err.print(f"error: {with_flags(message)}")

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Yield `items` behind a progress bar, or behind a line now and then where there is no terminal."""
        if self._err.is_terminal:
            yield from self._bar(items, total, what)
        else:
            yield from self._lines(items, total, what)

    def _bar(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err) as progress:
            yield from progress.track(items, total=total, description=what)

    def _lines(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        started = said = time.monotonic()
        of = "" if total is None else f"/{total}"
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - said >= PLAIN_INTERVAL_S:
                said = now
                self.note(f"{what}: {done}{of} in {now - started:.0f} s")


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell in {"–", "-"} or cell.replace(".", "", 1).lstrip("+-−").isdigit())
