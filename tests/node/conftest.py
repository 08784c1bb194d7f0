"""Nodes and callers for tests: everything on loopback, on ports that the system chooses."""

import json
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from ctsr.node import EventLog, NodeOptions
from ctsr.node.queue import Queue
from ctsr.node.receiver import VERIFICATION, Receiver
from tests.made.ct import body, slices


class Log:
    """Remembers the events of a node."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.write = EventLog(lambda line: self.lines.append(json.loads(line)))

    def __getitem__(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


class Listening:
    """A receiver with its queue."""

    def __init__(self, options: NodeOptions) -> None:
        self.log = Log()
        self.queue = Queue(options.queue)
        self.receiver = Receiver(self.queue, options, self.log.write)
        self.port = self.receiver.start()

    def num_images(self) -> int:
        return sum(job.num_images for job in self.queue.jobs())


Listen = Callable[..., AbstractContextManager[Listening]]


@pytest.fixture
def listen(tmp_path: Path) -> Listen:
    """A receiver with these options."""

    @contextmanager
    def started(**options: Any) -> Generator[Listening]:
        listening = Listening(NodeOptions(port=0, queue=tmp_path / "queue", **{"min_free": 0.0, **options}))
        try:
            yield listening
        finally:
            listening.receiver.stop()
            listening.queue.close()

    return started


def ct_slices(count: int = 2, *, series: str = "1.2.3.4", size: int = 32) -> list[Dataset]:
    return slices([body(size, seed=i) for i in range(count)], series=series)


def associate(
    port: int,
    *,
    calling: str = "ROUTER",
    called: str = "CTSR",
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
    tls: Any = None,
) -> Association:
    entity = ApplicationEntity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(VERIFICATION)
    for syntax in syntaxes:
        entity.add_requested_context(CTImageStorage, syntax)
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)


def store(port: int, datasets: list[Dataset], **how: Any) -> list[int | None]:
    """The status of each C-STORE, sent in one association."""
    association = associate(port, **how)
    assert association.is_established
    try:
        return [association.send_c_store(dataset).get("Status") for dataset in datasets]
    finally:
        association.release()
