"""The node as a whole: receiver, worker and sender around one queue, until it is told to stop."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from ctsr.errors import CtsrError, UsageError
from ctsr.node.queue import Queue
from ctsr.node.receiver import Receiver
from ctsr.node.sender import Sender
from ctsr.node.settings import EventLog, NodeOptions, parse_destination
from ctsr.node.worker import Upscaler, Worker
from ctsr.text import one_line

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
        with ThreadPoolExecutor(3) as threads:
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
