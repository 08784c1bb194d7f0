"""What reaches the server from outside, and what it lets out."""

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

from ctsr.errors import UsageError
from ctsr.viewer import ViewOptions, server
from ctsr.viewer.server import STATIC, ViewServer, static_file
from ctsr.viewer.session import ViewerSession
from tests.made.listener import Listener

Serve = Callable[..., ViewServer]


class Client:
    """Speaks to a server as anybody could."""

    def __init__(self, server: ViewServer) -> None:
        self.server = server

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, answer.read(), answer.headers
        connection.close()
        return found

    def own(self, name: str, **params: object) -> tuple[int, bytes, http.client.HTTPMessage]:
        return self.ask(f"/{self.server.token}/api/{name}?{urlencode(params)}")

    def wish(self, document: object, **headers: str) -> tuple[int, dict]:
        given = {"Content_Type": "application/json"} | headers
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, answer, _ = self.ask(f"/{self.server.token}/api/setting", method="POST", body=body, **given)
        return status, json.loads(answer)


@pytest.fixture
def client(serve: Serve, root: Path) -> Client:
    return Client(serve(root / "anna"))


def test_the_page_and_all_its_files_are_served_below_the_token(client: Client) -> None:
    for path, (name, kind) in STATIC.items():
        status, body, headers = client.ask(f"/{client.server.token}/{path}")
        assert (status, body) == (200, static_file(name))
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"


def test_no_file_of_the_page_is_left_out_of_the_table() -> None:
    folder = Path(server.__file__).parent / "page"
    assert {name for name, _ in STATIC.values()} == {path.name for path in folder.iterdir()}


def test_a_wrong_token_sees_nothing(client: Client) -> None:
    right = client.server.token
    for path in ("/", "/x/", f"/{right}", f"/{right[:-1]}/", f"/{right}x/", "/api/state", "/%00/"):
        status, body, _ = client.ask(path)
        assert status == 403, path
        assert b"ctsr" not in body.replace(b"ctsr printed", b"")
    assert client.ask("/wrong/api/setting", method="POST", body=b"{}", Content_Type="application/json")[0] == 403


def test_tokens_are_long_and_new_each_time(serve: Serve, root: Path) -> None:
    one, other = serve(root / "anna"), serve(root / "anna")
    assert one.token != other.token
    assert len(one.token) >= 32


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "[::1", ""],
)
def test_a_foreign_host_header_is_refused(client: Client, host: str) -> None:
    status, _, _ = client.ask(f"/{client.server.token}/", Host=host.format(port=client.server.port))
    assert status == 403


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
def test_this_computers_own_names_are_accepted(client: Client, host: str) -> None:
    status, _, _ = client.ask(f"/{client.server.token}/", Host=host.format(port=client.server.port))
    assert status == 200


@pytest.mark.parametrize(
    "path",
    [
        "../server.py", "..%2fserver.py", "%2e%2e/server.py", "page/index.html", "index.html", "/etc/passwd",
        "....//style.css", "style.css/../../state.py", "api/../style.css", "static/style.css", "style.css%00",
    ],
)  # fmt: skip
def test_no_path_reaches_the_file_system(client: Client, path: str) -> None:
    status, body, _ = client.ask(f"/{client.server.token}/{path}")
    assert status in {400, 404}
    assert list(json.loads(body)) == ["error"]


def test_every_answer_forbids_what_the_page_does_not_need(client: Client) -> None:
    for path in (f"/{client.server.token}/", f"/{client.server.token}/api/state", "/wrong"):
        _, _, headers = client.ask(path)
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_notebook_may_frame_the_page(serve: Serve, root: Path) -> None:
    server = serve(root / "anna", framed=True)
    _, _, headers = Client(server).ask(f"/{server.token}/")
    assert headers["Content-Security-Policy"].endswith("frame-ancestors *")


def test_only_the_page_itself_may_change_something(client: Client) -> None:
    assert client.wish({"sigma": 0.75})[0] == 200
    here = f"http://127.0.0.1:{client.server.port}"
    assert client.wish({}, Origin=here)[0] == 200
    assert client.wish({}, Origin="http://evil.example")[0] == 403
    assert client.wish({}, Origin="null")[0] == 403
    # What a form elsewhere could send without being asked.
    assert client.wish({}, Content_Type="text/plain")[0] == 403


def test_bodies_that_are_none_of_the_pages_are_refused(client: Client) -> None:
    assert client.wish(b"not json") == (400, {"error": client.wish(b"not json")[1]["error"]})
    assert client.wish([])[0] == 400
    assert client.wish({"sigma": "wide"})[0] == 400
    assert client.wish(b" " * 100_000)[0] == 400


def test_hu_travel_as_int16_of_the_size_that_is_said(client: Client) -> None:
    for panel, size in (("LR", (22, 22)), ("HR", (44, 44))):
        asked = {"series": 0, "setting": 0, "panel": panel, "plane": "axial", "index": 1, "slice": 1}
        status, body, headers = client.own("image", **asked)
        assert (status, headers["X-Size"], headers["X-Complete"]) == (200, f"{size[0]},{size[1]}", "1")
        assert len(body) == 2 * size[0] * size[1]
    hr = np.frombuffer(body, "<i2").reshape(44, 44)
    session = client.server.session
    # 45 pixels at ×2: the crop about the centre begins at the first one.
    np.testing.assert_array_equal(hr, session.series[0].stored.hu[1][:44, :44].clip(-1000))


@pytest.mark.parametrize(
    "wrong",
    [
        {"series": 1}, {"series": "x"}, {"series": "-1"}, {"series": "²"}, {"setting": 9}, {"panel": "XR"},
        {"plane": "oblique"}, {"index": 5}, {"index": ""}, {"slice": 5}, {"panel": None}, {"panel": "Source"},
        {"slab": "sum", "slab_mm": 5}, {"slab": "max"}, {"slab": "max", "slab_mm": "inf"},
        {"slab": "max", "slab_mm": 51}, {"slab": "max", "slab_mm": 0}, {"slab": "max", "slab_mm": "nan"},
    ],
)  # fmt: skip
def test_a_misshapen_question_is_one_line(client: Client, wrong: dict) -> None:
    asked = {"series": 0, "setting": 0, "panel": "HR", "plane": "axial", "index": 1, "slice": 1} | wrong
    status, body, _ = client.own("image", **{name: value for name, value in asked.items() if value is not None})
    assert status == 400
    assert "\n" not in json.loads(body)["error"]


def test_numbers_need_a_window_and_a_rectangle_inside(client: Client) -> None:
    asked = {
        "page": "p",
        "turn": 1,
        "series": 0,
        "setting": 0,
        "plane": "axial",
        "index": 1,
        "slice": 1,
        "center": 40,
        "width": 400,
    }
    assert client.own("numbers", **asked)[0] == 200
    box = {"top": 10, "left": 10, "rows": 20, "columns": 20}
    assert client.own("numbers", **asked, **box)[0] == 200
    for wrong in (
        {"width": 0},
        {"width": "nan"},
        {"center": "x"},
        box | {"rows": 35},
        box | {"columns": 0},
        box | {"top": 44},
    ):
        assert client.own("numbers", **(asked | wrong))[0] == 400, wrong


def test_an_unknown_question_is_refused(client: Client) -> None:
    assert client.own("secrets")[0] == 400
    assert client.own("setting")[0] == 400, "a wish is no question"
    assert client.ask(f"/{client.server.token}/", method="PUT", body=b"")[0] == 501


def test_a_port_that_is_taken_is_one_line(serve: Serve, root: Path, open_view) -> None:
    taken = serve(root / "anna").port
    with pytest.raises(UsageError, match=f"port {taken}"):
        ViewServer(open_view(root / "anna"), port=taken)


def test_it_listens_on_loopback_alone(client: Client) -> None:
    assert client.server.server_address[0] == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if not address.startswith("127."):
            with (
                pytest.raises(ConnectionRefusedError),
                socket.create_connection((address, client.server.port), timeout=2),
            ):
                pass


def test_a_host_that_was_asked_for_accepts_addresses_but_no_strange_names(open_view, root: Path) -> None:
    server = ViewServer(open_view(root / "anna"), host="0.0.0.0")
    try:
        assert server.accepts(f"192.168.1.7:{server.port}")
        assert server.accepts(f"{socket.gethostname()}:{server.port}")
        assert not server.accepts(f"evil.example:{server.port}")
    finally:
        server.server_close()


def test_news_of_finished_slices_is_streamed(client: Client) -> None:
    session = client.server.session
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=60)
    connection.request("GET", f"/{client.server.token}/api/events")
    stream = connection.getresponse()
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    client.own("look", page="p", turn=1, series=0, setting=0, slice=2)
    line = b""
    while not line.startswith(b"data: "):
        line = stream.readline()
    news = json.loads(line.removeprefix(b"data: "))
    assert (news["series"], news["setting"], news["total"]) == (0, 0, 5)
    assert news["panel"] in {"LR", "SR"}
    session.close()
    while stream.readline():  # the stream ends
        pass
    connection.close()


def raw(server: ViewServer, request: str) -> bytes:
    """The reply to a request that no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return reply


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "1e3", "", "70000"])
@pytest.mark.parametrize("token", ["right", "wrong"])
def test_a_doubtful_content_length_is_refused_after_the_token(client: Client, length: str, token: str, capfd) -> None:
    server = client.server
    path = f"/{server.token if token == 'right' else 'x'}/api/setting"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: application/json"
    reply = raw(server, f"{head}\r\nContent-Length: {length}\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400" if token == "right" else b"HTTP/1.1 403")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("address", ["http://[/", "http://[::1/x", "//["])
def test_a_broken_address_is_refused(client: Client, address: str, capfd) -> None:
    head = f"GET {address} HTTP/1.1\r\nHost: localhost:{client.server.port}\r\nConnection: close"
    assert raw(client.server, f"{head}\r\n\r\n").startswith(b"HTTP/1.1 403")
    assert "Traceback" not in capfd.readouterr().err


def test_two_host_headers_are_refused(client: Client) -> None:
    server = client.server
    host = f"Host: localhost:{server.port}\r\n"
    for hosts, status in ((host, b"200"), (host + "Host: evil.example\r\n", b"403"), (host * 2, b"403"), ("", b"403")):
        reply = raw(server, f"GET /{server.token}/ HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 " + status)


def test_an_idle_connection_is_closed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.3)
    assert raw(client.server, "GET /") == b""


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 12_000, b'{"deg_seed": ' + b"9" * 5000 + b"}"])
def test_json_that_no_page_sends_is_one_line(client: Client, body: bytes, capfd) -> None:
    status, answer = client.wish(body)
    assert (status, list(answer)) == (400, ["error"])
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "wish",
    [
        {"sigma": 1e9}, {"sigma": 1e308}, {"sigma": float("inf")}, {"sigma": float("nan")}, {"noise": float("inf")},
        {"dose": float("nan")}, {"deg_seed": 2**64}, {"sigma": 10**400},
    ],
)  # fmt: skip
def test_a_degradation_beyond_reason_is_refused(client: Client, wish: dict) -> None:
    assert client.wish(wish)[0] == 400


def test_numbers_of_a_window_that_is_no_window_are_refused(client: Client) -> None:
    asked = {"page": "p", "turn": 1, "series": 0, "setting": 0, "plane": "axial", "index": 1, "slice": 1}
    for window in ({"center": "inf"}, {"center": "-inf"}, {"center": "1e300"}, {"width": "inf"}, {"width": "nan"}):
        assert client.own("numbers", **(asked | {"center": 40, "width": 400} | window))[0] == 400, window
    assert client.own("numbers", **(asked | {"turn": "9" * 5000, "center": 40, "width": 400}))[0] == 400


def test_the_token_does_not_stand_among_the_arguments_of_the_browser(
    open_view: Callable[..., ViewerSession], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All users of a machine see the arguments of every process."""
    opened: list[tuple[str, str]] = []

    def browse(page: str) -> None:
        opened.append((page, Path(url2pathname(urlsplit(page).path)).read_text(encoding="utf-8")))

    listener = Listener()
    monkeypatch.setattr(server.webbrowser, "open", browse)
    monkeypatch.setattr(ViewServer, "serve_forever", lambda _: None)
    server.serve(open_view(root / "anna"), ViewOptions(), listener)
    address = next(note.removeprefix("Viewer: ") for note in listener.notes if note.startswith("Viewer: "))
    [(page, text)] = opened
    assert urlsplit(address).path.strip("/") not in page
    assert f"url={address}" in text
    assert not Path(url2pathname(urlsplit(page).path)).exists()
