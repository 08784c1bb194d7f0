"""Zip archives of exams: unpacked into a private temporary folder for as long as they are read.

An archive is refused whole where a member would leave that folder, is a link, is encrypted, or is a zip bomb.
"""

import os
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from ctsr.errors import ReadError, boundary
from ctsr.files import naming_full_disk
from ctsr.progress import SILENT, Progress
from ctsr.text import size

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
