"""Files that are whole or not there, written under a temporary name and moved; zip archives, unpacked while read.

An archive is unpacked into a private folder, and refused whole where a member would leave that folder, is a link, is
encrypted, or is a zip bomb.
"""

import errno
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import psutil

from ctsr.errors import CtsrError, DiskFullError, ReadError, UsageError, boundary
from ctsr.hashing import digest
from ctsr.reporting import SILENT, Progress, size

STAMP = "%Y%m%d-%H%M%S"
"""How the names of result folders tell their time."""
PART = ".part"
TEMPORARY = re.compile(rf"\.(?P<name>.+)\.[a-z0-9_]{{8}}\.(?P<place>[0-9a-f]{{6}})-(?P<pid>\d+){re.escape(PART)}")
"""A name under which something is written: the final one, mkdtemp's letters, and who writes."""
LONGEST_NAME_BYTES = 200
"""Most bytes of a final name within a temporary one: file systems allow 255 bytes in all."""
GIVEN_UP_S = 86_400.0
"""Seconds after which what another machine was writing is taken for left behind."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system answers where there is no room: disk, quota, largest file."""
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What it answers where this user may not write, or nobody."""
OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
"""Names of what a process has open already: links that lead to whatever a shell has put there, a file as well."""
ROOM_PAUSE_S = 30.0
"""Seconds before something is tried again for which the disk had no room."""
NO_ROOM_BYTES = 1 << 16
"""Less is free where a library failed on a full disk and does not say so."""

T = TypeVar("T")


@contextmanager
def atomic_path(final: Path, *, durable: bool = True) -> Generator[Path]:
    """A temporary name in the folder of `final`; moved over `final` when the block ends well, else removed.

    What was written reaches the disk before the name changes, so that not even a power cut leaves half a file. Who
    writes thousands and can tell a cut one from a whole one does without that wait: `durable=False`.

    Raises:
        UsageError: `final` is a pipe, socket or device.
    """
    if is_special(final):
        raise UsageError(f"{final}: it is a pipe, socket or device, not a file; name a file")
    with naming_full_disk(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{_shortened(final.name)}.", suffix=_mark(), dir=final.parent)
    os.close(handle)
    part = Path(name)
    try:
        with naming_full_disk(final):
            yield part
            if durable:
                _to_disk(part)
        _share(part, 0o666)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path, *, replace: bool = False) -> Generator[Path]:
    """A temporary folder beside `final`, which it becomes when the block ends well; else it is removed.

    Where `final` is there already, because another process was faster, that folder stays; with `replace` it goes.
    """
    with naming_full_disk(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{_shortened(final.name)}.", suffix=_mark(), dir=final.parent))
    try:
        with naming_full_disk(final):
            yield part
        _share(part, 0o777)
        if replace and final.is_dir():
            _swap(part, final)
            return
        try:
            part.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(part: Path, final: Path) -> None:
    """Put a folder in another's place; the name is free for no longer than two renames take."""
    with temporary_folder(final) as old:
        final.rename(old / final.name)
        try:
            part.rename(final)
        except OSError:
            (old / final.name).rename(final)
            raise


@contextmanager
def temporary_folder(final: Path) -> Generator[Path]:
    """A folder beside `final`, for what is to be moved there; removed in the end."""
    with naming_full_disk(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{_shortened(final.name)}."
        with tempfile.TemporaryDirectory(prefix=prefix, suffix=_mark(), dir=final.parent) as name:
            yield Path(name)


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what writers in `folder` left behind when they were killed; what may still be written stays.

    Args:
        folder: need not exist.
        name: of the final file or folder; all when None.
    """
    # `os.path.isdir` is False for a path that is too long as well, where `Path.glob` raises.
    if not os.path.isdir(folder):  # noqa: PTH112
        return
    wanted = None if name is None else _shortened(name)
    for part in folder.glob(f".*{PART}"):
        if (match := TEMPORARY.fullmatch(part.name)) and wanted in {None, match["name"]}:
            with suppress(FileNotFoundError):  # another process clears as well
                if _is_abandoned(part, match["place"], match["pid"]):
                    shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink()


def _is_abandoned(part: Path, place: str, pid: str) -> bool:
    """Whoever writes here is asked for; of others, in another place, only time can tell."""
    if place == _place():
        try:
            return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE  # killed, but not yet buried by its parent
        except psutil.NoSuchProcess:
            return True
    return time.time() - part.stat().st_mtime > GIVEN_UP_S


def _shortened(name: str) -> str:
    """A name that leaves room for what a temporary name adds, still another for every other name."""
    if len(os.fsencode(name)) <= LONGEST_NAME_BYTES:
        return name
    return f"{name[: LONGEST_NAME_BYTES // 4]}~{digest(name, size=6).hex()}"


def _mark() -> str:
    """The end of a temporary name: who writes it."""
    return f".{_place()}-{os.getpid()}{PART}"


@lru_cache(maxsize=1)
def _place() -> str:
    """Where a process number means this process: the machine, and on Linux the container."""
    namespace = Path("/proc/self/ns/pid")
    inside = namespace.stat().st_ino if namespace.exists() else 0
    return digest(platform.node(), inside, size=3).hex()


def is_special(path: Path) -> bool:
    """True for a pipe, socket or device: nothing that keeps what is written into it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_atomically(final: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a whole file, text as UTF-8 with the newlines given; `durable` as for `atomic_path`."""
    encoded = content.encode("utf-8") if isinstance(content, str) else content
    # /dev/stdout, or a pipe to another program: moving a file there would take its place.
    if is_special(final) or str(final).startswith(OPEN_FILES):
        with naming_full_disk(final), final.open("ab") as opened:
            opened.write(encoded)
        return
    with atomic_path(final, durable=durable) as part:
        part.write_bytes(encoded)


def to_json(document: object) -> str:
    """Strict JSON, paths as text: a NaN or an infinity is a programming error, not a word in the file."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    # A path may have bytes that are no UTF-8: lone surrogates in Python, and escapes in JSON, which read back as such.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(final: Path, document: object) -> None:
    """Write a whole file of `to_json`."""
    write_atomically(final, to_json(document))


def check_disk_space(folder: Path, num_slices: int, num_bytes: int, progress: Progress = SILENT) -> None:
    """Say what is about to be written, and refuse what the disk cannot hold; `folder` need not exist yet.

    Raises:
        DiskFullError: there is less room than `num_bytes`.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    progress.note(f"{num_slices} slices to write into {folder}: about {size(num_bytes)}, of {size(free)} free")
    if num_bytes > free:
        raise DiskFullError(
            f"{folder}: {num_slices} slices need about {size(num_bytes)}, but only {size(free)} are free; "
            "make room, or choose another folder for the result"
        )


def new_folder(parent: Path, prefix: str) -> Path:
    """Make ``<parent>/<prefix><YYYYmmdd-HHMMSS>``, local time; the second in the same second waits for the next one."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / f"{prefix}{time.strftime(STAMP)}"
        try:
            folder.mkdir()
        except FileExistsError:
            time.sleep(0.2)
        else:
            return folder


def file_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns: other numbers, another file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def cached_by_file(maxsize: int) -> Callable[[Callable[[Path], T]], Callable[[Path], T]]:
    """Keep what a function gave for its last `maxsize` files; one that was replaced since is read again."""

    def decorate(read: Callable[[Path], T]) -> Callable[[Path], T]:
        @lru_cache(maxsize)
        def kept(path: Path, _state: tuple[int, int]) -> T:
            return read(path)

        @wraps(read)
        def current(path: Path) -> T:
            return kept(path, file_state(path))

        return current

    return decorate


@contextmanager
def naming_full_disk(final: Path) -> Generator[None]:
    """Name the file or folder for which the disk has no room left, and say what to do.

    A file that cannot be written is called by the name that the user knows, not by its temporary one.

    Raises:
        DiskFullError: the block failed, and there is no room.
    """
    try:
        yield
    except Exception as error:  # PyTorch, NumPy and safetensors each have errors of their own for a full disk
        if isinstance(error, OSError) and error.errno in REFUSED and PART in str(error.filename):
            error.filename = str(final)
            raise
        if isinstance(error, CtsrError) or not _is_full(error, final):
            raise
        free = _free_bytes(final)
        raise DiskFullError(
            f"{final}: no room left to write it, {size(free)} are free there; make room, or choose another folder"
        ) from error


def _to_disk(part: Path) -> None:
    """Wait until a file is on the disk, where its file system knows such a wait."""
    with part.open("rb+") as written:
        try:
            os.fsync(written.fileno())
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise


def _is_full(error: Exception, final: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if os.strerror(errno.ENOSPC) in str(error):  # of a library in Rust, whose errors have no number
        return True
    return isinstance(error, OSError | RuntimeError | ValueError) and _free_bytes(final) < NO_ROOM_BYTES


def _free_bytes(final: Path) -> int:
    folder = next(parent for parent in (final.absolute(), *final.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(folder).free


def _share(part: Path, mode: int) -> None:
    """Give what is finished the permissions of any other file of the user's: temporary ones are private."""
    # SMB and S3 mounts and exFAT refuse, and have no permissions that would matter.
    with suppress(OSError):
        part.chmod(mode & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


SUFFIX = ".zip"
MOST_MEMBERS = 200_000
"""Files in an archive: a thousand series of 200 slices."""
FREE_OF_DOUBT_BYTES = 1 << 30
MOST_EXPANSION = 100
"""Times its own size that an archive may unpack to beyond `FREE_OF_DOUBT_BYTES`. CT compresses two- to fourfold, blank
slices some hundredfold."""
ENCRYPTED = 0x1
"""Bit of a member's flags."""
COPY_BYTES = 1 << 20
REMEDY = "unpack it by hand, look at what is in it, and give the folder"


@contextmanager
def unpacked(path: Path, *, progress: Progress = SILENT) -> Generator[Path]:
    """Yield a folder with the content of a zip archive, removed in the end; any other path is yielded as it is.

    The folder has the archive's name without its ending, so that a lone patient or series is called after it. Where
    the archive holds a single folder of that name, as file managers make them, it is that folder.

    Raises:
        ReadError: the archive is damaged, encrypted, larger than the disk, or made to do harm.
    """
    if path.suffix.lower() != SUFFIX or not path.is_file():
        yield path
        return
    # mkdtemp's folders are for the user's eyes only: these are pixels and headers of patients.
    with tempfile.TemporaryDirectory(prefix="ctsr-") as private:
        folder = Path(private) / (path.stem or "archive")
        with boundary(str(path), REMEDY), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(path, members, Path(private))
            folder.mkdir()
            files = [member for member in members if not member.is_dir()]
            for member in progress.track(files, total=len(files), what=f"Unpacking {path.name}"):
                _extract(archive, member, folder)
        own = folder / folder.name
        yield own if own.is_dir() and list(folder.iterdir()) == [own] else folder


def _check(path: Path, members: Sequence[zipfile.ZipInfo], room: Path) -> None:
    """Refuse what must not be unpacked, before anything is written."""
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS:
        raise ReadError(f"{path}: holds {len(members)} files, more than {MOST_MEMBERS}; {REMEDY}")
    if total > max(FREE_OF_DOUBT_BYTES, MOST_EXPANSION * path.stat().st_size):
        raise ReadError(
            f"{path}: {size(path.stat().st_size)} would unpack to {size(total)}, as a zip bomb does; {REMEDY}"
        )
    free = shutil.disk_usage(room).free
    if total > free:
        raise ReadError(
            f"{path}: unpacks to {size(total)}, but only {size(free)} are free in {room.parent}; "
            "make room, or name another place in TMPDIR"
        )
    seen: set[str] = set()
    for member in members:
        _check_member(path, member)
        if not member.is_dir() and member.filename.casefold() in seen:
            raise ReadError(f"{path}: {member.filename!r} occurs twice; {REMEDY}")
        seen.add(member.filename.casefold())


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or PureWindowsPath(name).drive or ".." in inside.parts:
        raise ReadError(f"{path}: {name!r} would be written outside of the folder it is unpacked into; {REMEDY}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise ReadError(f"{path}: {name!r} is a link or a device, not a file; {REMEDY}")
    if member.flag_bits & ENCRYPTED:
        raise ReadError(f"{path}: {name!r} is encrypted; unpack it with its password, and give the folder")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member; `zipfile` stops at the size that was declared, and checks the CRC."""
    target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(target), archive.open(member) as source:
        # A file that is there already is another spelling of this name: never written over.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as written:
            shutil.copyfileobj(source, written, COPY_BYTES)
    # Work that is resumed knows its sources by size and time of change.
    changed = time.mktime((*member.date_time, 0, 0, -1))
    os.utime(target, (changed, changed))
