"""HTTP on this computer only: a token in the address, the Host header checked, nothing from outside but numbers."""

import ipaddress
import json
import secrets
import socket
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from ctsr.errors import CtsrError, DomainError, UsageError
from ctsr.viewer.api import Reply, answer, events
from ctsr.viewer.engine import UnwantedError
from ctsr.viewer.options import LOOPBACK
from ctsr.viewer.pages import STATIC, content
from ctsr.viewer.session import Session

__all__ = ["ViewServer"]

TOKEN_BYTES = 24
MAX_BODY = 64 * 1024
"""Bytes of a request: nothing the page sends comes near it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
"""The page may load its own files and ask its own server, nothing else."""


class ViewServer(ThreadingHTTPServer):
    """Serves one session until it is shut down."""

    daemon_threads = True

    def __init__(self, session: Session, *, host: str = "127.0.0.1", port: int = 0, framed: bool = False) -> None:
        """Listen.

        Args:
            session: what is shown; closed together with the server.
            host: address to listen on.
            port: 0 for a free one.
            framed: other pages may show this one in a frame, as notebooks do; the token still keeps strangers out.

        Raises:
            UsageError: the address cannot be listened on.
        """
        self.session = session
        self.keep: object = None
        """Whatever must live as long as the server does, such as a temporary folder."""
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.policy = POLICY + ("*" if framed else "'none'")
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host} port {port}: {error.strerror or error}; leave --port out to take a free one"
            ) from error
        self.host = host

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser; whoever has it may look."""
        host = self.host if self.host not in {"0.0.0.0", "::"} else socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.token}/"

    def accepts(self, host_header: str) -> bool:
        """Whether a request means this server: a page elsewhere whose name was bent to this address does not."""
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
        """Stop listening, and end the session."""
        super().server_close()
        self.session.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that left while it was being answered is no error; anything else is a bug and says so."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


def _is_address(name: str) -> bool:
    """Whether a host is given by number: a name could have been made to point here, a number cannot."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ctsr", ""
    disable_nagle_algorithm = True
    server: ViewServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            return self._send(_refusal(HTTPStatus.BAD_REQUEST, "a request of this size is none of the page's"))
        return self._serve(self.rfile.read(int(length)))

    def _serve(self, body: bytes | None) -> None:
        path = self._path()
        if path is None:
            return self._send(_refusal(HTTPStatus.FORBIDDEN, "this address is not the one that ctsr printed"))
        if body is not None and not self._is_own():
            return self._send(_refusal(HTTPStatus.FORBIDDEN, "only the viewer's own page may ask this"))
        if path == "api/events" and body is None:
            return self._stream(events(self.server.session))
        if path.startswith("api/"):
            return self._send(self._answered(path.removeprefix("api/"), body))
        if path in STATIC and body is None:
            name, kind = STATIC[path]
            return self._send(Reply(content(name), f"{kind}; charset=utf-8"))
        return self._send(_refusal(HTTPStatus.NOT_FOUND, "there is nothing of this name"))

    def _path(self) -> str | None:
        """What is asked for below the token; None for a foreign Host header or a wrong token."""
        if not self.server.accepts(self.headers.get("Host", "")):
            return None
        _, _, rest = urlsplit(self.path).path.partition("/")
        token, slash, path = rest.partition("/")
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        return path if known and slash else None

    def _is_own(self) -> bool:
        """Whether a request that changes something comes from our page: others cannot send JSON here unasked."""
        origin = self.headers.get("Origin")
        from_here = origin is None or self.server.accepts(origin.removeprefix("http://"))
        return from_here and self.headers.get_content_type() == "application/json"

    def _answered(self, name: str, body: bytes | None) -> Reply:
        try:
            return answer(self.server.session, name, urlsplit(self.path).query, body)
        except UnwantedError:
            return Reply(b"", status=HTTPStatus.NO_CONTENT)
        except (UsageError, DomainError) as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except (CtsrError, OSError) as error:
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _send(self, reply: Reply) -> None:
        self._begin(reply.status, reply.kind, {"Content-Length": str(len(reply.body)), **reply.headers})
        self.wfile.write(reply.body)

    def _stream(self, lines: Iterator[str]) -> None:
        self.close_connection = True
        self._begin(HTTPStatus.OK, "text/event-stream", {"Connection": "close"})
        for line in lines:
            self.wfile.write(line.encode())

    def _begin(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind,
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
        """Say nothing: only `cli` prints."""


def _refusal(status: HTTPStatus, why: str) -> Reply:
    return Reply(json.dumps({"error": why}).encode(), "application/json", status)
