"""Put on PYTHONPATH: this process, and every one it starts, may connect to its own machine and nowhere else."""

import os
import sys
from pathlib import Path

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def forbid(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: raises where a connection would leave the machine, and writes it down as well."""
    if event == "socket.connect":
        address = arguments[1]
        target = str(address[0]) if isinstance(address, tuple) else "127.0.0.1"  # a Unix socket has a path
    elif event == "socket.getaddrinfo":
        target = str(arguments[0] or "127.0.0.1")
    else:
        return
    if target not in LOOPBACK:
        with Path(os.environ["CTSR_TEST_CONNECTIONS"]).open("a", encoding="utf-8") as log:
            log.write(f"{event} {target}\n")
        raise PermissionError(f"{event}: {target} is not this machine")


sys.addaudithook(forbid)
