"""Places on this machine: paths as people type them, and the user's cache of what can be made again.

A cache that cannot be written is no reason to stop: a private folder among the temporary files takes over.
"""

import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import platformdirs

from ctsr.errors import MissingInputError, UsageError
from ctsr.reporting import SILENT, Progress

WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:|\\\\")
"""How a path starts that names a drive or a network share."""


@dataclass(frozen=True)
class FoundPath:
    """Something that exists, and what the user should be told about how it was found."""

    path: Path
    note: str = ""
    """One line, empty when the path was taken as it was typed."""


def resolve_path(text: str | Path, *, base: Path = Path(), progress: Progress = SILENT) -> Path:
    """The existing file or folder that `text` means; see `find_path`. A guess is said through `progress`.

    Raises:
        MissingInputError: there is none.
    """
    found = find_path(text, base=base)
    if found.note:
        progress.note(found.note)
    return found.path


def find_path(text: str | Path, *, base: Path = Path()) -> FoundPath:
    r"""The existing file or folder that `text`, relative to `base`, means.

    Tried in this order: the text as it is (``~`` is the home folder); with ``\\`` as separator; without leading folders
    that `base` already lies in (``ESRGAN\splits\x`` inside ``ESRGAN``); with separators put back that a shell ate
    (``finetune_outputsbest.pth``).

    Raises:
        MissingInputError: there is none, several fit, or the path is an absolute one of a Windows machine that this
            is not.
    """
    if found := search_path(text, base=base):
        return found
    places = " or ".join(dict.fromkeys(str(path.absolute()) for path in _spellings(text, base)))
    raise MissingInputError(f"{text}: no such file or folder; looked in {places}")


def search_path(text: str | Path, *, base: Path = Path()) -> FoundPath | None:
    """As `find_path`, but None where there is nothing of that name.

    Raises:
        MissingInputError: several fit, the text is empty, or the path is an absolute one of a Windows machine that
            this is not.
    """
    if not str(text):
        raise MissingInputError("an empty path was given; name a file or a folder")
    literal = base / _at_home(text)
    if literal.exists():
        return FoundPath(literal)
    for path in _spellings(text, base):
        if path.exists():
            return FoundPath(path)
    matches = sorted(_matches_ignoring_separators(native_path(text), base))
    if len(matches) > 1:
        several = ", ".join(map(str, matches))
        raise MissingInputError(f"{text} could be any of {several}; write it with / between the folders")
    if not matches:
        return None
    lost = f"{text} is taken for {matches[0]}: the separators were lost, quote the path to keep them"
    return FoundPath(matches[0], lost)


def native_path(text: str | Path) -> Path:
    r"""The path with this system's separators: ``runs\x`` → ``runs/x``. It need not exist.

    Raises:
        MissingInputError: it names a Windows drive or share, and this is another system.
    """
    spelled = str(text)
    if os.sep == "\\":
        return _at_home(spelled)
    if WINDOWS_ABSOLUTE.match(spelled):
        raise MissingInputError(f"{spelled} is an absolute Windows path; give the path on this machine")
    return _at_home(spelled.replace("\\", "/"))


def _at_home(text: str | Path) -> Path:
    """The path, a leading ``~`` replaced by the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise MissingInputError(f"{text}: this user has no home folder; write the path without ~") from error


def check_apart(source: Path, target: Path) -> None:
    """Refuse an output that lies in its input or around it; neither need exist.

    Raises:
        UsageError: originals and results would mix.
    """
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UsageError(
            f"the output {target} and the input {source} are inside one another: originals and results would mix; "
            "choose a separate folder"
        )


_claimed: dict[Path, BinaryIO] = {}
"""Lock files that this process holds."""


def claim(lock: Path, problem: str) -> None:
    """Keep out other processes that claim `lock`, until `release` or the end of this process, however it ends.

    Args:
        lock: a file in a folder that exists; made where it is missing, and left there.
        problem: what the others are told: `runs/one: another training writes into it now`.

    Raises:
        UsageError: another process has it.
    """
    if sys.platform == "win32":
        return
    import fcntl  # there is none on Windows

    lock = lock.resolve()
    if lock in _claimed:
        return
    file = lock.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UsageError(f"{problem}; wait for it, or name another folder") from error
    except OSError:  # a file system that knows no locks
        file.close()
        return
    _claimed[lock] = file


def release(lock: Path) -> None:
    """End what `claim` began."""
    if file := _claimed.pop(lock.resolve(), None):
        file.close()


def check_free(target: Path, *models: Path, overwrite: bool = False) -> None:
    """Refuse to write over a model that is read, and over any other file unless that was asked for.

    Args:
        target: the file to write; need not exist.
        models: the files that are read; need not exist.
        overwrite: whether another file may be replaced.

    Raises:
        UsageError: it must stay as it is.
    """
    if not target.exists():
        return
    if any(model.exists() and target.samefile(model) for model in models):
        raise UsageError(f"{target} is the model itself, which would be overwritten; choose another `out`")
    if not overwrite:
        raise UsageError(f"{target} already exists; pass `overwrite=True` to replace it, or choose another `out`")


def _spellings(text: str | Path, base: Path) -> list[Path]:
    """What the text may mean below `base`, its separators taken as they are."""
    native = native_path(text)
    return [base / native, *(base / tail for tail in _tails_inside(native, base))]


def _tails_inside(path: Path, base: Path) -> Iterator[Path]:
    """What is left of `path` when its first folders are the last ones of `base`, longest overlap first."""
    if path.is_absolute():
        return
    here = base.absolute().parts
    for count in range(len(path.parts) - 1, 0, -1):
        if here[-count:] == path.parts[:count]:
            yield Path(*path.parts[count:])


def _matches_ignoring_separators(path: Path, base: Path) -> set[Path]:
    if path.is_absolute():
        return set()
    letters = "".join(path.parts)
    own_name = base.absolute().name
    return {*_descend(base, letters), *_descend(base, letters.removeprefix(own_name))}


def _descend(folder: Path, letters: str) -> Iterator[Path]:
    """Everything below `folder` whose relative path, separators left out, reads `letters`."""
    if not letters or not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.name == letters:
            yield child
        elif letters.startswith(child.name):
            yield from _descend(child, letters.removeprefix(child.name))


VARIABLE = "CTSR_CACHE"
"""Environment variable that names the cache folder; `cache_dir` of every command sets it."""
PRIVATE_MODE = 0o700
"""Mode of folders that hold pixels of patients: for the user only."""
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
        unused_days: keep what was written or read within this many days.

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
