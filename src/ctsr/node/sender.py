"""The sender: delivers results by C-STORE or STOW-RS, again and again until the archive has them."""

import http.client
import json
import os
import ssl
import threading
import uuid
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pynetdicom.ae import ApplicationEntity

from ctsr.errors import CtsrError, boundary
from ctsr.node import Destination, DicomPeer, EventLog, NodeOptions, StowServer
from ctsr.node.queue import JobState, Queue, StudyJob
from ctsr.reporting import listed, one_line

MAX_RETRY_S = 900.0
"""The longest wait between two deliveries."""
TIMEOUT_S = 60.0
"""For a connection, and for each answer."""
AUTHORIZATION = "CTSR_STOW_AUTHORIZATION"
"""Environment variable with the value of the Authorization header for STOW-RS: "Bearer …"."""
FAILED_SOP_SEQUENCE = "00081198"
MAX_ANSWER_BYTES = 1 << 20
PAGES = {"text/html", "application/xhtml+xml"}
"""Media types of answers that come from a web site, not from STOW-RS."""
REASONS = 3
"""Refused images that a message names before it says how many more there are."""


class DeliveryError(CtsrError):
    """The destination cannot be reached, or has no room at present: to be tried again."""


class DeliveryStatus(Enum):
    """What the destination said of an image."""

    TAKEN = auto()
    REFUSED = auto()
    """For good: the same image will never be taken."""


@dataclass(frozen=True)
class Answer:
    """What became of an image at its destination, in its words."""

    status: DeliveryStatus
    text: str = ""


class Channel(Protocol):
    """An open way to the destination."""

    def send(self, path: Path) -> Answer:
        """Send an image.

        Raises:
            DeliveryError: it was not taken, and may be later.
        """
        ...


class Sender:
    """Delivers jobs; used by one thread.

    Args:
        queue: where the jobs come from.
        destination: where they go.
        options: of the node.
        log: told what is done.
        stop: when set, the delivery under way ends after the present image.
    """

    def __init__(
        self,
        queue: Queue,
        destination: Destination,
        options: NodeOptions,
        log: EventLog,
        stop: threading.Event,
    ) -> None:
        self._queue = queue
        self._destination = destination
        self._options = options
        self._log = log
        self._stop = stop

    def step(self) -> bool:
        """Deliver the oldest job that is due; False where there is none."""
        job = self._queue.next_due(JobState.SENDING)
        if job is None:
            return False
        try:
            refused = self._deliver(job)
        except DeliveryError as error:
            delay = min(self._options.retry_after * 2 ** min(job.attempts, 30), MAX_RETRY_S)
            self._queue.postpone(job, delay)
            self._log("postponed", job=job.id, seconds=delay, reason=str(error))
            return True
        except CtsrError as error:
            self._finish(job, str(error))
            return True
        if not self._stop.is_set():
            problem = f"refused by the destination: {listed(refused, REASONS)}" if refused else ""
            self._finish(job, "; ".join(filter(None, [job.reason, problem])))
        return True

    def _finish(self, job: StudyJob, problem: str) -> None:
        self._queue.finish(job, problem)
        self._log("failed" if problem else "sent", job=job.id, reason=problem or None)

    def _deliver(self, job: StudyJob) -> list[str]:
        """Send what the destination does not have yet; returns what it refused."""
        done = self._queue.sent_uids(job)
        paths = _pending(job.folder / job.result, done)
        refused: list[str] = []
        warned: set[str] = set()
        if not paths:
            return refused
        with self._channel(list(paths.values())) as channel:
            for uid, path in paths.items():
                if self._stop.is_set():
                    break
                answer = channel.send(path)
                if answer.status is DeliveryStatus.TAKEN:
                    self._queue.mark_sent(job, uid)
                    if answer.text and answer.text not in warned:
                        self._log("warned", job=job.id, reason=f"{uid} was stored with {answer.text}")
                    warned.add(answer.text)
                else:
                    refused.append(f"{uid} ({answer.text})")
        return refused

    def _channel(self, paths: Sequence[Path]) -> AbstractContextManager[Channel]:
        match self._destination:
            case DicomPeer():
                tls = self._options.client_tls() if self._options.send_tls else None
                return _associated(self._destination, self._options.aet, paths, tls)
            case StowServer():
                return _stow(self._destination, self._options.client_tls())


def _pending(folder: Path, done: set[str]) -> dict[str, Path]:
    """The results that are not delivered yet, by their SOPInstanceUID."""
    pending: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.dcm")):
        with boundary(str(path)):
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
        if uid not in done:
            pending[uid] = path
    return pending


@contextmanager
def _associated(
    peer: DicomPeer, own_title: str, paths: Sequence[Path], tls: ssl.SSLContext | None
) -> Generator[Channel]:
    """An association that can send these files.

    Raises:
        DeliveryError: the peer does not answer, or rejects it.
    """
    entity = ApplicationEntity(own_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.connection_timeout = TIMEOUT_S
    metas = [read_file_meta_info(path) for path in paths]
    for sop_class, syntax in {(str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID)) for m in metas}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.aet,
        tls_args=(tls, peer.host) if tls is not None else None,
    )
    if not association.is_established:
        how = "rejects the association" if association.is_rejected else "does not answer"
        raise DeliveryError(f"{peer.aet}@{peer.host}:{peer.port} {how}")
    try:
        yield _CStore(association.send_c_store)
    finally:
        association.release()


class _SendsDataset(Protocol):
    def __call__(self, dataset: Dataset) -> Dataset: ...


class _CStore:
    """Sends by C-STORE over an association."""

    def __init__(self, send: _SendsDataset) -> None:
        self._send = send

    def send(self, path: Path) -> Answer:
        """See `Channel`."""
        with boundary(str(path)):
            dataset = dcmread(path)
        try:
            status = self._send(dataset).get("Status")
        except ValueError as error:  # no accepted context: the peer does not know the class or syntax
            return Answer(DeliveryStatus.REFUSED, one_line(error))
        except RuntimeError as error:
            raise DeliveryError(f"the association ended: {one_line(error)}") from error
        if status is None:
            raise DeliveryError("the association ended before the image was acknowledged")
        if status == 0x0000 or status >> 12 == 0xB:  # PS3.4 B.2.3: Bxxx are warnings, the image is stored
            return Answer(DeliveryStatus.TAKEN, f"status 0x{status:04X}" if status else "")
        if status >> 8 in {0xA9, 0xC0} or status >> 12 == 0xC or status == 0x0122:
            return Answer(DeliveryStatus.REFUSED, f"status 0x{status:04X}")
        raise DeliveryError(f"the destination returned status 0x{status:04X}")


@contextmanager
def _stow(server: StowServer, tls: ssl.SSLContext) -> Generator[Channel]:
    yield _Stow(server.url, tls if server.url.startswith("https:") else None)


class _NoRedirects(HTTPRedirectHandler):
    """Follows nowhere: a POST would arrive as a GET, without the image and with the authorization, and be answered."""

    def redirect_request(self, *args: Any, **words: Any) -> None:
        """Leave the answer as it is, which becomes an HTTPError."""


class _Stow:
    """Sends by STOW-RS (PS3.18 10.5), one image a request, so that each has its own answer."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self._url = f"{url}/studies"
        self._opener = build_opener(_NoRedirects, HTTPSHandler(context=tls))

    def send(self, path: Path) -> Answer:
        """See `Channel`."""
        mark = uuid.uuid4().hex
        head = f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        body = head + path.read_bytes() + f"\r\n--{mark}--\r\n".encode("ascii")
        headers = {
            "Accept": "application/dicom+json",
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={mark}',
        }
        if AUTHORIZATION in os.environ:
            headers["Authorization"] = os.environ[AUTHORIZATION]
        request = Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                status, answer = int(response.status), response.read(MAX_ANSWER_BYTES)
                kind = response.headers.get_content_type()
        except HTTPError as error:
            status, answer, kind = error.code, b"", ""
            error.close()
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            raise DeliveryError(f"{self._url}: {one_line(error)}") from error
        if kind in PAGES:
            raise DeliveryError(f"{self._url} answers with a page for people, as no DICOMweb service does: check it")
        if status in {http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED}:
            # 202 tells of warnings and of failures, so the body decides. One image was sent: what failed is this one.
            if _names_failures(answer, default=status != http.HTTPStatus.OK):
                return Answer(DeliveryStatus.REFUSED, f"not stored, HTTP status {status}")
            return Answer(DeliveryStatus.TAKEN)
        if status == http.HTTPStatus.CONFLICT:
            return Answer(DeliveryStatus.REFUSED, f"HTTP status {status}")
        why = ": it sends elsewhere, perhaps to a login; give the address itself" if status // 100 == 3 else ""
        raise DeliveryError(f"{self._url} returned HTTP status {status}{why}")


def _names_failures(answer: bytes, *, default: bool) -> bool:
    """Whether an answer of STOW-RS (PS3.18 10.5.3) lists images that were not stored; `default` if it is unreadable."""
    try:
        document = json.loads(answer)
    except ValueError:
        return default
    documents = cast("list[Any]", document if isinstance(document, list) else [document])
    failures = [item.get(FAILED_SOP_SEQUENCE) for item in documents if isinstance(item, dict)]
    return any(isinstance(failure, dict) and failure.get("Value") for failure in failures)
