"""The one place that prints: progress bars on a terminal, plain lines elsewhere, tables, notes and errors.

The library's messages name fields; here they become flags.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")

PLAIN_WIDTH = 200
"""Columns to lay a table out in where there is no terminal to ask."""
PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""

NONE = "–"
"""Where there is nothing to show."""

FIELDS = frozenset(
    {
        "allow",
        "allow_gaps",
        "allow_train_patients",
        "alphas",
        "antialias_clean",
        "assume_hu",
        "baselines",
        "blur_kernel",
        "blur_sigma_range",
        "cache_mb",
        "conditions",
        "dask",
        "deg_seed",
        "deg_seed_mode",
        "degradation",
        "degradation_sampling",
        "denoise",
        "device",
        "dose_factor_range",
        "downsampling",
        "engine",
        "eval_summary",
        "format",
        "hallucination",
        "host",
        "hu_offset",
        "hu_scale",
        "index",
        "jobs",
        "keep",
        "limit_noise",
        "ma_every",
        "mask",
        "max_associations",
        "max_instance",
        "max_memory",
        "max_patients",
        "max_slices_per_patient",
        "metrics",
        "min_free",
        "model_path",
        "noise_cutoff_range",
        "noise_model",
        "noise_sigma_range_norm",
        "noise_skew",
        "out_dir",
        "overwrite",
        "patch_size",
        "physics",
        "port",
        "precision",
        "queue",
        "quiet",
        "retry_after",
        "scale",
        "seed",
        "send_to",
        "settle",
        "sharpen",
        "slices",
        "split",
        "split_json",
        "strength",
        "study_slices",
        "target_spacing",
        "tls_cert",
        "tls_key",
        "watch",
        "window_center",
        "window_width",
        "workers",
    }
)
"""Arguments of library functions that errors name in backticks, and that have a flag of the same name."""
OTHER_NAMES = {"noise_sigma_range": "noise_sigma_range_norm"}
"""Arguments whose flag has another name."""


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


def mm(*lengths: float | None) -> str:
    """Lengths in mm, along several axes unless they are all alike: `0.7 × 0.8`."""
    return " × ".join(dict.fromkeys(NONE if length is None else f"{length:.4g}" for length in lengths))


def pixels(*counts: int | None) -> str:
    """A size in pixels: `512 × 512`."""
    return " × ".join(map(str, counts))


def with_flags(message: str) -> str:
    """Write arguments in backticks as flags; other words in backticks stay as they are.

    `` `assume_hu` `` and `` `assume_hu=True` `` become ``--assume_hu``, `` `limit_noise=False` ``
    ``--no_limit_noise``, `` `format=nifti` `` ``--format nifti``.
    """
    return re.sub(r"`(\w+)(?:=([^`\s]+))?`", _flag, message)


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell in {"–", "-"} or cell.replace(".", "", 1).lstrip("+-−").isdigit())


def _flag(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name not in FIELDS and name not in OTHER_NAMES:
        return match[0]
    name = OTHER_NAMES.get(name, name)
    if value == "False":
        return f"--no_{name}"
    return f"--{name}" if value in {None, "True"} else f"--{name} {value}"
