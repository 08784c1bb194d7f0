"""Where an evaluation's results go, and how one that was interrupted is found again."""

import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from ctsr.files import new_folder, write_json

__all__ = ["ResultFolder", "result_folder"]

MARKER = ".unfinished.json"
QUIET_S = 600.0
"""A run on another computer that has written nothing for so long is taken to be dead."""


@dataclass
class ResultFolder:
    """``eval_results/<stem>__<timestamp>/``; unfinished as long as it holds a marker."""

    path: Path
    continued: bool
    """It holds rows of an interrupted evaluation of the same model, settings and slices."""
    finished: bool = True
    """Whether nothing is left to do when the block ends well: set to False where slices are missing."""

    @property
    def metrics_csv(self) -> Path:
        """One row for each slice and method."""
        return self.path / "metrics.csv"

    @property
    def summary_json(self) -> Path:
        """Statistics, settings and the degradations that were drawn."""
        return self.path / "summary.json"

    @property
    def config_json(self) -> Path:
        """The settings as `--config` reads them."""
        return self.path / "config.json"

    @property
    def report_html(self) -> Path:
        """All of it as one page."""
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        """The pictures."""
        return self.path / "plots"


@dataclass(frozen=True)
class Marker:
    """Left in a folder while it is being filled: for what, and by which process."""

    fingerprint: str
    host: str = ""
    pid: int = 0
    started: float = 0.0
    """When the process began; a process id by itself is used again."""

    @classmethod
    def of_this_process(cls, fingerprint: str) -> "Marker":
        """Held by us."""
        return cls(fingerprint, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, folder: Path) -> "Marker | None":
        """The marker in `folder`; None where there is none, or none of ours."""
        try:
            found: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            return cls(**found)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Put it into `folder`."""
        write_json(folder / MARKER, asdict(self))

    def is_held(self, folder: Path) -> bool:
        """Whether somebody is filling the folder at this moment."""
        if not self.pid:
            return False
        if self.host != socket.gethostname():
            return time.time() - max(file.stat().st_mtime for file in folder.iterdir()) < QUIET_S
        try:
            return psutil.Process(self.pid).create_time() == self.started
        except psutil.Error:
            return False


@contextmanager
def result_folder(output_dir: Path, stem: str, fingerprint: str) -> Generator[ResultFolder]:
    """An unfinished folder with the same fingerprint, or a new one; ours until the block ends.

    When the block ends well the folder is finished, unless it says that it is not. The next evaluation of the same
    thing continues one that is not.
    """
    folder = _unfinished(output_dir, stem, fingerprint)
    if folder is None:
        folder = ResultFolder(new_folder(output_dir, f"{stem}__"), continued=False)
    Marker.of_this_process(fingerprint).write(folder.path)
    try:
        yield folder
    finally:
        Marker(fingerprint).write(folder.path)
    if folder.finished:
        (folder.path / MARKER).unlink()


def _unfinished(output_dir: Path, stem: str, fingerprint: str) -> ResultFolder | None:
    for path in sorted(output_dir.glob(f"{stem}__*"), reverse=True):
        marker = Marker.read(path)
        if marker and marker.fingerprint == fingerprint and not marker.is_held(path):
            return ResultFolder(path, continued=(path / "metrics.csv").is_file())
    return None
