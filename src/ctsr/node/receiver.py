"""The receiver: takes C-ECHO and C-STORE of CT images, within limits, and puts them into the queue."""

import shutil
import socket
import sqlite3
import threading
import time
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from socketserver import BaseServer
from typing import Any, Protocol, cast

from pydicom import uid as syntaxes
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from ctsr.dicom import quiet, read_header
from ctsr.dicom.attributes import Attributes
from ctsr.errors import CtsrError, ReadError
from ctsr.node import EventLog, NodeOptions
from ctsr.node.queue import Instance, Queue
from ctsr.reporting import one_line
from ctsr.series import PROGRAM

VERIFICATION = "1.2.840.10008.1.1"
STORED_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
TRANSFER_SYNTAXES = (
    syntaxes.ExplicitVRLittleEndian,
    syntaxes.ImplicitVRLittleEndian,
    syntaxes.ExplicitVRBigEndian,
    syntaxes.DeflatedExplicitVRLittleEndian,
    syntaxes.RLELossless,
    syntaxes.JPEGLosslessSV1,
    syntaxes.JPEGLossless,
    syntaxes.JPEGExtended12Bit,
    syntaxes.JPEGBaseline8Bit,
    syntaxes.JPEGLSLossless,
    syntaxes.JPEGLSNearLossless,
    syntaxes.JPEG2000Lossless,
    syntaxes.JPEG2000,
    syntaxes.HTJ2KLossless,
    syntaxes.HTJ2KLosslessRPCL,
    syntaxes.HTJ2K,
)
"""What `ctsr.dicom` decodes."""

SUCCESS, OUT_OF_RESOURCES, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
"""Status of C-STORE: PS3.4 B.2.3."""

MAX_PDU_BYTES = 128 * 1024
"""What callers are told to send at most in one PDU; larger ones make large images faster."""
PDU_LIMIT_BYTES = 4 * 1024 * 1024
"""What is read of one PDU: a header may announce 4 GiB, and an association request is larger than a data PDU."""
IDLE_S = 60.0
"""An association in which nothing comes for so long is ended."""

SOP_UID, STUDY_UID, SERIES_UID = Tag(0x0008, 0x0018), Tag(0x0020, 0x000D), Tag(0x0020, 0x000E)
EQUIPMENT = Tag(0x0018, 0xA001)
PREAMBLE_BYTES = 132


@dataclass
class _Connection:
    """What is known of an open association."""

    jobs: set[int] = field(default_factory=set[int])
    """The jobs it sent images for."""
    message_bytes: int = 0
    """Read since its last whole message."""


class Receiver:
    """A C-STORE service; callers are served by a thread each.

    Args:
        queue: receives the images.
        options: where to listen, and the limits.
        log: told what comes.
    """

    def __init__(self, queue: Queue, options: NodeOptions, log: EventLog) -> None:
        self._queue = queue
        self._options = options
        self._log = log
        self._connections: dict[Association, _Connection] = {}
        self._expected: dict[Instance, float] = {}
        self._lock = threading.Lock()
        self._entity = ApplicationEntity(options.aet)
        self._entity.maximum_pdu_size = MAX_PDU_BYTES
        self._entity.maximum_associations = options.max_associations
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(options.allow)
        self._entity.acse_timeout = self._entity.network_timeout = IDLE_S
        self._entity.add_supported_context(VERIFICATION)
        for sop_class in STORED_CLASSES:
            self._entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        self._server: _Server | None = None

    def start(self) -> int:
        """Listen from now on; returns the port.

        Raises:
            CtsrError: the address is taken, or none of this computer's.
        """
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_DIMSE_RECV, self._message_ended),
            (evt.EVT_C_STORE, self._store),
        ]
        address = (self._options.host, self._options.port)
        try:
            server = self._entity.make_server(
                address,
                ssl_context=self._options.server_tls(),
                evt_handlers=handlers,
                server_class=cast("Any", _Server),
            )
        except OSError as error:
            raise CtsrError(f"cannot listen on {address[0]}:{address[1]}: {one_line(error)}") from error
        self._server = cast("_Server", server)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening and end the open associations; what is not acknowledged is sent again by the callers."""
        if self._server is not None:
            self._server.shutdown()
        with self._lock:
            connections = list(self._connections)
        for association in connections:
            association.abort()

    def held_jobs(self) -> set[int]:
        """The jobs that open associations sent images for: these are not complete."""
        with self._lock:
            return {job for connection in self._connections.values() for job in connection.jobs}

    def expected_studies(self) -> set[tuple[str, str]]:
        """UID and caller of the studies of which an image found no room and has not come since: these are not complete.

        Made of a part of them, results would be followed by others of the whole, under UIDs of their own.
        """
        oldest = time.monotonic() - self._options.patience
        with self._lock:
            self._expected = {instance: since for instance, since in self._expected.items() if since >= oldest}
            return {(instance.study_uid, instance.caller) for instance in self._expected}

    def _opened(self, event: Event) -> None:
        connection = _Connection()
        with self._lock:
            self._connections[event.assoc] = connection
        # A peer's PDU is read whole before anything can be said about it: limited here, before that.
        wrapped = event.assoc.dul.socket
        assert wrapped is not None, "the connection is open"
        wrapped.recv = _limited(wrapped.recv, connection, self._options.max_instance_bytes)

    def _closed(self, event: Event) -> None:
        with self._lock:
            self._connections.pop(event.assoc, None)

    def _rejected(self, event: Event) -> None:
        requestor = event.assoc.requestor
        called = requestor.primitive.called_ae_title if requestor.primitive else ""
        self._log("rejected", caller=requestor.ae_title, called=called, address=requestor.address)

    def _message_ended(self, event: Event) -> None:
        with self._lock:
            if event.assoc in self._connections:
                self._connections[event.assoc].message_bytes = 0

    def _store(self, event: Event) -> int:
        """Answer a C-STORE request with a status; 0 once the image is on the disk."""
        caller = event.assoc.requestor.ae_title.strip()
        request = cast("Any", event.request)
        try:
            content = event.encoded_dataset()
            syntax = UID(str(event.context.transfer_syntax))
            header = _header(content, syntax, self._options.max_instance_bytes)
            instance = _identified(header, caller)
        except (ReadError, AttributeError) as error:
            self._log("refused", caller=caller, reason=one_line(error))
            return CANNOT_UNDERSTAND
        if instance.sop_uid != str(request.AffectedSOPInstanceUID):
            self._log("refused", caller=caller, reason="the request names another image than the data set")
            return MISMATCH
        if _is_own_result(header):
            # An archive that routes all CT here would have its results upscaled again, without end.
            self._log("ignored", caller=caller, reason="made by ctsr")
            return SUCCESS
        if shutil.disk_usage(self._queue.folder).free < self._options.min_free_bytes:
            return self._without_room(instance, "too little free disk space")
        try:
            receipt = self._queue.receive(instance, content)
        except (OSError, sqlite3.Error) as error:
            return self._without_room(instance, one_line(error))
        with self._lock:
            self._expected.pop(instance, None)
            if event.assoc in self._connections:
                self._connections[event.assoc].jobs.add(receipt.job_id)
        what = "replaced" if receipt.has_replaced else "known" if receipt.is_known else "stored"
        self._log(what, caller=caller, job=receipt.job_id)
        return SUCCESS

    def _without_room(self, instance: Instance, reason: str) -> int:
        self._log("refused", caller=instance.caller, reason=reason)
        with self._lock:
            self._expected[instance] = time.monotonic()
        return OUT_OF_RESOURCES


class _Server(ThreadedAssociationServer):
    """A server that no single caller can stop or fill.

    pynetdicom's own accepts TLS connections one after the other, each as slow as its caller likes,
    and waits for the rest of a PDU without end.
    """

    request_queue_size = 128

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; its TLS handshake happens in its own thread, with the first bytes read."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.settimeout(IDLE_S)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Refuse connections far above the limit, before they ask for an association and can be told."""
        return len(self.active_associations) < 2 * self.ae.maximum_associations

    def shutdown(self) -> None:
        """Stop listening. pynetdicom's expects that the entity has started the server itself."""
        BaseServer.shutdown(self)
        self.server_close()


class _Reads(Protocol):
    def __call__(self, nr_bytes: int) -> bytearray: ...


def _limited(recv: _Reads, connection: _Connection, max_instance_bytes: int) -> _Reads:
    """Read from a socket, but no PDU and no message that is too large: its connection is closed instead."""

    def read(nr_bytes: int) -> bytearray:
        connection.message_bytes += nr_bytes
        total = connection.message_bytes
        if nr_bytes > PDU_LIMIT_BYTES or total > max_instance_bytes + PDU_LIMIT_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes, in a message of {total}, is too large")
        return recv(nr_bytes)

    return read


def _header(content: bytes, syntax: UID, max_bytes: int) -> Dataset:
    """What a received file says of itself, as far as a node wants to know it.

    Raises:
        ReadError: it is not a data set, or exceeds `max_bytes` when it is inflated.
    """
    if syntax == syntaxes.DeflatedExplicitVRLittleEndian:
        _check_inflated(content, max_bytes)
    with quiet():
        return read_header(BytesIO(content), [SOP_UID, STUDY_UID, SERIES_UID, EQUIPMENT])


def _identified(header: Dataset, caller: str) -> Instance:
    """The identity of a received image.

    Raises:
        ReadError: it lacks a UID.
    """
    uids = [str(header[tag].value if tag in header else "") for tag in (STUDY_UID, SERIES_UID, SOP_UID)]
    if not all(uids):
        raise ReadError("the image lacks the UID of its study, its series or itself")
    return Instance(uids[0], uids[1], uids[2], caller)


def _is_own_result(header: Dataset) -> bool:
    """Whether ctsr made an image, by its ContributingEquipmentSequence."""
    return any(manufacturer == PROGRAM for manufacturer, _ in Attributes(header).contributors())


def _check_inflated(content: bytes, max_bytes: int) -> None:
    start = BytesIO(content)
    start.seek(PREAMBLE_BYTES)
    # The file meta's first element holds the length of the others: tag, VR, length 4, value.
    head = start.read(12)
    meta_end = PREAMBLE_BYTES + 12 + int.from_bytes(head[8:12], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflater.decompress(content[meta_end:], max_bytes)
    except zlib.error as error:
        raise ReadError(f"deflated pixels cannot be inflated ({error})") from error
    if inflater.unconsumed_tail:
        raise ReadError("the image is too large once inflated")
