"""Chunks of work over processes, in order, so that the result does not depend on how many there are."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from ctsr.errors import CtsrError

__all__ = ["available_cores", "in_order", "pool", "threads_each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores this process may use; fewer than the machine's in a container or a cluster job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(jobs: int) -> int | None:
    """The share of the cores of each of `jobs` processes; None, to leave it to the libraries, where there is one."""
    return max(1, available_cores() // jobs) if jobs > 1 else None


@contextmanager
def pool(workers: int) -> Generator[Executor | None]:
    """Processes for `in_order`; None, to work in this process, where `workers` is at most 1.

    When the block is left early, what has not begun is dropped and what has begun is waited for.

    Raises:
        CtsrError: a process was killed.
    """
    if workers <= 1:
        yield None
        return
    # A fork copies the locks of the caller's other threads as they are, held or not; without any it is safe, and
    # saves each process half a second of imports. Python does not count the threads that PyTorch starts for itself
    # (OpenMP's, CUDA's, autograd's), nor does a child survive what they leave behind: with PyTorch there, no fork.
    alone = sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules
    context = multiprocessing.get_context("fork" if alone else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start) as executor:
        try:
            # Processes start with the first task: now, before a progress bar's thread does.
            executor.submit(int).result()
            yield executor
        except BrokenProcessPool as error:
            raise CtsrError(
                "a worker process was ended from outside, most likely for lack of memory; free some, or ask for fewer "
                "--workers where there are any, and run the same command again: it continues where it stopped"
            ) from error
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
