"""The viewer in a notebook: the page in an inline frame."""

import html
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import load_model_under_test
from ctsr.nifti import save_volume
from ctsr.viewer.options import DEFAULT_SCALE, ViewOptions
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import open_session
from ctsr.viewer.state import ViewRequest, prepare
from ctsr.volume import Volume


@dataclass(frozen=True, eq=False)
class NotebookFrame:
    """A running viewer that a notebook shows inline. Stops with `close`, or when Python exits."""

    server: ViewServer
    height: int

    @property
    def address(self) -> str:
        """URL of the page, to open it in a browser."""
        return self.server.address

    def close(self) -> None:
        """Stop the server and its background work."""
        self.server.shutdown()
        self.server.server_close()

    def _repr_html_(self) -> str:
        source = html.escape(self.address, quote=True)
        return f'<iframe src="{source}" width="100%" height="{self.height}" style="border: 0"></iframe>'


def view(
    subject: Volume | Path | str,
    *,
    model_path: str | None = None,
    no_model: bool = False,
    degradation: Degradation | None = None,
    device: str = "auto",
    height: int = 760,
    **options: Any,
) -> NotebookFrame:
    """Serve a volume, a patient's folder or a NIfTI file, and return the frame that shows it.

    Args:
        subject: volume in HU, patient's folder, or NIfTI file.
        model_path: see `ctsr.checkpoint.model_lookup.resolve_model`; by default the newest run, else the bundled model.
        no_model: show LR, interpolations and HR only.
        degradation: how LR is made; by default the model's.
        device: see `ctsr.infer.engine.pick_device`.
        height: height of the frame in pixels.
        options: fields of `ctsr.viewer.options.ViewOptions`, for instance ``preset="lung"``.

    Returns:
        A frame that a notebook shows; `address` opens the same page in a browser, `close` ends it.

    Raises:
        MissingInputError: no such file, folder or model.

    Examples:
        >>> frame = ctsr.view(volume, preset="lung")
    """
    model = None if no_model else load_model_under_test(model_path, device=device)
    default = model.degradation if model else Degradation(scale=DEFAULT_SCALE)
    # The decoded form of a volume in memory is of no use to a later process: keep it out of the user's store.
    folder = tempfile.TemporaryDirectory(prefix="ctsr-view-", ignore_cleanup_errors=True)
    if isinstance(subject, Volume):
        options = {"store": Path(folder.name) / "store"} | options
    path = _save(subject, Path(folder.name)) if isinstance(subject, Volume) else Path(subject)
    view_options = ViewOptions(**options)
    session = open_session(prepare(ViewRequest(path, model, degradation or default, view_options)), view_options)
    server = ViewServer(session, host=view_options.host, port=view_options.port, framed=True)
    server.keep = folder
    Thread(target=server.serve_forever, daemon=True).start()
    return NotebookFrame(server, height)


def _save(volume: Volume, folder: Path) -> Path:
    """Save the volume as NIfTI, without its padding mask, for which NIfTI has no place."""
    path = folder / "volume.nii"
    hu = np.rint(np.clip(volume.hu, -32767, 32767)).astype(np.int16)
    save_volume(path, hu, volume.grid, slope=1.0, intercept=0.0)
    return path
