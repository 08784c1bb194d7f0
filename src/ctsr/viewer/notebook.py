"""The viewer in a notebook: the same page in a frame."""

import html
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import load_model
from ctsr.nifti import save_volume
from ctsr.viewer.options import DEFAULT_SCALE, ViewOptions
from ctsr.viewer.run import Wanted, open_session, prepare
from ctsr.viewer.server import ViewServer
from ctsr.volume import Volume

__all__ = ["Frame", "show"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A viewer that is running; a notebook shows it in a frame. Closed with `close`, or when Python ends."""

    server: ViewServer
    height: int

    @property
    def address(self) -> str:
        """The page, for a browser of its own."""
        return self.server.address

    def close(self) -> None:
        """End the server and its work."""
        self.server.shutdown()
        self.server.server_close()

    def _repr_html_(self) -> str:
        source = html.escape(self.address, quote=True)
        return f'<iframe src="{source}" width="100%" height="{self.height}" style="border: 0"></iframe>'


def show(
    subject: Volume | Path | str,
    *,
    model_path: str | None = None,
    no_model: bool = False,
    degradation: Degradation | None = None,
    device: str = "auto",
    height: int = 760,
    **options: Any,
) -> Frame:
    """Serve a volume, a patient's folder or a NIfTI file, and give the frame that shows it.

    Args:
        subject: what to look at; a volume is read in HU.
        model_path: see `ctsr.checkpoint.reference.resolve_model`; the newest run when left out, else the bundled model.
        no_model: show LR, interpolations and HR only.
        degradation: how LR is made; the model's when left out.
        device: see `ctsr.device.pick_device`.
        height: of the frame, pixels.
        options: fields of `ViewOptions`, for instance ``preset="lung"``.
    """
    model = None if no_model else load_model(model_path, device=device)
    made = model.degradation if model else Degradation(scale=DEFAULT_SCALE)
    # A volume from memory is gone with the process, and so is its decoded form, which no later one would find.
    folder = tempfile.TemporaryDirectory(prefix="ctsr-view-", ignore_cleanup_errors=True)
    if isinstance(subject, Volume):
        options = {"store": Path(folder.name) / "store"} | options
    path = _written(subject, Path(folder.name)) if isinstance(subject, Volume) else Path(subject)
    chosen = ViewOptions(**options)
    session = open_session(prepare(Wanted(path, model, degradation or made, chosen)), chosen)
    server = ViewServer(session, host=chosen.host, port=chosen.port, framed=True)
    server.keep = folder
    Thread(target=server.serve_forever, daemon=True).start()
    return Frame(server, height)


def _written(volume: Volume, folder: Path) -> Path:
    """The volume as a file, as every other part reads it; padding as NIfTI has none."""
    path = folder / "volume.nii"
    hu = np.rint(np.clip(volume.hu, -32767, 32767)).astype(np.int16)
    save_volume(path, hu, volume.grid, slope=1.0, intercept=0.0)
    return path
