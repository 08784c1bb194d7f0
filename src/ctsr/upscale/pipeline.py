"""Three stages at once: while one slice is computed, the next is read and the one before is written."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["pipelined"]

Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")


def pipelined(
    count: int, read: Callable[[int], Read], make: Callable[[Read], Made], write: Callable[[int, Made], Written]
) -> Iterator[Written]:
    """What `write` gave for items 0 … `count` − 1, in order; at most one item is in each stage.

    `read` and `write` run in a thread of their own each, `make` in the caller's. An error in any stage is raised here.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        going: Future[Written] | None = None
        coming = reader.submit(read, 0) if count else None
        for index in range(count):
            assert coming is not None, "there is one for every index below `count`"
            item = coming.result()
            coming = reader.submit(read, index + 1) if index + 1 < count else None
            made = make(item)
            if going is not None:
                yield going.result()
            going = writer.submit(write, index, made)
        if going is not None:
            yield going.result()
