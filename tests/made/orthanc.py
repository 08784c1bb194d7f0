"""Debian's Orthanc, a real archive, running for a test."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.needs import needs, needs_program

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN_S = 60


@dataclass(frozen=True)
class Archive:
    """An Orthanc that runs for one test."""

    http_port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:
            return json.load(reply)

    def answers(self) -> bool:
        try:
            return self.get("/system")["ApiVersion"] > 0
        except OSError:
            return False


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def running(folder: Path, *, ports: tuple[int, int] | None = None, **extra: Any) -> Generator[Archive]:
    """Run an archive; one that ran in this folder before goes on with what it held, on other ports unless told.

    `extra` is further configuration; paths in it are those of `folder`.
    """
    program = needs_program("Orthanc", "orthanc")
    needs(PLUGIN.is_file(), "install Orthanc's DICOMweb plugin (Debian package orthanc-dicomweb) to run this")
    archive = Archive(*(ports or free_ports()))
    config = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": archive.http_port,
        "DicomPort": archive.dicom_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **extra,
    }
    folder.mkdir(exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not archive.answers():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "Orthanc does not answer"
                time.sleep(0.2)
            yield archive
        finally:
            process.terminate()
            process.wait(30)
