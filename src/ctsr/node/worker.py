"""The worker: upscales the studies of the queue, one after the other."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ctsr.errors import CtsrError, boundary
from ctsr.node.queue import Job, JobState, Queue
from ctsr.node.settings import EventLog
from ctsr.progress import Progress

if TYPE_CHECKING:  # the node itself needs no torch
    from ctsr.upscale.run import Report

T = TypeVar("T")

MAX_ATTEMPTS = 3
"""How often a study is begun whose upscaling ended the whole process, as lack of memory does."""


class Upscaler(Protocol):
    """`ctsr.upscale.run.upscale` with a model and options."""

    @property
    def settings(self) -> str:
        """Names model and options: other settings, another folder of results."""
        ...

    def __call__(self, source: Path, out: Path, progress: Progress) -> "Report":
        """Upscale all series in `source` into `out`; those that are done already are kept."""
        ...


class Worker:
    """Upscales jobs; used by one thread.

    Args:
        queue: where the jobs come from.
        upscaler: makes the results.
        log: told what is done.
        stop: when set, the series under way is left and waits for the next start.
    """

    def __init__(self, queue: Queue, upscaler: Upscaler, log: EventLog, stop: threading.Event) -> None:
        self._queue = queue
        self._upscaler = upscaler
        self._log = log
        self._stop = stop

    def step(self) -> bool:
        """Upscale the oldest waiting job; False where there is none."""
        waiting = self._queue.next_due(JobState.WAITING)
        if waiting is None:
            return False
        if waiting.attempts >= MAX_ATTEMPTS:
            problem = f"the node ended {MAX_ATTEMPTS} times while this was upscaled, most likely for lack of memory"
            self._queue.finish(waiting, problem)
            self._log("failed", job=waiting.id, reason=problem)
            return True
        job = self._queue.begin_upscaling(waiting)
        if job is not None:
            self._upscale(job)
        return True

    def _upscale(self, job: Job) -> None:
        self._log("upscaling", job=job.id, images=job.num_images, attempt=job.attempts)
        # Results of other settings have another folder, so none is taken for one of these.
        result = f"results-{self._upscaler.settings}"
        try:
            with boundary(f"job {job.id}"):
                progress = _JobProgress(job.id, self._log, self._stop)
                report = self._upscaler(job.originals, job.folder / result, progress)
        except KeyboardInterrupt:  # raised by the progress below
            self._queue.give_back(job)
            return
        except CtsrError as error:
            self._queue.finish(job, str(error))
            self._log("failed", job=job.id, reason=str(error))
            return
        errors = [outcome.error for outcome in report.outcomes if outcome.error]
        self._queue.upscaled(job, result, "; ".join([*errors, *report.unusable]))
        self._log("upscaled", job=job.id, series=len(report.jobs), failed=report.failed)


class _JobProgress:
    """Interrupts the work when the node stops, and logs what is unusual."""

    def __init__(self, job_id: int, log: EventLog, stop: threading.Event) -> None:
        self._job_id = job_id
        self._log = log
        self._stop = stop

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Yield `items` until the node stops."""
        del total, what
        for item in items:
            if self._stop.is_set():
                raise KeyboardInterrupt
            yield item

    def note(self, message: str) -> None:
        """Log a line of news."""
        self._log("note", job=self._job_id, text=message)
