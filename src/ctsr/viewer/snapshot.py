"""One slice of every panel as a picture in a file, for documents."""

from typing import Literal

import numpy as np

from ctsr.errors import UsageError
from ctsr.figures import Panel, comparison_figure, save_figure, slices_figure
from ctsr.hu import AIR
from ctsr.progress import SILENT, Progress
from ctsr.viewer.images import PanelName, Picture
from ctsr.viewer.numbers import measure
from ctsr.viewer.options import ViewOptions
from ctsr.viewer.session import Session
from ctsr.viewer.work import Look

__all__ = ["snapshot"]


def snapshot(session: Session, options: ViewOptions, *, progress: Progress = SILENT) -> None:
    """Write ``options.snapshot``: the panels of one slice, axial ones with an enlarged detail below each.

    Raises:
        UsageError: the index is beyond the series.
    """
    assert options.snapshot is not None, "called without a file to write"
    view = session.view
    subject = session.subjects[view.first]
    geometry, plane = subject.geometry, options.plane
    count = geometry.count(plane)
    index = count // 2 if options.index is None else options.index
    if index >= count:
        raise UsageError(f"--index {index}: this series has {count} {plane} slices, 0 to {count - 1}")
    look = Look(subject, session.settings[0], index if plane == "axial" else geometry.shape[0] // 2)
    _compute(session, look, plane == "axial", progress)
    pictures: dict[PanelName, Picture] = {panel: session.picture(panel, look, plane, index) for panel in view.panels}
    if not all(picture.complete for picture in pictures.values()):
        raise UsageError(f"--cache_mb {options.cache_mb} does not hold every slice of this series; give it more")
    captions = _captions(session, pictures)
    row, column = geometry.pixel(plane)
    draw = comparison_figure if plane == "axial" else slices_figure
    figure = draw(
        [
            Panel(panel, np.nan_to_num(picture.hu(view.hu_range), nan=AIR), captions.get(panel, ""))
            for panel, picture in pictures.items()
        ],
        view.window.window,
        title=f"{subject.stored.patient_id}, {plane} slice {index}; metrics in {view.window.text}",
        pixel_aspect=row / column,
    )
    save_figure(figure, options.snapshot)


def _compute(session: Session, look: Look, alone: bool, progress: Progress) -> None:
    """Make the slices that the picture needs: one, or in other planes all."""
    wanted = [look.index] if alone else list(range(look.subject.geometry.shape[0]))
    panel: Literal["LR", "SR"] = "SR" if session.view.model else "LR"
    for index in progress.track(wanted, total=len(wanted), what=f"Computing {panel}"):
        if panel == "SR":
            session.images.make_sr(look.subject, look.setting, index, lambda: False)
        else:
            session.images.lr(look.subject, look.setting, index)


def _captions(session: Session, pictures: dict[PanelName, Picture]) -> dict[PanelName, str]:
    view = session.view
    measured = measure(pictures, view.methods, None, view.window.window, view.hu_range, lambda: False)
    rows, columns = pictures["LR"].values.shape
    captions: dict[PanelName, str] = {"LR": f"{columns} × {rows}", "HR": "reference"}
    for panel, method in view.methods.items():
        if method in measured:
            psnr, ssim = measured[method]["PSNR"].value, measured[method]["SSIM"].value
            captions[panel] = ", ".join(
                words
                for words in ("" if psnr is None else f"{psnr:.2f} dB", "" if ssim is None else f"SSIM {ssim:.4f}")
                if words
            )
    return captions
