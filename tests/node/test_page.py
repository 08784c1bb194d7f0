import http.client
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ctsr.cli.main import main
from ctsr.errors import UsageError
from ctsr.node.queue import Instance, Queue
from ctsr.node.service import ADDRESS_FILE, PageServer, page_address, serving_page


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """One image of a caller whose name and study are markup."""
    queue = Queue(tmp_path / "queue")
    queue.receive(Instance("1.2.3<script>", "1.2.3.4", "1.2.3.4.1", "<b>ROUTER"), b"one")
    yield queue
    queue.close()


def get(address: str, path: str | None = None, host: str | None = None) -> tuple[int, str, http.client.HTTPMessage]:
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
    connection.putrequest("GET", url.path if path is None else path, skip_host=host is not None)
    if host is not None:
        for name in host.split():
            connection.putheader("Host", name)
    connection.endheaders()
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text, reply.headers


def test_whoever_has_the_address_sees_the_queue(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    with serving_page(queue, "CTSR", 0) as port:
        address = page_address(queue.folder)
        assert urlsplit(address).hostname == "127.0.0.1"
        assert urlsplit(address).port == port
        status, text, headers = get(address)
        assert main(["node", "--list", "--queue", str(queue.folder)]) == 0
        assert f"Page: {address}" in capsys.readouterr().out
        assert stat.S_IMODE((queue.folder / ADDRESS_FILE).stat().st_mode) == 0o600
    assert status == 200
    assert "1 receiving" in text
    # What came from elsewhere is text, not markup.
    assert "1.2.3&lt;script&gt;" in text
    assert "<b>ROUTER" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_it_ends_with_the_node_and_leaves_no_address(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    with serving_page(queue, "CTSR", 0):
        address = page_address(queue.folder)
    assert page_address(queue.folder) == ""
    with pytest.raises(ConnectionError):
        get(address)
    # A killed node leaves the file: nobody answers there.
    (queue.folder / ADDRESS_FILE).write_text(address)
    assert page_address(queue.folder) == ""
    main(["node", "--list", "--queue", str(queue.folder)])
    assert "Page:" not in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/", "/wrong/", "//", "http://[/", "/../", "/%00/", "/?token=x"])
def test_without_the_token_nothing_is_shown(queue: Queue, path: str) -> None:
    with serving_page(queue, "CTSR", 0) as port:
        status, text, _ = get(page_address(queue.folder), path, host=f"127.0.0.1:{port}")
    assert status == 403
    assert "1.2.3" not in text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:{port} localhost:{port}"])
def test_another_host_name_or_two_are_refused(queue: Queue, host: str) -> None:
    with serving_page(queue, "CTSR", 0) as port:
        status, text, _ = get(page_address(queue.folder), host=host.format(port=port))
    assert status == 403
    assert "1.2.3" not in text


def test_other_methods_and_rubbish_do_not_end_it(queue: Queue) -> None:
    with serving_page(queue, "CTSR", 0) as port:
        for rubbish in (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET"):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(rubbish)
                connection.shutdown(1)
                connection.recv(4096)
        assert get(page_address(queue.folder))[0] == 200


def test_a_port_that_is_taken_is_said_in_one_line(queue: Queue) -> None:
    with PageServer(queue, "CTSR", 0) as server, pytest.raises(UsageError, match="cannot listen on `page_port`"):
        PageServer(queue, "CTSR", server.server_port)


def test_a_node_without_the_flag_has_no_page(queue: Queue) -> None:
    with serving_page(queue, "CTSR", None) as port:
        assert port is None
        assert page_address(queue.folder) == ""
