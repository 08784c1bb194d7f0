"""The user's cache: converted networks, decoded series, fetched weights; all of it can be removed at any time.

A place that cannot be written is no reason to stop: a private folder among the temporary files takes over.
"""

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

VARIABLE = "CTSR_CACHE"
"""Environment variable that names the cache folder; `cache_dir` of every command sets it."""
PRIVATE_MODE = 0o700
"""Of folders that hold pixels of patients: for the user's eyes only."""
DAY_S = 86_400.0

Part = Literal["store", "engines", "weights"]
PARTS: dict[Part, str] = {
    "store": "decoded series: pixels of patients, without their headers",
    "engines": "networks converted for OpenVINO",
    "weights": "fetched weights of VGG, AlexNet, LPIPS and NIQE",
}
"""The folders in the cache, and what is in them."""


@dataclass(frozen=True)
class CachePlace:
    """The cache folder, and what the user should be told about it."""

    folder: Path
    note: str = ""
    """One line where it is not the usual place."""


def cache_place() -> CachePlace:
    """Return the cache folder, private to the user; it exists and can be written.

    In this order: what the variable `CTSR_CACHE` names, the system's place for caches, a folder of the user's among
    the temporary files. A folder that was named keeps the permissions it has.
    """
    named = os.environ.get(VARIABLE, "")
    wanted = Path(named) if named else Path(platformdirs.user_cache_dir("ctsr"))
    # Without HOME and without an entry in passwd, the place begins with an unexpanded `~`.
    if (named or wanted.is_absolute()) and _is_usable(wanted, tighten=not named):
        return CachePlace(wanted.absolute())
    folder = _temporary()
    return CachePlace(
        folder, f"the cache {wanted} cannot be written: {folder} is used; `cache_dir` or {VARIABLE} names another"
    )


def secret_key() -> str:
    """Return a secret of this user's, made once: keeps what is anonymized on different days together.

    `ctsr cache clean` leaves it; where its file is removed, later results cannot be linked with earlier ones.
    """
    path = cache_place().folder / "anonymize.key"
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii")


def cache_folder(part: Part) -> Path:
    """Return the folder of one kind of cached files; it need not exist."""
    return cache_place().folder / part


@dataclass(frozen=True)
class CacheUse:
    """What one folder of the cache takes."""

    part: Part
    folder: Path
    entries: int
    num_bytes: int
    last_change: float | None
    """Seconds since the epoch; None where there is nothing."""


def cache_uses() -> Iterator[CacheUse]:
    """Measure every folder of the cache."""
    for part in PARTS:
        folder = cache_folder(part)
        entries = _entries(folder)
        states = [file.stat() for entry in entries for file in _files(entry)]
        changes = [state.st_mtime for state in states]
        yield CacheUse(part, folder, len(entries), sum(state.st_size for state in states), max(changes, default=None))


def clean(part: Part, *, unused_days: float = 0.0) -> int:
    """Remove what is in one folder of the cache, and return how many bytes that were.

    Args:
        part: which folder.
        unused_days: leave what was written or read less than so many days ago.

    Raises:
        OSError: something cannot be removed.
    """
    removed = 0
    newest = time.time() - unused_days * DAY_S
    for entry in _entries(cache_folder(part)):
        states = [file.stat() for file in _files(entry)]
        if unused_days and any(max(state.st_mtime, state.st_atime) > newest for state in states):
            continue
        removed += sum(state.st_size for state in states)
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return removed


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(entry: Path) -> list[Path]:
    found = entry.rglob("*") if entry.is_dir() and not entry.is_symlink() else iter((entry,))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _is_usable(folder: Path, *, tighten: bool) -> bool:
    """Whether files can be made in a folder; it is made, private, where it is missing."""
    try:
        if not folder.exists():
            folder.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
        # A file, not `os.access`: root may write anywhere by its permissions, and not on a read-only file system.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return False
    if tighten and stat.S_IMODE(folder.stat().st_mode) & ~PRIVATE_MODE:
        with suppress(OSError):  # made by an earlier version for everyone; not every file system has permissions
            folder.chmod(PRIVATE_MODE)
    return True


_made: list[Path] = []
"""The temporary folder of this process, where the name that all processes share was taken by somebody else."""


def _temporary() -> Path:
    """A private folder among the temporary files, the same for all processes of a user."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    shared = Path(tempfile.gettempdir()) / f"ctsr-cache-{user}"
    with suppress(FileExistsError):
        shared.mkdir(mode=PRIVATE_MODE)
    if _is_ours(shared):
        return shared
    # Others may write where temporary files lie: a folder or link of theirs must not receive pixels of patients.
    if not _made:
        _made.append(Path(tempfile.mkdtemp(prefix="ctsr-cache-")))
    return _made[0]


def _is_ours(folder: Path) -> bool:
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode):
        return False
    return not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o077)
