"""`ctsr cache`."""

import time
from dataclasses import dataclass, field
from typing import Literal

import tyro

from ctsr.cache import PARTS, cache_place, cache_uses, clean
from ctsr.cli.console import NONE, Console
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.text import size


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Show what ctsr keeps between runs, or remove it. Everything but the weights is made again where it is missed.

    ctsr cache list

    ctsr cache clean                     (decoded series and converted networks)

    ctsr cache clean store --unused_days 30
    """

    action: tyro.conf.Positional[Literal["list", "clean"]]
    """What to do."""
    parts: tyro.conf.Positional[tuple[Literal["store", "engines", "weights"], ...]] = ()
    """What to remove; `clean` alone takes store (pixels of patients) and engines."""
    unused_days: float = 0.0
    """Leave what was used within so many days."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        if not self.unused_days >= 0:
            raise UsageError(f"--unused_days must not be negative, got {self.unused_days:g}")
        if self.action == "clean":
            for part in self.parts or ("store", "engines"):
                removed = clean(part, unused_days=self.unused_days)
                console.print(f"{part}: {size(removed)} removed")
            return 0
        rows = [
            (
                use.part,
                str(use.entries),
                size(use.num_bytes),
                NONE if use.last_change is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(use.last_change)),
                PARTS[use.part],
            )
            for use in cache_uses()
        ]
        console.table(f"Cache in {cache_place().folder}", ("part", "entries", "size", "newest", "what it is"), rows)
        return 0
