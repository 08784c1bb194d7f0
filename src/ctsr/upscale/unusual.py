"""What is unusual about a series: lengths and kernels that the model has not seen in its training."""

from collections.abc import Iterator

from ctsr.checkpoint import Meta
from ctsr.series import Series
from ctsr.text import listed

TOLERANCE = 0.05
"""Share by which a length may lie beyond those of the training and still be like them."""


def unusual(series: Series, meta: Meta | None) -> list[str]:
    """One line for each thing that the model has not seen; none where it is at home, one where nobody knows."""
    if meta is None:
        return ["the model does not say what it was trained on: whether this series is like it is unknown"]
    return list(_unusual(series, meta))


def _unusual(series: Series, meta: Meta) -> Iterator[str]:
    card, scale = meta.card, meta.scale
    if card.pixel_spacing_mm is None:
        yield "the model's card names no pixel spacing: whether this series is like its training is unknown"
    elif not _within(
        series.pixel_spacing, low := card.pixel_spacing_mm[0] * scale, high := card.pixel_spacing_mm[1] * scale
    ):
        yield (
            f"pixel spacing {max(series.pixel_spacing):.3g} mm: the model was trained to make images of "
            f"{low / scale:.3g} … {high / scale:.3g} mm from {low:.3g} … {high:.3g} mm"
        )
    thickness = card.slice_thickness_mm
    if thickness and series.slice_thickness and not _within((series.slice_thickness,), *thickness):
        yield (
            f"slice thickness {series.slice_thickness:g} mm: the model was trained on "
            f"{thickness[0]:g} … {thickness[1]:g} mm"
        )
    if card.kernels and series.kernel not in card.kernels:
        kernel = series.kernel or "not named"
        yield f"reconstruction kernel {kernel}: the model was trained on {listed(sorted(card.kernels), 6)}"


def _within(lengths: tuple[float, ...], low: float, high: float) -> bool:
    return all(low * (1 - TOLERANCE) <= length <= high * (1 + TOLERANCE) for length in lengths)
