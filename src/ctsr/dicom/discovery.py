"""Find DICOM files by what they hold, never by their name, and tell whose they are."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom.tag import BaseTag

from ctsr.dicom.reading import quiet, read_header
from ctsr.errors import ReadError, boundary

HEAD_BYTES = 512
"""How much of a file `looks_like_dicom` wants to see."""

PREAMBLE_BYTES = 128
PATIENT_ID = BaseTag(0x00100020)
FIRST_GROUPS = {b"\x02\x00", b"\x08\x00", b"\x00\x08"}
"""Group numbers a data set without a preamble starts with: 0002 or 0008, little endian or big."""


def files_below(folder: Path, *, on_error: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Every file below `folder` in plain string order; hidden files and folders are not looked at.

    Symbolic links are followed, each real folder once.

    Args:
        folder: where to look.
        on_error: called for each folder that cannot be read, which is then skipped.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            # Opening a pipe would wait for a writer for ever. What cannot be looked at is reported when it is read.
            if not name.startswith(".") and not is_special(path):
                yield path


def is_special(path: Path) -> bool:
    """True for a pipe, socket or device: nothing that exams are stored in."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def looks_like_dicom(head: bytes) -> bool:
    """True for the first `HEAD_BYTES` of a DICOM file, and of a data set that was stored without its preamble."""
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return True
    return head[:2] in FIRST_GROUPS and _holds_an_element(head)


def _holds_an_element(head: bytes) -> bool:
    """The first element has a known VR, or (implicit VR) a length that stays small: identifying groups are short."""
    vr = head[4:6]
    if vr.isalpha() and vr.isupper():
        return True
    return head[:2] != b"\x00\x08" and 0 < int.from_bytes(head[4:8], "little") <= HEAD_BYTES


def patient_id_in(path: Path) -> str:
    """The header's PatientID; empty where there is none, or the file is no DICOM."""
    try:
        with path.open("rb") as file, quiet(), boundary(str(path)):
            if not looks_like_dicom(file.read(HEAD_BYTES)):
                return ""
            file.seek(0)
            header = read_header(file, [PATIENT_ID])
            return str(header.get("PatientID", "") or "").strip()
    except (ReadError, OSError):
        return ""
