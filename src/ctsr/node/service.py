"""The node as a whole: receiver, worker and sender around one queue, until it is told to stop.

The worker upscales the studies of the queue, one after the other.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ctsr.errors import CtsrError, DiskFullError, UsageError, boundary
from ctsr.node.page import serving_page
from ctsr.node.queue import JobState, Queue, StudyJob
from ctsr.node.receiver import Receiver
from ctsr.node.sender import Sender
from ctsr.node.settings import EventLog, NodeOptions, parse_destination
from ctsr.progress import Progress
from ctsr.text import one_line

if TYPE_CHECKING:
    from ctsr.upscale.run import Report

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""How often a study is begun in whose upscaling the node ended, as lack of memory makes it, within half an hour."""


ROOM_PAUSE_S = 30.0
"""Seconds before a study is begun again whose results the disk had no room for."""


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
        self._begun: StudyJob | None = None

    def step(self) -> bool:
        """Upscale the oldest waiting job; False where there is none."""
        if self._begun is not None:  # the queue could not note what became of it, on a full disk
            self._queue.give_back(self._begun)
            self._begun = None
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
            self._begun = job
            self._upscale(job)
            self._begun = None
        return True

    def _upscale(self, job: StudyJob) -> None:
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
        except DiskFullError as error:
            self._wait_for_room(job, str(error))
            return
        except CtsrError as error:
            self._queue.finish(job, str(error))
            self._log("failed", job=job.id, reason=str(error))
            return
        if full := next((outcome.error for outcome in report.outcomes if outcome.is_disk_full), None):
            self._wait_for_room(job, full)
            return
        errors = [outcome.error for outcome in report.outcomes if outcome.error]
        self._queue.upscaled(job, result, "; ".join([*errors, *report.unusable]))
        self._log("upscaled", job=job.id, series=len(report.jobs), failed=report.failed)

    def _wait_for_room(self, job: StudyJob, reason: str) -> None:
        """Series that are done already are kept, the others are begun again later."""
        self._log("postponed", job=job.id, seconds=ROOM_PAUSE_S, reason=reason)
        self._queue.give_back(job, seconds=ROOM_PAUSE_S, reason=reason)


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


POLL_S = 0.25
"""Seconds between two looks at the queue where nothing is to be done."""
PAUSE_S = 5.0
"""Seconds to wait after trouble with the disk or the database."""


def serve(options: NodeOptions, upscaler: Upscaler, log: EventLog, stop: threading.Event) -> None:
    """Run a node until `stop` is set; what is not done then is done after the next start.

    Args:
        options: of the node.
        upscaler: makes the results.
        log: told what happens.
        stop: ends the node within the time that one slice or one image takes.

    Raises:
        UsageError: there is no destination, or another node has the queue.
        CtsrError: the port is taken.
    """
    if options.send_to is None:
        raise UsageError("no destination for the results; give `send_to`: AE@host:port, or https://… for STOW-RS")
    destination = parse_destination(options.send_to)
    queue = Queue(options.queue)
    receiver = Receiver(queue, options, log)
    worker = Worker(queue, upscaler, log, stop)
    sender = Sender(queue, destination, options, log, stop)

    def keep_house() -> bool:
        for job in queue.close_quiet(options.quiet, receiver.held_jobs()):
            log("complete", job=job.id, caller=job.caller, images=job.num_images)
        removed = queue.remove_delivered(options.keep * 3600)
        if removed:
            log("removed", jobs=removed)
        return False

    try:
        log("listening", aet=options.aet, host=options.host, port=receiver.start(), queue=str(queue.folder))
        with serving_page(queue, options.aet, options.page_port) as page, ThreadPoolExecutor(3) as threads:
            if page is not None:
                log("page", port=page)
            steps = (worker.step, sender.step, keep_house)
            loops = [threads.submit(_repeat, step, log, stop) for step in steps]
            try:
                # A loop ends by itself only when it meets a mistake of ours: then all end, and it is shown.
                while not stop.is_set() and not wait(loops, POLL_S, FIRST_COMPLETED).done:
                    pass
            finally:
                stop.set()
            for loop in loops:
                loop.result()
    finally:
        receiver.stop()
        queue.close()
        log("stopped")


def _repeat(step: Callable[[], bool], log: EventLog, stop: threading.Event) -> None:
    """Call `step` until the node stops, at once where it did something."""
    while not stop.is_set():
        try:
            idle_s = 0.0 if step() else POLL_S
        except (CtsrError, OSError, sqlite3.Error) as error:
            log("trouble", reason=one_line(error))
            idle_s = PAUSE_S
        stop.wait(idle_s)
