"""`python -m benchmarks.node_load`: a DICOM node under load and faults; what it acknowledged must come back once.

Debian's `storescu` sends to `ctsr node` in a process of its own, which upscales with ctsr-x2 and delivers to Debian's
Orthanc. A caller sends again what was not acknowledged, as a router does, and only that. In the end each image that was
acknowledged must have one result in the archive, which names it as its source.
"""

import argparse
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from pydicom import dcmread
from tests.made.ct import body, save, slices
from tests.made.orthanc import Archive, free_ports, running
from tests.needs import needs_program

SIZE = 64
"""Rows and columns: the network is not what is measured."""
QUIET_S = 2.0
AGAIN_S = 3.0
PATIENCE_S = 30.0
"""Before a caller sends again."""
FULL_DISK_MIB, FULL_S = 24, 10.0
LIVES_S = (0.3, 12.0)
"""How long a node that is killed has been listening."""
HOSTILE = (
    struct.pack(">BBL", 0x04, 0, 0xFFFFFFFF) + bytes(1000),  # 4 GiB announced
    struct.pack(">BBL", 0x01, 0, 1 << 22) + bytes(1000),  # a request that never ends
    struct.pack(">BBL", 0x04, 0, 10) + bytes(10),  # data before a request
    struct.pack(">BBL", 0x01, 0, 68) + bytes(68),  # an empty request
    b"\x00" * 5,
    b"GET / HTTP/1.1\r\n\r\n",
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much is sent, and what happens meanwhile."""

    images: int = 2000
    callers: int = 50
    kills: int = 20
    outage_s: float = 60.0
    few: int = 500
    """Images of the runs that show a fault rather than a load."""
    limit_s: float = 2400.0
    """For each run."""


@dataclass
class Usage:
    """The most that a node's processes took."""

    rss: int = 0
    """Bytes."""
    threads: int = 0
    files: int = 0
    queue: int = 0
    """Bytes on the disk."""

    def watch(self, pid: int, folder: Path, stop: threading.Event) -> None:
        """Look until `stop` is set or the process has ended."""
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            while not stop.wait(0.1):
                with process.oneshot():
                    self.rss = max(self.rss, process.memory_info().rss)
                    self.threads = max(self.threads, process.num_threads())
                    self.files = max(self.files, process.num_fds())
                self.queue = max(self.queue, _folder_bytes(folder))


@dataclass(frozen=True)
class Row:
    """What came of a run."""

    name: str
    acknowledged: int
    once: int
    """Acknowledged images with one result."""
    lost: int
    twice: int
    strangers: int
    """Results of images that were never acknowledged, or that nobody sent."""
    failed: int
    """Jobs of the queue that are listed as failed."""
    kills: int
    received_s: float
    """Until the last image was acknowledged."""
    total_s: float
    """Until the archive had the last result."""
    usage: Usage

    @property
    def is_right(self) -> bool:
        """Whether each image that was acknowledged came back exactly once, and nothing else did."""
        return self.once == self.acknowledged > 0 and not (self.lost or self.twice or self.strangers or self.failed)


class Node:
    """`ctsr node`, which can be killed and started again on the same port."""

    def __init__(self, queue: Path, log: Path, archive: Archive) -> None:
        self.queue = queue
        self.port, _ = free_ports()
        self.usage = Usage()
        self.kills = 0
        self._log = log
        self._words = [sys.executable, "-m", "ctsr", "node", "--port", str(self.port), "--queue", str(queue)]
        self._words += ["--send_to", f"ORTHANC@127.0.0.1:{archive.dicom_port}", "--allow", "ROUTER"]
        self._words += ["--quiet", str(QUIET_S), "--patience", str(PATIENCE_S), "--min_free", "0", "--retry_after", "1"]
        self._words += ["--model_path", "ctsr-x2", "--device", "cpu", "--engine", "torch"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._watcher = threading.Thread()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self.usage.watch, args=(self._process.pid, self.queue, self._stop))
        self._watcher.start()
        while b'"listening"' not in self._log.read_bytes()[begin:]:
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None, "it was started"
        self._process.kill()
        self._process.wait()
        self.kills += 1
        self._stop.set()
        self._watcher.join()

    def end(self) -> None:
        """End it by SIGTERM."""
        assert self._process is not None, "it was started"
        self._process.terminate()
        status = self._process.wait(60)
        self._stop.set()
        self._watcher.join()
        if status != 0:
            raise RuntimeError(f"the node ended with status {status}: {self._log.read_text()[-2000:]}")

    def events(self) -> Counter[str]:
        """How often the log names each event."""
        return Counter(re.findall(r'"event": "(\w+)"', self._log.read_text()))

    def states(self) -> Counter[str]:
        """How many jobs of the queue are in each state."""
        from ctsr.node.queue import Queue

        queue = Queue(self.queue, exclusive=False)
        try:
            return Counter(str(job.state) for job in queue.jobs())
        finally:
            queue.close()


@dataclass
class Caller:
    """A router with one series, which sends what was not acknowledged until all of it is."""

    files: dict[str, str]
    """Path → SOPInstanceUID."""
    port: int
    acknowledged: set[str] = field(default_factory=set[str])

    def send(self, deadline: float) -> None:
        """Send, again and again."""
        while len(self.acknowledged) < len(self.files) and time.monotonic() < deadline:
            pending = [path for path, uid in self.files.items() if uid not in self.acknowledged]
            words = ["storescu", "-v", "-aet", "ROUTER", "-aec", "CTSR", "127.0.0.1", str(self.port), *pending]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            sent = ""
            for line in (done.stdout + done.stderr).splitlines():
                if match := re.search(r"Sending file: (.*)", line):
                    sent = match[1]
                elif "Received Store Response (Success)" in line:
                    self.acknowledged.add(self.files[sent])
            if done.returncode or len(self.acknowledged) < len(self.files):
                time.sleep(AGAIN_S)


class Run:
    """One run: images, callers, a node, and an archive that may go away."""

    def __init__(
        self, name: str, folder: Path, archive: Archive, load: Load, images: int, queue: Path | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.archive = archive
        self.load = load
        folder.mkdir()
        self.node = Node(queue or folder / "queue", folder / "node.log", archive)
        self.callers = [
            Caller(_series(folder / f"in{i}", f"{_root(name)}.{i}", images // load.callers), self.node.port)
            for i in range(load.callers)
        ]

    def measure(self, meanwhile: Callable[["Run"], object] = lambda _: None) -> Row:
        """Send everything, with `meanwhile` beside it, and wait until the archive has the results."""
        self.node.start()
        started = time.monotonic()
        deadline = started + self.load.limit_s
        with ThreadPoolExecutor(len(self.callers) + 1) as threads:
            beside = threads.submit(meanwhile, self)
            for sending in [threads.submit(caller.send, deadline) for caller in self.callers]:
                sending.result()
            received_s = time.monotonic() - started
            beside.result()
        while not self.is_idle() and time.monotonic() < deadline:
            time.sleep(0.2)
        total_s = time.monotonic() - started
        self.node.end()
        return self._row(received_s, total_s)

    def is_idle(self) -> bool:
        """Whether all that the node took was delivered, or failed."""
        states = self.node.states()
        return bool(states) and not states.keys() - {"sent", "failed"}

    def _row(self, received_s: float, total_s: float) -> Row:
        acknowledged = {uid for caller in self.callers for uid in caller.acknowledged}
        found = Counter(_sources(self.archive, _root(self.name)))
        return Row(
            self.name,
            len(acknowledged),
            sum(found[uid] == 1 for uid in acknowledged),
            sum(found[uid] == 0 for uid in acknowledged),
            sum(found[uid] > 1 for uid in acknowledged),
            sum(count for uid, count in found.items() if uid not in acknowledged),
            self.node.states()["failed"],
            self.node.kills,
            received_s,
            total_s,
            self.node.usage,
        )


def _root(name: str) -> str:
    """A UID that all images of a run begin with."""
    return f"1.2.826.0.1.3680043.10.1.{sum(name.encode())}"


def _series(folder: Path, uid: str, count: int) -> dict[str, str]:
    images = [body(SIZE, seed=seed) for seed in range(count)]
    made = slices(images, series=uid, StudyInstanceUID=f"{uid}.0", FrameOfReferenceUID=f"{uid}.0.1", PatientID=uid)
    return {str(save(ds, folder / f"{i}.dcm")): str(ds.SOPInstanceUID) for i, ds in enumerate(made)}


def _sources(archive: Archive, root: str) -> list[str]:
    """The image that each result of a run says it was made of; results of twice the size alone count."""
    found: list[str] = []
    for instance in archive.get("/instances"):
        with urlopen(f"{archive.url}/instances/{instance}/file", timeout=30) as reply:
            dataset = dcmread(BytesIO(reply.read()))
        (source,) = dataset.SourceImageSequence
        if str(source.ReferencedSOPInstanceUID).startswith(f"{root}."):
            right = dataset.Rows == 2 * SIZE and float(dataset.ImagePositionPatient[2]) == _place(source)
            found.append(str(source.ReferencedSOPInstanceUID) if right else "wrong")
    return found


def _place(source: Any) -> float:
    """Z of a slice that `_series` made, mm."""
    return 30.0 + 2.5 * (int(str(source.ReferencedSOPInstanceUID).rpartition(".")[2]) - 1)


def _folder_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def kill_often(run: Run) -> None:
    """Kill the node so often as asked, at moments drawn by a seed, until it is done or long after."""
    rng = random.Random(run.load.kills)
    for _ in range(run.load.kills):
        time.sleep(rng.uniform(*LIVES_S))
        run.node.kill()
        run.node.start()


def call_as_strangers(run: Run) -> None:
    """Call by other titles, and send what is no DICOM, for as long as the callers do."""
    (path,) = list(run.callers[0].files)[:1]
    for titles in (["-aet", "STRANGER", "-aec", "CTSR"], ["-aet", "ROUTER", "-aec", "OTHER"]):
        for _ in range(5):
            done = subprocess.run(
                ["storescu", *titles, "127.0.0.1", str(run.node.port), path], capture_output=True, check=False
            )
            assert done.returncode != 0, "a stranger was let in"
    for hostile in HOSTILE * 5:
        with suppress(OSError), socket.create_connection(("127.0.0.1", run.node.port), 10) as connection:
            connection.sendall(hostile)
            connection.settimeout(0.2)
            connection.recv(64)


@contextmanager
def small_disk(folder: Path) -> Generator[Path | None]:
    """A disk of 24 MiB, None where this user may not mount one."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_MIB}m,mode=700", "none", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(words, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(run: Run, disk: Path) -> None:
    """Take all room on a disk while images come, and again while they are upscaled; give it back each time."""
    for event in ("stored", "upscaled"):
        while not run.node.events()[event]:
            time.sleep(0.1)
        # The node's own files may have filled it already: then not even an empty file finds room.
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1 << 16))
        time.sleep(FULL_S)
        (disk / "ballast").unlink(missing_ok=True)


def runs(folder: Path, load: Load, names: Sequence[str]) -> Generator[Row]:
    """The runs of these names, each with an archive of its own."""
    for program, package in (("storescu", "dcmtk"), ("Orthanc", "orthanc")):
        needs_program(program, package)
    for name in names:
        place = folder / name.replace(" ", "_")
        place.mkdir()
        if name == "archive down":
            yield _outage(place, load)
        elif name == "full disk":
            with small_disk(place / "disk") as disk:
                if disk is None:
                    print("full disk: not run, as only root may mount a small disk", file=sys.stderr)
                    continue
                with running(place / "orthanc") as archive:
                    run = Run(name, place / "run", archive, load, load.few, disk / "queue")
                    yield run.measure(lambda run, disk=disk: fill_disk(run, disk))
        else:
            images = load.few if name == "strangers" else load.images
            meanwhile = {"load": lambda _: None, "kills": kill_often, "strangers": call_as_strangers}[name]
            with running(place / "orthanc") as archive:
                yield Run(name, place / "run", archive, load, images).measure(meanwhile)


def _outage(place: Path, load: Load) -> Row:
    """An archive that is away from the first image on, and comes back with the same disk."""
    ports = free_ports()
    with running(place / "orthanc", ports=ports) as archive:
        run = Run("archive down", place / "run", archive, load, load.few)
    back = threading.Event()

    def return_later() -> Generator[None]:
        time.sleep(load.outage_s)
        with running(place / "orthanc", ports=ports):
            yield
            back.wait()

    archive_again = return_later()
    try:
        return run.measure(lambda _: next(archive_again))
    finally:
        back.set()
        with suppress(StopIteration):
            next(archive_again)


NAMES = ("load", "kills", "strangers", "archive down", "full disk")


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| run | acknowledged | came back once | lost | twice | others | failed jobs | kills | received, s | images/s "
        "| all done, s | peak RSS, MiB | threads | files | queue, MiB |",
        "|---|" + "--:|" * 14,
    ]
    for row in rows:
        usage = row.usage
        figures = [row.acknowledged, row.once, row.lost, row.twice, row.strangers, row.failed, row.kills]
        figures += [f"{row.received_s:.1f}", f"{row.acknowledged / row.received_s:.0f}", f"{row.total_s:.1f}"]
        figures += [f"{usage.rss / 2**20:.0f}", usage.threads, usage.files, f"{usage.queue / 2**20:.0f}"]
        lines.append(f"| {row.name} | " + " | ".join(map(str, figures)) + " |")
    return "\n".join(lines)


def main() -> int:
    """Exit status: 1 where an image was lost or came twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="*", choices=[*NAMES, []], help=f"all when left out: {', '.join(NAMES)}")
    parser.add_argument("--images", type=int, default=Load.images)
    parser.add_argument("--few", type=int, default=Load.few)
    parser.add_argument("--callers", type=int, default=Load.callers)
    parser.add_argument("--kills", type=int, default=Load.kills)
    parser.add_argument("--outage", type=float, default=Load.outage_s, help="seconds")
    args = parser.parse_args()
    load = Load(images=args.images, callers=args.callers, kills=args.kills, outage_s=args.outage, few=args.few)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ctsr-node-load-") as folder:
        for row in runs(Path(folder), load, args.runs or NAMES):
            rows.append(row)
            print(table([row]), flush=True)
    print(table(rows))
    return int(not all(row.is_right for row in rows))


if __name__ == "__main__":
    sys.exit(main())
