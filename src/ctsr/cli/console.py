"""The one place that prints: progress bars on a terminal, plain lines elsewhere, tables, notes and errors.

The library's messages name fields in backticks; `spelling` makes them the flags of the command that runs.
"""

import codecs
import io
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ctsr.reporting import printable, printable_lines

T = TypeVar("T")

PLAIN_WIDTH = 200
"""Columns to lay a table out in where there is no terminal to ask."""
PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""

NONE = "–"
"""Where there is nothing to show."""

REPLACED = "ctsr.replaced"
"""How output is encoded where the encoding lacks a character."""
ASCII = {"×": "x", "–": "-", "−": "-", "…": "...", "→": "->", "±": "+-", "²": "^2", "³": "^3", "σ": "sigma", "≤": "<="}
"""Replacements of characters that cannot be shown; a question mark for all others."""

OTHER_DEVICE = "warning: `device` "
"""Begins the note of `ctsr.infer.engine.pick_device` that another device computes than was asked for."""

Spelling: TypeAlias = Callable[[str], str]
"""A message of the library → as this command's users read it."""


def unchanged(message: str) -> str:
    """The message as it is, for whoever has no flags."""
    return message


class Console:
    """Results on standard output; progress, notes and errors on standard error."""

    def __init__(self) -> None:
        prepare_streams()
        # Paths and names are shown as they are: `a:x:b` is no emoji, `[1]` no markup.
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self._out = RichConsole(width=width, highlight=False, markup=False, emoji=False)
        self._err = RichConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.spelling: Spelling = unchanged
        self._to_repeat = ""

    def print(self, text: str = "") -> None:
        """One line of the result."""
        self._out.print(printable_lines(text), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of the result; columns whose cells are all numbers are set flush right."""
        cells = [tuple(map(self._cell, row)) for row in rows]
        table = Table(show_edge=False, pad_edge=False)
        for i, name in enumerate(columns):
            numeric = bool(cells) and all(_is_number(row[i]) for row in cells)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
        for row in cells:
            table.add_row(*row)
        if title:
            self.print(title)
        self._out.print(table)

    def _cell(self, text: str) -> str:
        return printable(self.spelling(text))

    def note(self, message: str) -> None:
        """One line of news: a choice that was made, a warning."""
        if message.startswith(OTHER_DEVICE):
            self._to_repeat = message
        self._err.print(printable_lines(self.spelling(message)))

    def repeat_device(self) -> None:
        """Say below the results again that they were not computed on the device that was asked for."""
        if self._to_repeat:
            self._err.print(printable_lines(self.spelling(self._to_repeat)))

    def error(self, message: str) -> None:
        """One line that says what failed and what to do."""
        self._err.print(f"error: {printable_lines(self.spelling(message))}")

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Yield `items` behind a progress bar, or behind a line now and then where there is no terminal."""
        if self._err.is_terminal:
            yield from self._bar(items, total, what)
        else:
            yield from self._lines(items, total, what)

    def _bar(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err) as progress:
            yield from progress.track(items, total=total, description=printable(what))

    def _lines(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        started = said = time.monotonic()
        of = "" if total is None else f"/{total}"
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - said >= PLAIN_INTERVAL_S:
                said = now
                self.note(f"{what}: {done}{of} in {now - started:.0f} s")


def prepare_streams() -> None:
    """Make the standard streams take any text, and be there.

    A pipe or terminal in cp1252, cp1251 or ASCII gets replacements for what its encoding lacks. A stream that was
    closed (``>&-``) becomes the null device: else the next file that is opened would have its number. Matplotlib is
    kept from telling of a home that it cannot write: it takes a temporary folder, which is all it needs.
    """
    logging.getLogger("matplotlib").addFilter(_is_no_matter_of_home)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: object = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper) and stream.errors != REPLACED:
            stream.reconfigure(errors=REPLACED)


def _is_no_matter_of_home(record: logging.LogRecord) -> bool:
    return not re.search("MPLCONFIGDIR|mkdir -p failed", record.getMessage())


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_shown(character, error.encoding) for character in lacking), error.end


def _shown(character: str, encoding: str) -> str:
    return ASCII.get(character, "?" if encoding != "utf-8" else printable(character))


codecs.register_error(REPLACED, _replaced)


def mm(*lengths: float | None) -> str:
    """Lengths in mm, along several axes unless they are all alike: `0.7 × 0.8`."""
    return " × ".join(dict.fromkeys(NONE if length is None else f"{length:.4g}" for length in lengths))


def pixels(*counts: int | None) -> str:
    """A size in pixels: `512 × 512`."""
    return " × ".join(map(str, counts))


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell in {"–", "-"} or cell.replace(".", "", 1).lstrip("+-−").isdigit())
