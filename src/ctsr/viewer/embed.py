"""The viewer elsewhere than in a browser: the page in a notebook, and one slice of every panel as a figure."""

import html
import tempfile
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np

from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate.methods import load_model_under_test
from ctsr.figures import Panel, comparison_figure, save_figure, slices_figure
from ctsr.hu import AIR
from ctsr.nifti import save_volume
from ctsr.quality import BeforeAfter
from ctsr.reporting import SILENT, WARN, Progress
from ctsr.series import volume_words
from ctsr.viewer import DEFAULT_SCALE, ViewOptions
from ctsr.viewer.images import PanelImage, PanelName
from ctsr.viewer.native import BetweenImages, NativeImages
from ctsr.viewer.roi_metrics import measure
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import ViewedSlice, ViewerSession, open_session
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
        """Stop the server and its background work, and remove what was kept of a volume."""
        self.server.shutdown()
        self.server.server_close()
        if isinstance(self.server.keep, tempfile.TemporaryDirectory):
            self.server.keep.cleanup()

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

    What is wrong with the model or the images is a Python warning, beside what the page says.

    Args:
        subject: volume in HU, patient's folder, or NIfTI file.
        model_path: see `ctsr.checkpoint.model_lookup.resolve_model`; by default the newest run, else the bundled model;
            the bundled one with ``native=True``.
        no_model: show LR, interpolations and HR only.
        degradation: how LR is made; by default the model's.
        device: see `ctsr.infer.engine.pick_device`.
        height: height of the frame in pixels.
        options: fields of `ctsr.viewer.ViewOptions`, for instance ``preset="lung"``, or ``native=True`` to
            see the volume as it is beside its super-resolution.

    Returns:
        A frame that a notebook shows; `address` opens the same page in a browser, `close` ends it.

    Raises:
        MissingInputError: no such file, folder or model; nothing in it can be shown.
        DomainError: values that whole HU leave nothing of, or NaN.
        UsageError: an array, which has no spacing.

    Examples:
        >>> frame = ctsr.view(volume, preset="lung")
    """
    if not isinstance(subject, Volume | str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError("`subject` is a volume or a path; of an array, give ctsr.Volume.from_array(hu, spacing)")
    view_options = ViewOptions(**options)
    named, kind = model_path or view_options.default_model, view_options.model_kind
    model = None if no_model else load_model_under_test(named, device=device, kind=kind, progress=WARN)
    default = model.degradation if model and kind == "in plane" else Degradation(scale=DEFAULT_SCALE)
    # The decoded form of a volume in memory is of no use to a later process: keep it out of the user's store.
    folder = tempfile.TemporaryDirectory(prefix="ctsr-view-", ignore_cleanup_errors=True)
    if isinstance(subject, Volume):
        view_options = replace(view_options, store=view_options.store or Path(folder.name) / "store")
    path = _save(subject, Path(folder.name)) if isinstance(subject, Volume) else Path(subject)
    session = open_session(prepare(ViewRequest(path, model, degradation or default, view_options), WARN), view_options)
    server = ViewServer(session, host=view_options.host, port=view_options.port, framed=True)
    server.keep = folder
    Thread(target=server.serve_forever, daemon=True).start()
    return NotebookFrame(server, height)


def _save(volume: Volume, folder: Path) -> Path:
    """Save the volume as NIfTI, without its padding mask, for which NIfTI has no place."""
    volume.check_finite()
    volume.check_roundable()
    path = folder / "volume.nii"
    hu = np.rint(np.clip(volume.hu, -32767, 32767)).astype(np.int16)
    words = volume_words("[SR]") if volume.made_by else ""  # by which it is known as no scan
    save_volume(path, hu, volume.grid, slope=1.0, intercept=0.0, description=words)
    return path


def snapshot(session: ViewerSession, options: ViewOptions, *, progress: Progress = SILENT) -> None:
    """Write ``options.snapshot``: the panels of one slice, axial ones with an enlarged detail below each.

    Raises:
        UsageError: the index is beyond the series.
    """
    assert options.snapshot is not None, "called without a file to write"
    state = session.state
    series = session.series[state.first]
    geometry, plane = series.geometry, options.plane
    count = geometry.count(plane)
    index = count // 2 if options.index is None else options.index
    if index >= count:
        raise UsageError(f"`index` {index}: this series has {count} {plane} slices, 0 to {count - 1}")
    viewed = ViewedSlice(series, session.settings[0], index if plane == "axial" else geometry.shape[0] // 2)
    _compute(session, viewed, plane == "axial", progress)
    images: dict[PanelName, PanelImage] = {panel: session.image(panel, viewed, plane, index) for panel in state.panels}
    if not all(image.complete for image in images.values()):
        raise UsageError(f"`cache_mb` {options.cache_mb} does not hold every slice of this series; increase it")
    captions = _captions(session, viewed, images)
    row, column = geometry.pixel(plane)
    window = state.window.window
    measured = "" if state.strength is not None else f"; metrics in C {window.center:g} / W {window.width:g} HU"
    purpose = ", not for diagnosis" if state.model else ""
    title = f"{state.shown(series.stored.patient_id)}, {plane} slice {index}{measured}{purpose}"
    warnings = [f"{line[:1].upper()}{line[1:]}." for line in state.warnings(state.first)]
    warnings += [caveat.text for caveat in state.caveats[state.first]]
    warnings += [*series.doubts(names=state.names), *session.made_with(viewed).get("warnings", ())]
    title = "\n".join((title, *warnings))
    panels = [
        Panel(panel, np.nan_to_num(image.hu(state.hu_range), nan=AIR), captions.get(panel, ""))
        for panel, image in images.items()
    ]
    if plane == "axial":
        figure = comparison_figure(panels, window, title=title, pixel_aspect=row / column)
    else:
        marked = [mm / row for mm in geometry.source_mm]
        if marked:
            title += "\nlines at the edges: slices of the source"
        figure = slices_figure(panels, window, title=title, pixel_aspect=row / column, marked_rows=marked)
    save_figure(figure, options.snapshot)


def _compute(session: ViewerSession, viewed: ViewedSlice, single: bool, progress: Progress) -> None:
    """Compute the slices that the figure needs: one, or in other planes all."""
    indices = [viewed.index] if single else list(range(viewed.series.geometry.shape[0]))
    panel: Literal["LR", "SR"] = "SR" if session.state.model else "LR"
    session.images.tune(viewed.series, viewed.setting, lambda: False)
    for index in progress.track(indices, total=len(indices), what=f"Computing {panel}"):
        if panel == "SR" and not session.images.has(panel, viewed.series, viewed.setting, index):
            session.images.compute_sr(viewed.series, viewed.setting, index, lambda: False)
        if panel == "LR" or isinstance(session.images, BetweenImages):
            session.images.lr(viewed.series, viewed.setting, index)


def _captions(session: ViewerSession, viewed: ViewedSlice, images: dict[PanelName, PanelImage]) -> dict[PanelName, str]:
    state = session.state
    if isinstance(session.images, BetweenImages):
        return {}
    if isinstance(session.images, NativeImages):
        return _native_captions(session.images, viewed)
    measured = measure(images, state.methods, None, state.window.window, state.hu_range, lambda: False)
    rows, columns = images["LR"].values.shape
    captions: dict[PanelName, str] = {"LR": f"{columns} × {rows}", "HR": "reference"}
    for panel, method in state.methods.items():
        if method not in measured:
            continue
        psnr, ssim = measured[method]["PSNR"].value, measured[method]["SSIM"].value
        words = ["" if psnr is None else f"{psnr:.2f} dB", "" if ssim is None else f"SSIM {ssim:.4f}"]
        captions[panel] = ", ".join(filter(None, words))
    return captions


def _native_captions(images: NativeImages, viewed: ViewedSlice) -> dict[PanelName, str]:
    """Noise of the source, and what becomes of it."""
    tuning = images.tuning(viewed.series, viewed.setting)
    assert tuning is not None, "measured before the pictures"
    captions: dict[PanelName, str] = {}
    if tuning.noise.sigma_hu is not None:
        captions["Source"] = f"noise {tuning.noise.sigma_hu:.1f} HU"
    compared: dict[PanelName, BeforeAfter] = {"Bicubic": tuning.bicubic, "SR": tuning.before_after}
    for panel, measured in compared.items():
        if measured.noise_ratio is not None:
            captions[panel] = f"noise ×{measured.noise_ratio:.2f}"
    return captions
