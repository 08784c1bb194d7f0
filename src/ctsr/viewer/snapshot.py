"""One slice of every panel as a figure in a file."""

from typing import Literal

import numpy as np

from ctsr.errors import UsageError
from ctsr.figures import Panel, comparison_figure, save_figure, slices_figure
from ctsr.hu import AIR
from ctsr.progress import SILENT, Progress
from ctsr.viewer.images import PanelImage, PanelName
from ctsr.viewer.options import ViewOptions
from ctsr.viewer.roi_metrics import measure
from ctsr.viewer.session import ViewedSlice, ViewerSession


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
    captions = _captions(session, images)
    row, column = geometry.pixel(plane)
    title = f"{state.shown(series.stored.patient_id)}, {plane} slice {index}; metrics in {state.window.text}"
    draw = comparison_figure if plane == "axial" else slices_figure
    figure = draw(
        [
            Panel(panel, np.nan_to_num(image.hu(state.hu_range), nan=AIR), captions.get(panel, ""))
            for panel, image in images.items()
        ],
        state.window.window,
        title="\n".join((title, *(caveat.text for caveat in state.caveats[state.first]))),
        pixel_aspect=row / column,
    )
    save_figure(figure, options.snapshot)


def _compute(session: ViewerSession, viewed: ViewedSlice, single: bool, progress: Progress) -> None:
    """Compute the slices that the figure needs: one, or in other planes all."""
    indices = [viewed.index] if single else list(range(viewed.series.geometry.shape[0]))
    panel: Literal["LR", "SR"] = "SR" if session.state.model else "LR"
    for index in progress.track(indices, total=len(indices), what=f"Computing {panel}"):
        if panel == "SR":
            session.images.compute_sr(viewed.series, viewed.setting, index, lambda: False)
        else:
            session.images.lr(viewed.series, viewed.setting, index)


def _captions(session: ViewerSession, images: dict[PanelName, PanelImage]) -> dict[PanelName, str]:
    state = session.state
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
