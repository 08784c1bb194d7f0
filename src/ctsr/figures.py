"""Figures: one style for all plots, and slices side by side with an enlarged detail."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree

from ctsr.errors import DomainError
from ctsr.files import atomic_path
from ctsr.hu import FloatArray, Window, body_mask

INK = "#2b2f36"
"""Colour of text."""
QUIET = "#8a919c"
"""Colour of axes, grids and captions."""
ACCENT = "#d1495b"
"""Colour of the frame round a detail."""
COLORS = ("#7d8894", "#3d6f9e", "#d98032", "#4d9078", "#8e5572", "#b0a030", "#5b5f97", "#a44a3f")
"""Colours of lines and bars, in order; colour-blind readers can tell the first three apart."""
INTERPOLATION_COLORS = {"Bilinear": "#4a78b8", "Bicubic": "#c08a2e", "Lanczos": "#8a7f6d", "Linear": "#8e5572"}
"""Colours of methods by a word of their name: the hues that the viewer's page gives them, darker for a white ground."""
MODEL_COLORS = ("#2a9583", "#b0a030", "#5b5f97", "#a44a3f", "#3f4650", "#7cae3c")
"""Colours of models, in order; the first is the page's for SR."""
HEAD_MARGIN = 0.01
"""Share of a figure's width that is left free beside the lines above its pictures."""
LEAST_HEAD = 20
"""Characters of such a line, however narrow the figure is."""
DPI = 150
"""Resolution of all figures, pixels per inch."""
FEW_COLORS = 256
"""Colours in a PNG file's palette."""
GREYS = 86
"""Greys among them, so that no grey is off by more than 2 of 255."""
EXACT = 24
"""Colours of surfaces and letters among them."""
MARKS_PAD = 0.12
"""Inches between images whose rows are marked."""
MARK = 0.015
"""Length of the mark of a row, as a share of the image's width."""
MAX_FLAT_ASPECT = 0.45
"""Slices whose height over width, in mm, is below this are stacked rather than shown side by side."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of a comparison. All panels of a figure show the same field of view, whatever their matrix."""

    title: str
    hu: FloatArray
    """(rows, columns), HU."""
    caption: str = ""
    """Line below the image: a metric, the pixel size."""
    signed_limit: float | None = None
    """If set, the image is a difference: white at 0, red at this many HU above and blue at as many below."""


@dataclass(frozen=True)
class Detail:
    """Square of `size` pixels, in the panel with the most pixels, that is shown enlarged."""

    top: int
    left: int
    size: int


def method_colors(methods: Sequence[str]) -> dict[str, str]:
    """The colour of each method in every plot, which does not depend on what else is compared."""
    colors: dict[str, str] = {}
    for method in methods:
        word = next(
            (
                word
                for word in INTERPOLATION_COLORS
                if word.lower() in method.lower() and not method.startswith("Model")
            ),
            None,
        )
        models = sum(color in MODEL_COLORS for color in colors.values())
        colors[method] = INTERPOLATION_COLORS[word] if word else MODEL_COLORS[models % len(MODEL_COLORS)]
    return colors


def new_figure(width: float, height: float) -> Figure:
    """Create an empty white figure, in inches, without a display or matplotlib's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file atomically, in the 256 colours that fit it best: half the size, and no difference to be seen."""
    with atomic_path(path) as part, warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes: not worth a warning.
        warnings.filterwarnings("ignore", message="Glyph")
        for text in figure.findobj(Text):
            # Names of patients and folders are no formulas. Tick labels of logarithmic axes are.
            if "\\mathdefault" not in text.get_text():
                text.set_parse_math("$" not in text.get_text())
        _wrap_head(figure)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
        with Image.open(drawn) as image:
            few = with_palette(np.asarray(image.convert("RGB")))
        few.save(part, format="png", optimize=True, dpi=(DPI, DPI))


def _wrap_head(figure: Figure) -> None:
    """Break lines above the pictures that are wider than the figure: names of patients and warnings have any length."""
    head = next((text for text in figure.texts if text.get_text() == figure.get_suptitle()), None)
    if head is None or not head.get_text():
        return
    room = figure.bbox.width * (1 - 2 * HEAD_MARGIN)
    lines: list[str] = []
    for line in head.get_text().split("\n"):
        head.set_text(line)
        width = head.get_window_extent().width
        fitting = max(LEAST_HEAD, int(len(line) * room / width)) if width > room else len(line)
        lines += textwrap.wrap(line, fitting) or [line]
    head.set_text("\n".join(lines))


def with_palette(rgb: npt.NDArray[np.uint8]) -> Image.Image:
    """An image in at most 256 colours: `GREYS` evenly spaced, `EXACT` that are seen most, and others that fit the rest.

    The colours of a bar or a difference are few pixels beside a CT slice: to the others, each counts once.

    Args:
        rgb: (rows, columns, 3).
    """
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    values, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.uint8)
    palette = colors
    if len(colors) > FEW_COLORS:
        hued = colors[np.argsort(-counts, kind="stable")]
        hued = hued[np.ptp(hued, axis=1) > 0]
        greys = np.linspace(0, 255, GREYS).round().astype(np.uint8)
        fitted = (
            Image.fromarray(hued[None]).quantize(FEW_COLORS - GREYS - EXACT, Image.Quantize.MAXCOVERAGE).getpalette()
        )
        hues = np.array(fitted or [], np.uint8).reshape(-1, 3)
        palette = np.concatenate([np.repeat(greys[:, None], 3, axis=1), hued[:EXACT], hues])
    nearest = np.asarray(KDTree(palette).query(colors)[1], np.uint8)
    image = Image.fromarray(nearest[places.reshape(packed.shape)], mode="P")
    image.putpalette(palette.tobytes())
    return image


def calm(axes: Axes, *, title: str = "") -> None:
    """Apply the common style to axes: no box, grey ticks, title flush left."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
    axes.tick_params(which="both", colors=QUIET, labelsize=8, labelcolor=INK)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=10, color=INK)


def comparison_figure(
    panels: Sequence[Panel],
    window: Window,
    *,
    title: str = "",
    detail: Detail | None = None,
    pixel_aspect: float = 1.0,
) -> Figure:
    """Draw whole slices side by side, and below each the same detail enlarged.

    Args:
        panels: for instance LR, bicubic, SR, HR; in the order shown.
        window: HU from black to white for all panels; named in the figure.
        title: patient and slice.
        detail: square to enlarge, in pixels of the largest panel; by default the one with most structure.
        pixel_aspect: row spacing / column spacing.

    Raises:
        DomainError: all panels are differences, or the detail is outside the image.
    """
    images = [panel.hu for panel in panels if panel.signed_limit is None]
    if not images:
        raise DomainError("a comparison needs at least one panel that is not a difference")
    largest = max(images, key=lambda hu: hu.size)
    rows, columns = largest.shape
    detail = detail or busiest_detail(largest, window)
    if not (0 <= detail.top <= rows - detail.size and 0 <= detail.left <= columns - detail.size):
        raise DomainError(
            f"a detail of {detail.size} pixels at {detail.top}, {detail.left} is outside {rows}×{columns}"
        )
    height = 3.2 * rows * pixel_aspect / columns + 3.2 * pixel_aspect + 1.0
    figure = new_figure(3.2 * len(panels) + _room(panels), height)
    grid = figure.subplots(2, len(panels), squeeze=False, height_ratios=[rows / columns, 1])
    for (whole, enlarged), panel in zip(grid.T, panels, strict=True):
        _draw(whole, panel, window, (rows, columns), pixel_aspect)
        _draw(enlarged, panel, window, (rows, columns), pixel_aspect)
        _scale(whole, panel)
        _frame(whole, enlarged, detail)
        _name(whole, panel)
    _head(figure, title, window)
    return figure


def slices_figure(
    panels: Sequence[Panel],
    window: Window,
    *,
    title: str = "",
    pixel_aspect: float = 1.0,
    marked_rows: Sequence[float] = (),
) -> Figure:
    """Draw whole slices without an enlarged detail, flat ones stacked: for coronal and sagittal planes.

    Args:
        panels: as of `comparison_figure`, and so are the other arguments.
        window: HU from black to white.
        title: patient and slice.
        pixel_aspect: row spacing / column spacing.
        marked_rows: rows of the largest panel, from its top edge, that a short line on either side points at: where
            slices of the source lie.

    Raises:
        DomainError: no panels.
    """
    if not panels:
        raise DomainError("a figure of slices needs at least one panel")
    rows, columns = max((panel.hu for panel in panels), key=lambda hu: hu.size).shape
    shape, count = rows * pixel_aspect / columns, len(panels)
    flat = shape < MAX_FLAT_ASPECT
    stacked, beside = (8.0, (8.0 * shape + 0.6) * count + 0.5), (3.2 * count + _room(panels), 3.2 * shape + 1.0)
    figure = new_figure(*(stacked if flat else beside))
    engine = figure.get_layout_engine()
    if marked_rows and isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=MARKS_PAD)
    grid = figure.subplots(*((count, 1) if flat else (1, count)), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        _draw(axes, panel, window, (rows, columns), pixel_aspect)
        _scale(axes, panel)
        _mark(axes, marked_rows)
        _name(axes, panel)
    _head(figure, title, window)
    return figure


def _mark(axes: Axes, rows: Sequence[float]) -> None:
    """Lines beside the image, which cover nothing of it."""
    axes.autoscale(False)
    beside = axes.get_yaxis_transform()
    for start, end in ((-1.5 * MARK, -0.5 * MARK), (1 + 0.5 * MARK, 1 + 1.5 * MARK)):
        axes.hlines(rows, start, end, colors=ACCENT, linewidth=0.8, transform=beside, clip_on=False)


def _room(panels: Sequence[Panel]) -> float:
    """Inches beside the images for colour bars."""
    return 0.6 * sum(panel.signed_limit is not None for panel in panels)


def _name(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=12, color=INK, fontweight="bold")
    axes.set_xlabel(panel.caption, fontsize=9, color=INK)


def _head(figure: Figure, title: str, window: Window) -> None:
    shown = f"shown in window C {window.center:g} / W {window.width:g} HU"
    # Lines below the first are sentences of their own.
    first, _, below = title.partition("\n")
    lines = [f"{first}; {shown}" if first else shown, *filter(None, [below])]
    figure.suptitle("\n".join(lines), fontsize=10, color=QUIET)


def _draw(axes: Axes, panel: Panel, window: Window, extent: tuple[int, int], aspect: float) -> None:
    """Stretch an image over the common field of view, with its own pixels visible."""
    rows, columns = extent
    limit = panel.signed_limit
    axes.imshow(
        window.to_01(panel.hu) if limit is None else panel.hu / limit,
        cmap="gray" if limit is None else "RdBu_r",
        vmin=0 if limit is None else -1,
        vmax=1,
        extent=(0, columns, rows, 0),
        aspect=aspect,
        interpolation="auto",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scale(axes: Axes, panel: Panel) -> None:
    """Draw the colour bar of a difference beside the image, which it leaves uncovered."""
    limit = panel.signed_limit
    if limit is None:
        return
    beside = axes.inset_axes((1.03, 0.25, 0.035, 0.5))
    colors = axes.images[0].get_cmap()
    beside.imshow(np.linspace(1, -1, 65)[:, None], cmap=colors, extent=(0, 1, -limit, limit), aspect="auto")
    beside.set_xticks([])
    beside.set_yticks((-limit, 0, limit), (f"−{limit:g}", "0", f"+{limit:g} HU"))
    beside.yaxis.set_ticks_position("right")
    beside.tick_params(labelsize=7, colors=INK, length=0, pad=2)
    for spine in beside.spines.values():
        spine.set_visible(False)


def _frame(whole: Axes, enlarged: Axes, detail: Detail) -> None:
    enlarged.set_xlim(detail.left, detail.left + detail.size)
    enlarged.set_ylim(detail.top + detail.size, detail.top)
    enlarged.images[0].set_interpolation("nearest")
    corner = (detail.left, detail.top)
    whole.add_patch(Rectangle(corner, detail.size, detail.size, fill=False, edgecolor=ACCENT, linewidth=1.2))
    for spine in enlarged.spines.values():
        spine.set(visible=True, color=ACCENT, linewidth=1.2)


def busiest_detail(hu: FloatArray, window: Window, size: int | None = None) -> Detail:
    """Find the square with most structure in the window, where differences in sharpness are visible.

    Args:
        hu: (rows, columns), HU.
        window: HU range that is visible.
        size: pixels; by default a fifth of the longer side.
    """
    rows, columns = hu.shape
    size = min(size or max(32, max(rows, columns) // 5), rows, columns)
    down, across = np.gradient(window.to_01(hu)) if min(rows, columns) > 1 else (np.zeros(hu.shape),) * 2
    # Gradients are capped, so that many fine structures outweigh one long edge such as the skin, and limited to
    # the body, because the table has sharp edges too.
    structure = np.minimum(np.hypot(down, across), 0.1) * body_mask(hu)
    means: npt.NDArray[np.float64] = ndimage.uniform_filter(structure, size, mode="constant", origin=-(size // 2))
    inside = means[: rows - size + 1, : columns - size + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return Detail(int(top), int(left), size)
