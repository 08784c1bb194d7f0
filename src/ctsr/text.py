"""Numbers, lists and messages as text for people."""

import re
from collections.abc import Sequence

__all__ = ["duration", "listed", "one_line", "printable", "safe_name", "size"]


def size(num_bytes: float) -> str:
    """`1.46 GiB`, or `12.3 MiB` below one."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """In milliseconds, seconds, minutes or hours, whichever reads best."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(message: object) -> str:
    """A message without its line breaks, those of libraries often have some; `printable`."""
    return printable(" ".join(str(message).split()))


def safe_name(text: str) -> str:
    """`text` with what a file name on some system cannot hold, or a glob would read, replaced by ``_``."""
    return re.sub(r"[^\w.+-]", "_", text)


def printable(text: str) -> str:
    r"""Text that holds a file name, so that it can be written as UTF-8: a byte that was none reads as `\xfc`."""
    # Python keeps such a byte as the lone surrogate U+DCFC.
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\\udc", "\\x")
