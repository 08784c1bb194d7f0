"""A real dask cluster on this machine, and commands that are begun and watched."""

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.needs import needs


@contextmanager
def cluster(folder: Path) -> Generator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A scheduler and two workers; the workers' working folder is another one than ours."""
    needs(find_spec("distributed") is not None, "install ctsr[cluster] to run this")
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
        log = (folder / f"{module}{len(started)}.log").open("wb")
        started.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))

    try:
        start("dask_scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])
        for _ in range(2):
            start("dask_worker", address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
        yield address, started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def begun(*words: str, folder: Path | None = None) -> "subprocess.Popen[bytes]":
    """A command in a process of its own, in the working folder or another one, as a user would start it."""
    program = Path(sys.executable).with_name("ctsr")
    return subprocess.Popen([program, *words], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
