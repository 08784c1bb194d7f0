"""The node as a whole: receiver, worker and sender around one queue, and a page that shows it.

The worker upscales the studies of the queue, one after the other.
"""

import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlsplit

from jinja2 import Environment

from ctsr.errors import CtsrError, DiskFullError, UsageError, boundary
from ctsr.files import ROOM_PAUSE_S
from ctsr.node import EventLog, NodeOptions, check_apart, parse_destination
from ctsr.node.queue import JobState, Queue, StudyJob
from ctsr.node.receiver import Receiver
from ctsr.node.sender import Sender
from ctsr.reporting import Progress, one_line

if TYPE_CHECKING:
    from ctsr.upscale.run import Report

HOST = "127.0.0.1"
ADDRESS_FILE = "page.url"
"""In the folder of the queue, for its owner's eyes: the address with its token."""
MOST_JOBS = 500
"""Newest jobs that are shown."""
RELOAD_S = 5
IDLE_TIMEOUT_S = 10.0
"""Seconds after which a connection that says nothing is closed."""
TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="{{ reload }}">
<title>{{ counts or "queue" }} – ctsr node</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
  table { border-collapse: collapse } th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid #ccc }
  .number { text-align: right; font-variant-numeric: tabular-nums } .failed { color: #a40000; font-weight: 600 }
  @media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1d1f } .failed { color: #ff8a80 } }
</style>
<main>
<h1>Queue of {{ aet }}</h1>
<p>{{ counts or "Nothing has come yet." }} &middot; {{ now }}</p>
<table>
  <thead><tr>
    {% for name in ("job", "state", "from", "images", "sent", "last image", "study", "reason") %}
    <th scope="col">{{ name }}</th>
    {% endfor %}
  </tr></thead>
  <tbody>
  {% for job in jobs %}
  <tr>
    <td class="number">{{ job.id }}</td><td class="{{ job.state }}">{{ job.state }}</td><td>{{ job.caller }}</td>
    <td class="number">{{ job.num_images }}</td><td class="number">{{ job.num_sent }}</td>
    <td>{{ job.received | time }}</td><td>{{ job.study_uid }}</td><td>{{ job.reason }}</td>
  </tr>
  {% endfor %}
  </tbody>
</table>
<p>Failed jobs stay until <code>ctsr node --retry</code> or <code>ctsr node --drop_failed</code>.</p>
</main>
</html>
"""


def queue_page(jobs: list[StudyJob], aet: str) -> str:
    """HTML of the queue, newest job first."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["time"] = _local_time
    states = [str(job.state) for job in jobs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    newest = sorted(jobs, key=lambda job: job.id, reverse=True)[:MOST_JOBS]
    now = _local_time(datetime.now(UTC).timestamp())
    return environment.from_string(TEMPLATE).render(jobs=newest, counts=counts, aet=aet, now=now, reload=RELOAD_S)


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


class PageServer(ThreadingHTTPServer):
    """Serves the page at ``http://127.0.0.1:<port>/<token>/``.

    Raises:
        UsageError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, queue: Queue, aet: str, port: int) -> None:
        self.queue = queue
        self.aet = aet
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(f"cannot listen on `page_port` {port}: {error.strerror}; choose another") from error

    @property
    def address(self) -> str:
        """For a browser; whoever has it sees the queue."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def accepts(self, hosts: list[str]) -> bool:
        """Whether there is one Host header and it names this server: other names may be made to resolve here."""
        return len(hosts) == 1 and hosts[0].lower() in {f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"}

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore browsers that closed their connection; report anything else, which is a bug."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "ctsr", ""
    timeout = IDLE_TIMEOUT_S
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if not self._is_allowed():
            return self._send(HTTPStatus.FORBIDDEN, "open the address that `ctsr node --list` shows")
        return self._send(HTTPStatus.OK, queue_page(self.server.queue.jobs(), self.server.aet))

    def _is_allowed(self) -> bool:
        if not self.server.accepts(self.headers.get_all("Host", [])):
            return False
        try:
            path = urlsplit(self.path).path
        except ValueError:  # an address like http://[/
            return False
        return secrets.compare_digest(path.encode(), f"/{self.server.token}/".encode())

    def _send(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        kind = "text/html" if status is HTTPStatus.OK else "text/plain"
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Log nothing: the node's log is its own."""


@contextmanager
def serving_page(queue: Queue, aet: str, port: int | None) -> Generator[int | None]:
    """Serve the page while the block runs; yields its port, None where `port` is None and there is no page.

    Raises:
        UsageError: the port is taken.
    """
    if port is None:
        yield None
        return
    with PageServer(queue, aet, port) as server, _written(queue.folder / ADDRESS_FILE, server.address):
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _written(path: Path, address: str) -> Generator[None]:
    """Keep the address in a file of the owner's: not in the log or the list of processes, which others may read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(address)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def page_address(folder: Path) -> str:
    """Where the page of a running node is; empty where there is none."""
    try:
        address = (folder / ADDRESS_FILE).read_text(encoding="ascii")
        # A node that was killed left its address behind.
        socket.create_connection((HOST, urlsplit(address).port or 0), IDLE_TIMEOUT_S).close()
    except (OSError, ValueError):
        return ""
    return address


T = TypeVar("T")

MAX_ATTEMPTS = 8
"""How often a study is begun in whose upscaling the node ended, as lack of memory makes it, within half an hour."""


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
        expected: UID and caller of studies of which more is known to come: they are not begun.
    """

    def __init__(
        self,
        queue: Queue,
        upscaler: Upscaler,
        log: EventLog,
        stop: threading.Event,
        expected: Callable[[], Collection[tuple[str, str]]] = tuple,
    ) -> None:
        self._queue = queue
        self._upscaler = upscaler
        self._log = log
        self._stop = stop
        self._expected = expected
        self._begun: StudyJob | None = None

    def step(self) -> bool:
        """Upscale the oldest waiting job; False where there is none."""
        if self._begun is not None:  # the queue could not note what became of it, on a full disk
            self._queue.give_back(self._begun)
            self._begun = None
        waiting = self._queue.next_due(JobState.WAITING, self._expected())
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
        # Results of other settings, or of the study before more of it came, have another folder: none is sent as one of
        # these, and none is in their way.
        result = f"results-{self._upscaler.settings}-{self._queue.content_of(job)}"
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

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:  # noqa: ARG002  (a `Progress`)
        """Yield `items` until the node stops."""
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
        UsageError: there is no destination, or it is the node itself; another node has the queue.
        CtsrError: the port is taken.
    """
    if options.send_to is None:
        raise UsageError("no destination for the results; give `send_to`: AE@host:port, or https://… for STOW-RS")
    destination = parse_destination(options.send_to)
    check_apart(destination, options)
    queue = Queue(options.queue)
    receiver = Receiver(queue, options, log)
    worker = Worker(queue, upscaler, log, stop, receiver.expected_studies)
    sender = Sender(queue, destination, options, log, stop)

    def keep_house() -> bool:
        held, expected = receiver.held_jobs(), receiver.expected_studies()
        for job in queue.close_quiet(options.quiet, held, expected, patience_s=options.patience):
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
