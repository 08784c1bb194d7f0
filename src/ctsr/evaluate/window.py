"""The window that metrics are taken in, and the tag that names it in files and folders."""

from collections.abc import Sequence
from dataclasses import dataclass

from ctsr.errors import UsageError
from ctsr.hu import HURange, Window, preset

__all__ = ["MetricWindow", "choose_window", "choose_windows"]

WHOLE = "global"
"""The word for the metrics' whole HU range, whatever `--hu_clip` says it is."""


@dataclass(frozen=True)
class MetricWindow:
    """HU from ``window.low`` to ``window.high`` become [0, 1]; everything outside is clipped."""

    window: Window
    tag: str
    """`globalHU_-1000_2000`, `preset-soft_tissue` or `wlww_40_400`."""

    @property
    def text(self) -> str:
        """For people: name, centre and width."""
        return f"{self.tag} (C {self.window.center:g}, W {self.window.width:g} HU)"


def choose_window(
    hu_clip: HURange, name: str | None = None, center: float | None = None, width: float | None = None
) -> MetricWindow:
    """The whole range `hu_clip`, unless a preset or a centre and width in HU are asked for.

    An explicit centre or width wins over the preset's; where both equal the preset's, the tag is the preset's.

    Raises:
        DomainError: no preset is called `name`; the message lists those that exist.
        UsageError: only one of centre and width, and no preset to take the other from.
    """
    if name is None and center is None and width is None:
        return MetricWindow(Window.from_range(hu_clip.low, hu_clip.high), f"globalHU_{hu_clip.low:g}_{hu_clip.high:g}")
    named = preset(name) if name is not None else None
    center = named.center if center is None and named else center
    width = named.width if width is None and named else width
    if center is None or width is None:
        raise UsageError("--window_center and --window_width belong together; give both, or a --preset as well")
    chosen = Window(center, width)
    return MetricWindow(chosen, f"preset-{name}" if chosen == named else f"wlww_{center:g}_{width:g}")


def choose_windows(
    hu_clip: HURange,
    names: Sequence[str] = (),
    name: str | None = None,
    center: float | None = None,
    width: float | None = None,
) -> tuple[MetricWindow, ...]:
    """The windows of an evaluation: the one that preset, centre and width mean, then those of `names`.

    Args:
        hu_clip: the range that `global` stands for.
        names: presets, `global` among them. With `names` alone, the first of them is the first window.
        name: see `choose_window`.
        center: see `choose_window`.
        width: see `choose_window`.

    Raises:
        DomainError, UsageError: as `choose_window`.
    """
    single = (name, center, width) != (None, None, None)
    first = [choose_window(hu_clip, name, center, width)] if single or not names else []
    several = [choose_window(hu_clip, None if one == WHOLE else one) for one in names]
    return tuple({window.tag: window for window in (*first, *several)}.values())
