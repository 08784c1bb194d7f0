"""A DICOM node: receives series by C-STORE, upscales them and sends the results to an archive.

`service` runs it. This module holds what its parts share: options, certificates, log, database and lock.
"""

import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from ctsr.errors import UsageError
from ctsr.reporting import printable

AE_TITLE = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")
"""PS3.5 6.2, VR AE: up to 16 printable ASCII characters but the backslash."""
PEER = re.compile(r"(?P<aet>[^@]+)@(?:\[(?P<ipv6>[0-9A-Fa-f:]+)\]|(?P<host>[^:@\[\]]+)):(?P<port>\d{1,5})")
MAX_PORT = 65_535
EVERYWHERE = frozenset({"0.0.0.0", "::"})
"""To listen on: all addresses of this computer. To send to: this computer."""


@dataclass(frozen=True)
class DicomPeer:
    """A destination that takes C-STORE."""

    aet: str
    host: str
    port: int


@dataclass(frozen=True)
class StowServer:
    """A destination that takes STOW-RS; `url` is the root of its DICOMweb service, without /studies."""

    url: str


Destination: TypeAlias = DicomPeer | StowServer


def parse_destination(text: str) -> Destination:
    """Read ``AE@host:port``, ``AE@[::1]:port`` or ``https://host/dicom-web``.

    Raises:
        UsageError: it has none of these forms, or pixels and names would cross a network unencrypted by http.
    """
    if "://" in text:
        url = urlsplit(text)
        if not url.hostname or url.scheme not in {"http", "https"}:
            raise UsageError(f"`send_to` {text}: expected https://host/path of a DICOMweb service")
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise UsageError(f"`send_to` {text}: patient data would be sent unencrypted; use https")
        return StowServer(text.rstrip("/"))
    match = PEER.fullmatch(text)
    if match is None or not AE_TITLE.fullmatch(match["aet"]) or not _is_port(int(match["port"])):
        raise UsageError(f"`send_to` {text}: expected AE@host:port, or https://… for STOW-RS")
    return DicomPeer(match["aet"], match["ipv6"] or match["host"], int(match["port"]))


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address; host names other than localhost count as reachable."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_port(port: int) -> bool:
    return 0 < port <= MAX_PORT


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """Where a node listens, whom it trusts, and how it treats its queue."""

    aet: str = "CTSR"
    """AE title of this node; callers must use it."""
    host: str = "127.0.0.1"
    """Address to listen on; other computers reach only an address of the network, which needs `allow`."""
    port: int = 11112
    """Port to listen on; 0 takes a free one, which the log names."""
    send_to: str | None = None
    """Destination of the results: AE@host:port for C-STORE, https://host/dicom-web for STOW-RS."""
    allow: tuple[str, ...] = ()
    """AE titles that may call; on the loopback address everyone when left out."""
    queue: Path = Path("ctsr_node")
    """Folder of the queue, on a local disk; holds what was received until `keep` hours after it was sent."""
    quiet: float = 15.0
    """Seconds without new images, all associations closed, after which a study is complete."""
    patience: float = 600.0
    """Seconds that a study waits for its rest where an image found no room or the node ended while it was received:
    senders try again after some minutes."""
    retry_after: float = 10.0
    """Seconds before a failed delivery is tried again; doubles with each failure, to 15 minutes at most."""
    keep: float = 24.0
    """Hours that a delivered study stays in the queue, for late slices and against duplicates."""
    max_associations: int = 64
    """Associations open at once; more are rejected, and callers try again."""
    max_instance: float = 1024.0
    """MiB of the largest image that is accepted."""
    min_free: float = 5.0
    """GiB that must stay free on the disk of the queue; with less, images are refused as "out of resources"."""
    tls_cert: Path | None = None
    """Certificate of this node (PEM): it accepts TLS connections only."""
    tls_key: Path | None = None
    """Private key of `tls_cert`."""
    tls_ca: Path | None = None
    """Certificates (PEM) that callers and the destination must be signed by."""
    page_port: int | None = None
    """Port of a page on 127.0.0.1 that shows the queue, 0 for a free one; `ctsr node --list` tells its address."""
    send_tls: bool = False
    """Send by C-STORE over TLS."""

    def __post_init__(self) -> None:
        for title in (self.aet, *self.allow):
            if not AE_TITLE.fullmatch(title):
                raise UsageError(f"{title!r} is not an AE title: 1 to 16 ASCII characters without backslash")
        if self.port != 0 and not _is_port(self.port):
            raise UsageError(f"`port` must be 0 to {MAX_PORT}, got {self.port}")
        if self.page_port not in {None, 0} and not _is_port(self.page_port or 0):
            raise UsageError(f"`page_port` must be 0 to {MAX_PORT}, got {self.page_port}")
        for name in ("quiet", "patience", "keep", "min_free"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"`{name}` must not be negative, got {getattr(self, name):g}")
        for name in ("retry_after", "max_associations", "max_instance"):
            if not getattr(self, name) > 0:
                raise UsageError(f"`{name}` must be above 0, got {getattr(self, name):g}")
        if not is_loopback(self.host) and not self.allow:
            raise UsageError(
                f"`host` {self.host} is reachable from the network: name the AE titles that may call with `allow`"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("`tls_cert` and `tls_key` belong together; give both")
        for path in (self.tls_cert, self.tls_key, self.tls_ca):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}: no such certificate or key file")

    @property
    def max_instance_bytes(self) -> int:
        """`max_instance` in bytes."""
        return int(self.max_instance * 2**20)

    @property
    def min_free_bytes(self) -> int:
        """`min_free` in bytes."""
        return int(self.min_free * 2**30)

    def server_tls(self) -> ssl.SSLContext | None:
        """How callers are received; None without certificate, for plain connections."""
        if self.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.tls_ca is not None:
            # Callers show a certificate too: an AE title alone proves nothing.
            context.verify_mode = ssl.CERT_REQUIRED
        return self._with_files(context)

    def client_tls(self) -> ssl.SSLContext:
        """How the destination is checked: by `tls_ca`, or by the certificates of the system."""
        context = ssl.create_default_context()
        if self.tls_ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._with_files(context)

    def _with_files(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.tls_cert is not None:
                context.load_cert_chain(self.tls_cert, self.tls_key)
            if self.tls_ca is not None:
                context.load_verify_locations(self.tls_ca)
        except (ssl.SSLError, OSError) as error:
            raise UsageError(f"the certificate or key files cannot be used: {error}") from error
        return context


def check_apart(destination: Destination, options: NodeOptions) -> None:
    """Refuse the node itself as destination: it leaves alone what ctsr made, and results would end there unseen.

    Raises:
        UsageError: the destination is where the node listens.
    """
    if isinstance(destination, StowServer) or destination.port != options.port:
        return
    host = destination.host.lower()
    hears_loopback = is_loopback(options.host) or options.host in EVERYWHERE
    is_own = host in {options.host.lower(), socket.gethostname().lower()} or host in EVERYWHERE
    if is_own or (hears_loopback and is_loopback(host)):
        raise UsageError(f"`send_to` {options.send_to} is this node itself: give the address of the archive")


class EventLog:
    """One JSON line an event, for people and log collectors; no patient's name or number is in it.

    Args:
        write: takes a line without its end.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()

    def __call__(self, event: str, **details: str | float | None) -> None:
        """Write an event with the current time."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **details}, ensure_ascii=False, allow_nan=False)
        # Nobody may read the log any more, or its disk may be full: the node goes on.
        with self._lock, suppress(OSError):
            self._write(printable(line))


FORMAT = 1
"""Version of the database."""
BUSY_S = 20.0
"""How long a change waits for another process, such as `ctsr node --retry`."""

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study_uid TEXT NOT NULL, caller TEXT NOT NULL,
    state TEXT NOT NULL, received REAL NOT NULL, changed REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '');
CREATE INDEX jobs_by_state ON jobs (state, due);
CREATE INDEX jobs_by_study ON jobs (study_uid, caller);
CREATE TABLE instances (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, sop_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job, sop_uid));
CREATE INDEX instances_by_uid ON instances (sop_uid);
CREATE TABLE sent (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, sop_uid TEXT NOT NULL, PRIMARY KEY (job, sop_uid));
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database of a queue, and create it where it is missing.

    Raises:
        UsageError: another version of ctsr wrote it.
    """
    # Autocommit: transactions are begun and ended by `Queue._transaction`.
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
    elif version != FORMAT:
        raise UsageError(f"{path}: written by another version of ctsr; choose another `queue`")
    return database


def hold_lock(path: Path) -> sqlite3.Connection:
    """Hold a queue for this process, as long as the connection is open.

    Raises:
        UsageError: another process holds it.
    """
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path.parent}: another node is using this queue; choose another `queue`") from error
    return database


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folders(*folders: Path) -> None:
    """Make names in these folders survive a power cut; Windows does so by itself."""
    if os.name == "nt":
        return
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it on a file system without links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
