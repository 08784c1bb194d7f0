"""Where chunks of work go: processes here, or the workers of a dask scheduler; the same interface for both."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

from ctsr.errors import CtsrError, UsageError
from ctsr.pool import LostError, Processes, pool
from ctsr.text import one_line

__all__ = ["LostError", "each_in_order", "executor_for"]

WAIT_S = 10.0
"""For a scheduler to answer, and for a first worker to be there."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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
        yield client.get_executor(pure=False)
    except _killed() as error:
        raise _lost(error) from error
    finally:
        client.close()


def each_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], executor: Executor
) -> Iterator[Result | LostError]:
    """The result of `work` for each item in the items' order, or that it was lost; one does not stop the others."""
    if isinstance(executor, Processes):
        yield from executor.each_in_order(work, items)
        return
    for future in [executor.submit(work, item) for item in items]:
        try:
            yield future.result()
        except _killed() as error:
            yield _lost(error)


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


def _killed() -> tuple[type[Exception], ...]:
    if find_spec("distributed") is None:
        return ()
    from distributed import KilledWorker

    return (KilledWorker,)
