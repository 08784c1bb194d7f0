"""Chunks of work over processes here or the workers of a dask scheduler, in order: results depend on neither.

`pipelined` reads, computes and writes at once in threads.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from ctsr.errors import CtsrError, UsageError
from ctsr.reporting import one_line

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")
Read = TypeVar("Read")
Computed = TypeVar("Computed")
Written = TypeVar("Written")

ENDED_TWICE = (
    "the process that worked on it was killed twice, the second time with nothing running beside it, most likely "
    "for lack of memory; free some, and run the same command again"
)

WAIT_S = 10.0
"""For a scheduler to answer, and for a first worker to be there."""
CHECK_S = 5.0
"""Between looks at whether a cluster still has workers."""
WITHOUT_WORKERS_S = 60.0
"""For which a cluster may be without any: schedulers of computing centres replace them."""
START_AGAIN = "start the cluster again and give the same command: it continues where it stopped"


def available_cores() -> int:
    """Cores this process may use; fewer than the machine's in a container or a cluster job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(jobs: int) -> int | None:
    """The share of the cores of each of `jobs` processes; None, to leave it to the libraries, where there is one."""
    return max(1, available_cores() // jobs) if jobs > 1 else None


class LostError(CtsrError):
    """A piece of work took down whoever tried it."""


class Processes(Executor):
    """Processes on this machine; when one ends in the middle of its work, others take the place of all."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._others = set(multiprocessing.active_children())
        self._executor = _started(workers)

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """As every executor does."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As every executor does."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)

    def each_in_order(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result | LostError]:
        """Yield the result of `work` for each item, in order; an item that is lost does not stop the others.

        When a process ends, it is unknown which item ended it. Each that was under way is tried once more with nothing
        beside it, and is lost where its process ends again.
        """
        todo = deque(enumerate(items))
        running: dict[Future[Result | LostError], tuple[int, Item]] = {}
        done: dict[int, Future[Result | LostError]] = {}
        for number in range(len(todo)):
            while number not in done:
                for future in self._finished(work, todo, running):
                    index, item = running.pop(future)
                    done[index] = self._alone(work, item) if _is_broken(future) else future
            yield done.pop(number).result()

    def end(self) -> None:
        """End the processes in the middle of what they do."""
        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()

    def _finished(
        self,
        work: Callable[[Item], Result | LostError],
        todo: deque[tuple[int, Item]],
        running: dict[Future[Result | LostError], tuple[int, Item]],
    ) -> set[Future[Result | LostError]]:
        """What is finished next; where a process has ended, all that was under way."""
        try:
            while todo and len(running) <= self._workers:  # one more, ready for the first that has nothing to do
                running[self.submit(work, todo[0][1])] = todo[0]
                todo.popleft()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            if not any(map(_is_broken, finished)):
                return finished
        except BrokenProcessPool:  # one ended that had nothing to do
            pass
        finished, _ = wait(running)
        self._renew()
        return finished

    def _alone(self, work: Callable[[Item], Result | LostError], item: Item) -> Future[Result | LostError]:
        future = self.submit(work, item)
        wait([future])
        if not _is_broken(future):
            return future
        self._renew()
        lost: Future[Result | LostError] = Future()
        lost.set_result(LostError(ENDED_TWICE))
        return lost

    def _renew(self) -> None:
        self._executor.shutdown()
        self._executor = _started(self._workers)


@contextmanager
def pool(workers: int) -> Generator[Processes | None]:
    """Processes for `in_order`; None, to work in this process, where `workers` is at most 1.

    When the block is left early, what has not begun is dropped; what has begun is waited for, but for an interruption,
    which ends it at once.

    Raises:
        CtsrError: a process was killed.
    """
    if workers <= 1:
        yield None
        return
    try:
        processes = Processes(workers)
        try:
            yield processes
        except KeyboardInterrupt:
            processes.end()
            raise
        finally:
            processes.shutdown(cancel_futures=True)
    except BrokenProcessPool as error:
        raise CtsrError(
            "a worker process was killed, most likely for lack of memory; free some, or ask for fewer "
            "`jobs` where there are any, and run the same command again: it continues where it stopped"
        ) from error


def in_order(work: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None) -> Iterator[Result]:
    """The result of `work` for each item, in the items' order whatever the number of processes."""
    return map(work, items) if executor is None else executor.map(work, items)


@contextmanager
def executor_for(jobs: int, dask: str | None = None) -> Generator[Executor | None]:
    """As `ctsr.pool.pool`: an executor of `jobs` processes, or of all workers of a dask scheduler.

    The workers of a cluster see the same files under the same absolute paths, and have the same ctsr. A worker that
    dies is done without: what it had not finished goes to the others.

    Args:
        jobs: processes here; 1 yields None, to work in this process.
        dask: address of a scheduler, ``tcp://host:8786``, whose workers take the place of processes here.

    Raises:
        UsageError: fewer than one process, or several and a scheduler as well; or dask is not installed.
        CtsrError: no scheduler or no worker answers; a local process was killed.
    """
    if jobs < 1:
        raise UsageError(f"`jobs` must be at least 1, got {jobs}")
    if dask is not None and jobs > 1:
        raise UsageError("`jobs` counts processes here, `dask` takes the workers of a cluster: choose one of them")
    if dask is None:
        with pool(jobs) as executor:
            yield executor
        return
    if find_spec("distributed") is None:
        raise UsageError("`dask` needs dask.distributed: pip install '.[cluster]' in its source folder")
    client = _connected(dask)
    try:
        yield _Cluster(client, dask)
    except _killed() as error:
        raise _lost(error) from error
    except (CancelledError, *_disconnected()) as error:
        raise CtsrError(
            f"`dask` {dask}: the scheduler has gone ({one_line(error) or type(error).__name__}); {START_AGAIN}"
        ) from error
    finally:
        client.close()


def each_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], executor: Executor
) -> Iterator[Result | LostError]:
    """Yield the result of `work` for each item, in order; an item that is lost does not stop the others."""
    if isinstance(executor, Processes):
        yield from executor.each_in_order(work, items)
        return
    for future in [executor.submit(work, item) for item in items]:
        try:
            yield executor.result(future) if isinstance(executor, _Cluster) else future.result()
        except _killed() as error:
            yield _lost(error)


class _Cluster(Executor):
    """The workers of a dask scheduler. Waiting for a result ends with an error when no workers are left.

    dask itself keeps work without workers until new ones come, for ever if need be.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._executor: Executor = client.get_executor(pure=False)
        self._address = address
        self._last_seen = time.monotonic()

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """As every executor does."""
        return self._executor.submit(fn, *args, **kwargs)

    def map(
        self, fn: Callable[..., Result], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Result]:
        """As every executor does, but for `timeout` and `chunksize`, which mean nothing here."""
        del timeout, chunksize
        futures = [self.submit(fn, *items) for items in zip(*iterables, strict=False)]
        try:
            for future in futures:
                yield self.result(future)
        finally:
            for future in futures:
                future.cancel()

    def result(self, future: Future[Result]) -> Result:
        """The future's result.

        Raises:
            CtsrError: there was no worker for `WITHOUT_WORKERS_S`.
        """
        while not wait([future], timeout=CHECK_S).done:
            if self._client.scheduler_info().get("workers"):  # nothing at all while the scheduler goes
                self._last_seen = time.monotonic()
            elif time.monotonic() - self._last_seen > WITHOUT_WORKERS_S:
                raise CtsrError(f"`dask` {self._address}: no worker is left; {START_AGAIN}")
        self._last_seen = time.monotonic()
        return future.result()


def _started(workers: int) -> ProcessPoolExecutor:
    # A fork copies the locks of the caller's other threads as they are, held or not; without any it is safe, and
    # saves each process half a second of imports. Python does not count the threads that PyTorch starts for itself
    # (OpenMP's, CUDA's, autograd's), nor does a child survive what they leave behind: with PyTorch there, no fork.
    alone = sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules
    context = multiprocessing.get_context("fork" if alone else "spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    # Processes start with the first task: now, before a progress bar's thread does.
    executor.submit(int).result()
    return executor


def _is_broken(future: Future[Any]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


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


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        client = Client(address, timeout=WAIT_S)
        client.wait_for_workers(1, timeout=WAIT_S)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise CtsrError(
            f"`dask` {address}: no scheduler with a worker answers ({one_line(error)}); "
            "start them with `dask scheduler` and `dask worker ADDRESS`"
        ) from error
    return client


def _lost(error: Exception) -> LostError:
    return LostError(f"every worker that took it died, most likely for lack of memory: {one_line(error)}")


def _disconnected() -> tuple[type[Exception], ...]:
    if find_spec("distributed") is None:
        return ()
    from distributed.comm.core import CommClosedError

    return (CommClosedError,)


def _killed() -> tuple[type[Exception], ...]:
    if find_spec("distributed") is None:
        return ()
    from distributed import KilledWorker

    return (KilledWorker,)


def pipelined(
    count: int, read: Callable[[int], Read], make: Callable[[Read], Computed], write: Callable[[int, Computed], Written]
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
