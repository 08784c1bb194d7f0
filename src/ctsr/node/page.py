"""A page that shows the queue of a node, for whoever sits at its computer: loopback only, behind a token."""

import os
import secrets
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment

from ctsr.errors import UsageError
from ctsr.node.queue import Queue, StudyJob

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
            raise UsageError(f"`page_port` {port} cannot be listened on: {error.strerror}; choose another") from error

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
