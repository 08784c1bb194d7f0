"""Chunks of work over processes, in order, so that the result does not depend on how many there are."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["available_cores", "in_order", "pool"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores this process may use; fewer than the machine's in a container or a cluster job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def pool(workers: int) -> Generator[Executor | None]:
    """Processes for `in_order`; None, to work in this process, where `workers` is at most 1.

    When the block is left early, what has not begun is dropped and what has begun is waited for.
    """
    if workers <= 1:
        yield None
        return
    # A fork copies the locks of the caller's other threads as they are, held or not; without any it is safe, and
    # saves each process half a second of imports.
    alone = sys.platform == "linux" and threading.active_count() == 1
    context = multiprocessing.get_context("fork" if alone else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start) as executor:
        executor.submit(
            int
        ).result()  # the processes start with the first task: now, before a progress bar's thread does
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None) -> Iterator[Result]:
    """The result of `work` for each item, in the items' order whatever the number of processes."""
    return map(work, items) if executor is None else executor.map(work, items)


def _start() -> None:
    """In each process: leave interruption to the parent, and end when the parent does, even when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Headers are thousands of small objects that live for one slice: looking through them for cycles takes longer
    # than resampling.
    gc.freeze()
    gc.set_threshold(100_000)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
