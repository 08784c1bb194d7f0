"""Slices through the models and on to the judge: while one is being measured, the next is being made."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ctsr.data.pairs import slice_pair
from ctsr.evaluate.methods import reconstructions
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.rows import Row
from ctsr.pool import available_cores

__all__ = ["measured"]

AHEAD = 2
"""Slices that may wait for a thread: enough to keep it busy, few enough that memory does not grow with the series."""


def measured(plan: EvaluationPlan, wanted: Iterable[tuple[int, PlannedSlice]]) -> Iterator[list[Row]]:
    """The rows of each slice, in the order of `wanted`, whatever the number of threads.

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

    threads = plan.options.workers or available_cores()
    waiting: deque[Future[list[Row]]] = deque()
    with ThreadPoolExecutor(threads, "judge") as executor:
        for number, planned in wanted:
            images, hr_hu = made(plan, planned)
            waiting.append(executor.submit(rows, number, planned, images, hr_hu))
            if len(waiting) > threads + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def made(plan: EvaluationPlan, planned: PlannedSlice) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """One slice by every method, all from the same LR, and the reference in HU.

    Returns:
        ``(methods, 1, H, W)`` in [-1, 1], and (H, W) in HU.
    """
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    networks = [model.network for model in plan.models]
    return reconstructions(networks, pair.lr, plan.model.scale, plan.options.baselines), pair.hr_hu
