"""A node without a network, which starts in a moment: `python -m tests.node.light QUEUE SEND_TO QUIET`."""

import dataclasses
import os
import sys
import threading
from pathlib import Path
from typing import Any

from pydicom import dcmread

from ctsr.node import EventLog, NodeOptions
from ctsr.node.service import serve
from tests.made.ct import save


@dataclasses.dataclass
class Report:
    """As `ctsr.upscale.run.Report` where everything went well."""

    jobs: tuple[Any, ...] = ()
    outcomes: tuple[Any, ...] = ()
    unusable: tuple[str, ...] = ()
    failed: int = 0


class Copier:
    """Stands for a network: hands the images on with other UIDs, or fails."""

    settings = "test"
    broken = False

    def __call__(self, source: Path, out: Path, progress: Any) -> Any:
        if self.broken:
            raise RuntimeError("a mistake of a library")
        for path in source.iterdir():
            ds = dcmread(path)
            ds.SOPInstanceUID += ".2"
            ds.SeriesInstanceUID += ".2"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            save(ds, out / path.name)
        return Report()


def options(queue: Path, send_to: str, quiet: float) -> NodeOptions:
    return NodeOptions(port=0, queue=queue, quiet=quiet, patience=quiet, min_free=0, send_to=send_to, retry_after=0.2)


if __name__ == "__main__":
    folder, send_to, quiet = sys.argv[1:]
    log = EventLog(lambda line: os.write(1, f"{line}\n".encode()))
    serve(options(Path(folder), send_to, float(quiet)), Copier(), log, threading.Event())
