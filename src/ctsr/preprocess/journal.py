"""What is finished: a line per written slice, so that a rerun, also after a crash, does only what is missing."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ctsr.files import file_state, write_atomically
from ctsr.hashing import digest

__all__ = ["Done", "Journal", "fingerprint"]

JOURNAL = Path(".ctsr") / "preprocess.jsonl"


@dataclass(frozen=True)
class Done:
    """One finished file."""

    output: str
    """Below the output folder, with forward slashes."""
    owner: str
    """The series it belongs to."""
    made_from: str
    """`fingerprint` of its source and settings."""
    size: int
    """Bytes."""


def fingerprint(source: Path, *settings: str) -> str:
    """A digest of a source file's size and time of change, and of whatever else decides what is made of it."""
    return digest(*file_state(source), *settings).hex()


class Journal:
    """The finished files of one output folder; a context in which lines are appended as slices get done."""

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self._path = out_dir / JOURNAL
        self._done = {entry.output: entry for entry in _read(self._path)}
        self._lines: IO[str] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()
        self._lines = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()

    def holds(self, output: str, made_from: str) -> bool:
        """True where `output` is there, whole, and made from just that."""
        entry = self._done.get(output)
        return entry is not None and entry.made_from == made_from and self._is_ours(entry)

    def add(self, entry: Done) -> None:
        """Remember a file that was just written."""
        assert self._lines is not None, "entries are added inside `with`"
        self._done[entry.output] = entry
        self._lines.write(json.dumps(asdict(entry)) + "\n")
        self._lines.flush()

    def outputs_of(self, owner: str) -> list[str]:
        """The finished files of one series."""
        return [entry.output for entry in self._done.values() if entry.owner == owner]

    def remove(self, outputs: Iterable[str]) -> int:
        """Delete files that an earlier run wrote and this one would not; returns how many there were.

        A file that is no longer as it was written belongs to somebody else, and stays.
        """
        removed = 0
        for output in outputs:
            entry = self._done.pop(output, None)
            if entry is not None and self._is_ours(entry):
                (self._out_dir / output).unlink()
                removed += 1
        return removed

    def _is_ours(self, entry: Done) -> bool:
        path = self._out_dir / entry.output
        return path.is_file() and path.stat().st_size == entry.size

    def _rewrite(self) -> None:
        """One line per file that is still there, where lines have been superseded or cut off by a crash."""
        content = "".join(json.dumps(asdict(entry)) + "\n" for entry in self._done.values())
        if not self._path.is_file() or self._path.read_text(encoding="utf-8", errors="replace") != content:
            write_atomically(self._path, content)


def _read(path: Path) -> list[Done]:
    """The entries of a journal; a line that a crash cut off counts for nothing."""
    if not path.is_file():
        return []
    entries: list[Done] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(Done(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return entries
