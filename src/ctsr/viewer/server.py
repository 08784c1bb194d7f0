"""HTTP server of the page: loopback only, a token in the address, Host and Origin checked, files from a fixed table."""

import ipaddress
import json
import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from ctsr.errors import CtsrError, DomainError, UsageError, failure_text
from ctsr.paths import cache_place
from ctsr.reporting import SILENT, Progress
from ctsr.viewer import LOOPBACK, ViewOptions
from ctsr.viewer.api import Reply, answer, events
from ctsr.viewer.samplers import StaleRequestError
from ctsr.viewer.session import ViewerSession

TOKEN_BYTES = 24
MAX_BODY = 64 * 1024
"""Bytes of a request body; the page sends far less."""
IDLE_TIMEOUT_S = 60.0
"""Connections that send nothing for this long are closed, so that they do not keep threads."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
"""The page may load its own files and ask its own server, nothing else."""

_SCRIPTS = (
    *("main", "api", "state", "store", "draw", "panels", "marks", "input", "controls", "sidebar"),
    *("profile", "save", "format", "help", "address", "strength", "regions", "layouts"),
)
STATIC = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
} | {f"{name}.js": (f"{name}.js", "text/javascript") for name in _SCRIPTS}
"""Path below the token → file in `page/` and its type: no path of a request reaches the file system."""


@cache
def static_file(name: str) -> bytes:
    """Content of a file of `page/`; `name` comes from `STATIC`."""
    return files("ctsr.viewer").joinpath("page", name).read_bytes()


class ViewServer(ThreadingHTTPServer):
    """Serves one session until it is shut down."""

    daemon_threads = True

    def __init__(self, session: ViewerSession, *, host: str = "127.0.0.1", port: int = 0, framed: bool = False) -> None:
        """Listen.

        Args:
            session: what is served; closed together with the server.
            host: address to listen on.
            port: 0 for a free one.
            framed: allow other pages to show this one in a frame, as notebooks do; the token is needed all the same.

        Raises:
            UsageError: the address cannot be listened on.
        """
        self.session = session
        self.keep: object = None
        """Object that must live as long as the server, such as a temporary folder."""
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.policy = POLICY + ("*" if framed else "'none'")
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host} port {port}: {error.strerror or error}; leave `port` out to take a free one"
            ) from error
        self.host = host

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """URL for a browser; whoever has it sees the images."""
        host = self.host if self.host not in {"0.0.0.0", "::"} else socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.token}/"

    def accepts(self, host_header: str) -> bool:
        """Whether a Host header names this server; refuses other names that resolve here (DNS rebinding)."""
        try:
            parts = urlsplit(f"//{host_header}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port:
            return False
        if self.host in LOOPBACK:
            return name in LOOPBACK
        return name in {*LOOPBACK, self.host.lower(), socket.gethostname().lower()} or _is_address(name)

    def server_close(self) -> None:
        """Stop listening and close the session."""
        super().server_close()
        self.session.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore pages that closed their connection; report anything else, which is a bug."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


def _content_length(headers: Sequence[str]) -> int | None:
    """Length of a request body; None where it is missing, doubtful or too large."""
    if len(headers) != 1:
        return None
    (text,) = headers
    # ASCII digits only, and few enough for `int`, which refuses thousands of them.
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_BODY)):
        return None
    return int(text) if int(text) <= MAX_BODY else None


def _is_address(name: str) -> bool:
    """Whether a host is a numeric address: names can be made to resolve here, addresses cannot."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ctsr", ""
    disable_nagle_algorithm = True
    timeout = IDLE_TIMEOUT_S
    server: ViewServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return self._refuse_access()
        return self._serve(path, None)

    def do_POST(self) -> None:
        # The token is checked before anything else of the request is read.
        path = self._path()
        if path is None:
            return self._refuse_access()
        length = _content_length(self.headers.get_all("Content-Length", []))
        if length is None:
            self.close_connection = True
            return self._send(_refusal(HTTPStatus.BAD_REQUEST, f"the body must have at most {MAX_BODY} bytes"))
        if not self._is_own():
            self.close_connection = True
            return self._send(_refusal(HTTPStatus.FORBIDDEN, "only the viewer's own page may send this"))
        return self._serve(path, self.rfile.read(length))

    def _refuse_access(self) -> None:
        self.close_connection = True  # a body that may follow is not read
        self._send(_refusal(HTTPStatus.FORBIDDEN, "open the address that ctsr printed"))

    def _serve(self, path: str, body: bytes | None) -> None:
        if path == "api/events" and body is None:
            return self._stream(events(self.server.session))
        if path.startswith("api/"):
            return self._send(self._api_reply(path.removeprefix("api/"), body))
        if path in STATIC and body is None:
            name, content_type = STATIC[path]
            return self._send(Reply(static_file(name), f"{content_type}; charset=utf-8"))
        return self._send(_refusal(HTTPStatus.NOT_FOUND, "not found"))

    def _path(self) -> str | None:
        """Path below the token; None for a foreign, missing or second Host header, or a wrong token."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not self.server.accepts(hosts[0]):
            return None
        try:
            _, _, rest = urlsplit(self.path).path.partition("/")
        except ValueError:  # an address like http://[/
            return None
        token, slash, path = rest.partition("/")
        is_valid = secrets.compare_digest(token.encode(), self.server.token.encode())
        return path if is_valid and slash else None

    def _is_own(self) -> bool:
        """Whether a POST comes from our page: other origins cannot send JSON without a preflight."""
        origin = self.headers.get("Origin")
        from_here = origin is None or self.server.accepts(origin.removeprefix("http://"))
        return from_here and self.headers.get_content_type() == "application/json"

    def _api_reply(self, name: str, body: bytes | None) -> Reply:
        try:
            return answer(self.server.session, name, urlsplit(self.path).query, body)
        except StaleRequestError:
            return Reply(b"", status=HTTPStatus.NO_CONTENT)
        except (UsageError, DomainError) as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except CtsrError as error:
            return self._failure(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            words = f"{where}{failure_text(error)}; check that it is still there and can be read"
            return self._failure(words)
        except MemoryError as error:
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, failure_text(error))

    def _failure(self, why: str) -> Reply:
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, self.server.session.state.shown_failure(why))

    def _send(self, reply: Reply) -> None:
        self._begin(reply.status, reply.content_type, {"Content-Length": str(len(reply.body)), **reply.headers})
        self.wfile.write(reply.body)

    def _stream(self, lines: Iterator[str]) -> None:
        self.close_connection = True
        self._begin(HTTPStatus.OK, "text/event-stream", {"Connection": "close"})
        for line in lines:
            self.wfile.write(line.encode())

    def _begin(self, status: HTTPStatus, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": content_type,
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Log nothing: only `cli` prints."""


def _refusal(status: HTTPStatus, why: str) -> Reply:
    return Reply(json.dumps({"error": why}).encode(), "application/json", status)


def serve(session: ViewerSession, options: ViewOptions, progress: Progress = SILENT) -> None:
    """Listen, report the address, open a browser, and block until the process is interrupted.

    Raises:
        UsageError: the address cannot be listened on.
    """
    if options.host not in LOOPBACK:
        progress.note(
            f"warning: `host` {options.host} lets other computers in: whoever has the address sees these images, "
            "and the connection is not encrypted"
        )
    with ViewServer(session, host=options.host, port=options.port) as server:
        progress.note(f"Viewer: {server.address}")
        progress.note("Press Ctrl-C to stop.")
        # Decode the first series while the browser starts.
        Thread(target=_open_first, args=(session,), daemon=True).start()
        with _unlisted(server.address) as page:
            if not options.no_browser:
                webbrowser.open(page)
            server.serve_forever()


@contextmanager
def _unlisted(address: str) -> Generator[str]:
    """A page of the user's own that leads to `address`: what a browser is started with, all users of a machine see."""
    with tempfile.TemporaryDirectory(prefix="viewer-", dir=cache_place().folder) as folder:
        page = Path(folder) / "open.html"
        page.write_text(f'<meta http-equiv="refresh" content="0;url={address}">', encoding="utf-8")
        yield page.as_uri()


def _open_first(session: ViewerSession) -> None:
    with suppress(CtsrError, OSError):  # the page asks again and shows the error
        session.series[session.state.first]
