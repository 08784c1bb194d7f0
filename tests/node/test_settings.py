import json
import socket
from contextlib import nullcontext
from pathlib import Path

import pytest

from ctsr.errors import UsageError
from ctsr.node import DicomPeer, EventLog, NodeOptions, StowServer, check_apart, parse_destination


def test_destinations_are_read() -> None:
    assert parse_destination("PACS@archive.example:104") == DicomPeer("PACS", "archive.example", 104)
    assert parse_destination("MY PACS@[::1]:11112") == DicomPeer("MY PACS", "::1", 11112)
    assert parse_destination("https://archive.example/dicom-web/") == StowServer("https://archive.example/dicom-web")
    assert parse_destination("http://127.0.0.1:8042/dicom-web") == StowServer("http://127.0.0.1:8042/dicom-web")


@pytest.mark.parametrize(
    "text",
    ["PACS", "PACS@host", "PACS@host:0", "PACS@host:70000", "A-TITLE-TOO-LONG-BY-1@h:1", "ftp://h/x", "https://"],
)
def test_other_destinations_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="`send_to`"):
        parse_destination(text)


def test_patient_data_does_not_leave_the_computer_unencrypted_by_http() -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        parse_destination("http://archive.example/dicom-web")


def test_the_network_is_let_in_with_an_allow_list_only() -> None:
    with pytest.raises(UsageError, match="`allow`"):
        NodeOptions(host="0.0.0.0")
    assert NodeOptions(host="0.0.0.0", allow=("ROUTER",)).allow == ("ROUTER",)
    assert NodeOptions(host="::1").host == "::1"


def test_certificates_must_be_there_and_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such certificate"):
        NodeOptions(tls_ca=tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="belong together"):
        NodeOptions(tls_cert=tmp_path / "bad.pem")
    options = NodeOptions(tls_cert=tmp_path / "bad.pem", tls_key=tmp_path / "bad.pem")
    with pytest.raises(UsageError, match="cannot be used"):
        options.server_tls()


def test_the_log_is_one_json_line_an_event_and_survives_its_reader() -> None:
    lines: list[str] = []
    EventLog(lines.append)("stored", job=3, reason="a\nb")
    (line,) = lines
    assert "\n" not in line
    assert json.loads(line)["event"] == "stored"

    def gone(_: str) -> None:
        raise BrokenPipeError

    EventLog(gone)("stored")


@pytest.mark.parametrize(
    ("host", "send_to", "is_own"),
    [
        ("127.0.0.1", "CTSR@127.0.0.1:11112", True),
        ("127.0.0.1", "OTHER@localhost:11112", True),
        ("0.0.0.0", "CTSR@[::1]:11112", True),
        ("10.0.0.7", "CTSR@10.0.0.7:11112", True),
        ("127.0.0.1", f"CTSR@{socket.gethostname()}:11112", True),
        ("127.0.0.1", "ORTHANC@127.0.0.1:4242", False),
        ("10.0.0.7", "CTSR@10.0.0.8:11112", False),
        ("10.0.0.7", "OTHER@127.0.0.1:11112", False),
        ("127.0.0.1", "http://127.0.0.1:11112/dicom-web", False),
    ],
)
def test_a_node_that_would_send_to_itself_is_refused(host: str, send_to: str, is_own: bool) -> None:
    options = NodeOptions(host=host, send_to=send_to, allow=("ROUTER",))
    with pytest.raises(UsageError, match="itself") if is_own else nullcontext():
        check_apart(parse_destination(send_to), options)
