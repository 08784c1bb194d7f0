"""Slices through the models and on to the judge: while one is being measured, the next is being made."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.data.pairs import slice_pair
from ctsr.errors import CtsrError
from ctsr.evaluate.methods import reconstructions
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.rows import Row, SliceRef
from ctsr.pool import available_cores
from ctsr.text import one_line

__all__ = ["FAILURES", "Lost", "measured"]

AHEAD = 2
"""Slices that may wait for a thread: enough to keep it busy, few enough that memory does not grow with the series."""
FAILURES = (CtsrError, OSError, MemoryError, RuntimeError)
"""What one slice may end in without an end to the others; RuntimeError is PyTorch's, where memory does not suffice."""


@dataclass(frozen=True)
class Lost:
    """A slice without rows."""

    slice: SliceRef
    reason: str


def measured(plan: EvaluationPlan, wanted: Iterable[tuple[int, PlannedSlice]]) -> Iterator[list[Row] | Lost]:
    """The rows of each slice or why it has none, in the order of `wanted`, whatever the number of threads.

    Args:
        plan: settles everything.
        wanted: slices with their number in the plan.
    """
    judge = plan.judge
    methods = plan.methods

    def rows(number: int, planned: PlannedSlice, images: Tensor, hr_hu: npt.NDArray[np.floating]) -> list[Row]:
        found = judge(images, hr_hu, plan.left_out(number))
        return [
            Row(planned.ref, method, values, domain.window.tag, domain.mask)
            for domain, several in found.items()
            for method, values in zip(methods, several, strict=True)
        ]

    def begun(number: int, planned: PlannedSlice) -> Future[list[Row]]:
        try:
            images, hr_hu = made(plan, planned)
        except FAILURES as error:
            failed = Future[list[Row]]()
            failed.set_exception(error)
            return failed
        return executor.submit(rows, number, planned, images, hr_hu)

    threads = plan.options.workers or available_cores()
    waiting: deque[tuple[PlannedSlice, Future[list[Row]]]] = deque()
    with _judges(threads) as executor:
        for number, planned in wanted:
            waiting.append((planned, begun(number, planned)))
            if len(waiting) > threads + AHEAD:
                yield _ended(*waiting.popleft())
        while waiting:
            yield _ended(*waiting.popleft())


@contextmanager
def _judges(threads: int) -> Generator[Executor]:
    """Threads that measure, each on one core: on several, AlexNet's convolutions round the last digits otherwise."""
    before = torch.get_num_threads()
    try:
        executor = ThreadPoolExecutor(threads, "judge", torch.set_num_threads, (1,))
        try:
            yield executor
        finally:
            # Left early, what has begun is waited for, what has not is dropped.
            executor.shutdown(cancel_futures=True)
    finally:
        # It holds for the thread that sets it, and for those that are still to come.
        torch.set_num_threads(before)


def _ended(planned: PlannedSlice, future: Future[list[Row]]) -> list[Row] | Lost:
    try:
        return future.result()
    except FAILURES as error:
        return Lost(planned.ref, one_line(error) or type(error).__name__)


def made(plan: EvaluationPlan, planned: PlannedSlice) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """One slice by every method, all from the same LR, and the reference in HU.

    Returns:
        ``(methods, 1, H, W)`` in [-1, 1], and (H, W) in HU.
    """
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    networks = [model.network for model in plan.models]
    return reconstructions(networks, pair.lr, plan.model.scale, plan.options.baselines), pair.hr_hu
