"""Files that are whole or not there: written under a temporary name beside the final one, then moved."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "write_atomically"]


@contextmanager
def atomic_path(final: Path, *, durable: bool = True) -> Generator[Path]:
    """A temporary name in the folder of `final`; moved over `final` when the block ends well, else removed.

    What was written reaches the disk before the name changes, so that not even a power cut leaves half a file. Who
    writes thousands and can tell a cut one from a whole one does without that wait: `durable=False`.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        if durable:
            with part.open("rb+") as written:
                os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(final: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a whole file, text as UTF-8 with the newlines given; `durable` as for `atomic_path`."""
    with atomic_path(final, durable=durable) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def _umask() -> int:
    # mkstemp makes files private; a result should be as readable as any other file the user writes.
    mask = os.umask(0)
    os.umask(mask)
    return mask
