"""Deliveries to a destination that is not there, has no room, refuses, or takes everything."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from ctsr.node import NodeOptions, parse_destination
from ctsr.node.queue import Instance, JobState, Queue, StudyJob
from ctsr.node.receiver import STORED_CLASSES
from ctsr.node.sender import Sender
from tests.made.ct import save
from tests.made.orthanc import free_ports
from tests.node.conftest import Log, ct_slices


@dataclass
class Archive:
    """Answers each image with the next of these, the last one for ever."""

    answers: list[int]
    taken: list[str] = field(default_factory=list[str])

    def store(self, event: Any) -> int:
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0 or status >> 12 == 0xB:
            self.taken.append(event.request.AffectedSOPInstanceUID)
        return status

    @contextmanager
    def running(self, port: int) -> Generator[None]:
        entity = ApplicationEntity("PACS")
        for sop_class in STORED_CLASSES:
            entity.add_supported_context(sop_class)
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)])
        assert server is not None
        try:
            yield
        finally:
            server.shutdown()


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Delivery:
    """A job of two images that is to be delivered."""

    queue: Queue
    sender: Sender
    clock: Clock
    log: Log

    @property
    def job(self) -> StudyJob:
        (job,) = self.queue.jobs()
        return job

    def delays(self) -> list[float]:
        return [line["seconds"] for line in self.log["postponed"]]


Prepare = Callable[[str], Delivery]


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Prepare]:
    queues: list[Queue] = []

    def prepared(destination: str) -> Delivery:
        clock, log = Clock(), Log()
        queue = Queue(tmp_path / "queue", now=clock)
        queues.append(queue)
        queue.receive(Instance("1.2.3", "1.2.3.4", "1.2.3.4.1", "ROUTER"), b"original")
        (job,) = queue.close_quiet(0, ())
        for ds in ct_slices(2):
            save(ds, job.folder / "results" / f"{ds.InstanceNumber:04d}.dcm")
        queue.upscaled(job, "results", "")
        options = NodeOptions(queue=tmp_path / "queue", retry_after=10)
        sender = Sender(queue, parse_destination(destination), options, log.write, threading.Event())
        return Delivery(queue, sender, clock, log)

    yield prepared
    for queue in queues:
        queue.close()


def test_a_destination_that_is_down_is_tried_again_less_and_less_often(prepare: Prepare) -> None:
    port, _ = free_ports()
    delivery = prepare(f"PACS@127.0.0.1:{port}")
    assert delivery.sender.step()
    assert not delivery.sender.step()  # not due yet
    for _ in range(8):
        delivery.clock.seconds += 1000
        assert delivery.sender.step()
    assert delivery.delays() == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert "does not answer" in delivery.log["postponed"][0]["reason"]
    archive = Archive([0])
    with archive.running(port):
        delivery.clock.seconds += 1000
        assert delivery.sender.step()
    assert archive.taken == ["1.2.3.4.1", "1.2.3.4.2"]
    assert delivery.job.state is JobState.SENT


def test_what_was_taken_before_the_destination_was_full_is_not_sent_again(prepare: Prepare) -> None:
    port, _ = free_ports()
    delivery, archive = prepare(f"PACS@127.0.0.1:{port}"), Archive([0xB000, 0xA700, 0])
    with archive.running(port):
        delivery.sender.step()
        assert (delivery.job.state, delivery.job.num_sent) == (JobState.SENDING, 1)
        delivery.clock.seconds += 10
        delivery.sender.step()
    assert archive.taken == ["1.2.3.4.1", "1.2.3.4.2"]
    assert delivery.job.state is JobState.SENT
    assert [line["reason"] for line in delivery.log["warned"]] == ["1.2.3.4.1 was stored with status 0xB000"]


def test_what_is_refused_for_good_fails_with_its_status_after_the_others_were_sent(prepare: Prepare) -> None:
    port, _ = free_ports()
    delivery, archive = prepare(f"PACS@127.0.0.1:{port}"), Archive([0xC123, 0])
    with archive.running(port):
        delivery.sender.step()
    assert archive.taken == ["1.2.3.4.2"]
    assert delivery.job.state is JobState.FAILED
    assert "1.2.3.4.1 (status 0xC123)" in delivery.job.reason


@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], None]) -> Generator[tuple[int, list[tuple[str, str]]]]:
    """A server that answers so; yields its port, and the method and path of what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked.append((self.command, self.path))
            answer(self)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def body_of(handler: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def to_login(handler: BaseHTTPRequestHandler) -> None:
    if handler.path == "/login":
        body_of(handler, "text/html", b"<html>Log in</html>")
        return
    handler.send_response(302)
    handler.send_header("Location", "/login")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (to_login, "HTTP status 302: it sends elsewhere"),
        (lambda handler: body_of(handler, "text/html; charset=utf-8", b"<html>app</html>"), "a page for people"),
    ],
)
def test_what_only_a_web_site_answered_is_not_delivered(
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[BaseHTTPRequestHandler], None],
    reason: str,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with web(answer) as (port, asked):
        delivery = prepare(f"http://127.0.0.1:{port}/dicom-web")
        assert delivery.sender.step()
    assert (delivery.job.state, delivery.job.num_sent) == (JobState.SENDING, 0)
    assert reason in delivery.log["postponed"][0]["reason"]
    assert asked == [("POST", "/dicom-web/studies")], "nor is anybody else told the authorization"


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"00081199": {"vr": "SQ", "Value": [{}]}, "00081198": null}', JobState.SENT),
        (b'[{"00081198": []}]', JobState.SENT),
        (b'{"00081198": {"vr": "SQ", "Value": [{}]}}', JobState.FAILED),
        (b"", JobState.SENT),
    ],
)
def test_the_answer_of_a_dicomweb_service_says_what_it_took(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, body: bytes, state: JobState
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with web(lambda handler: body_of(handler, "application/dicom+json", body)) as (port, _):
        delivery = prepare(f"http://127.0.0.1:{port}/dicom-web")
        assert delivery.sender.step()
    assert delivery.job.state is state


def test_a_dicomweb_service_that_is_down_is_tried_again(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    _, port = free_ports()
    delivery = prepare(f"http://127.0.0.1:{port}/dicom-web")
    assert delivery.sender.step()
    assert delivery.delays() == [10]
