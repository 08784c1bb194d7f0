import pytest

from ctsr.errors import DomainError, UsageError
from ctsr.hu import PRESETS, HURange, Window, choose_window

DEFAULT = HURange()


def test_without_a_window_the_whole_range_is_measured() -> None:
    chosen = choose_window(DEFAULT)
    assert (chosen.window.low, chosen.window.high, chosen.tag) == (-1000, 2000, "globalHU_-1000_2000")


def test_hu_clip_reaches_the_metrics() -> None:
    chosen = choose_window(HURange(-200, 300))
    assert (chosen.window.low, chosen.window.high, chosen.tag) == (-200, 300, "globalHU_-200_300")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_window_and_its_tag(name: str) -> None:
    chosen = choose_window(DEFAULT, name)
    assert (chosen.window, chosen.tag) == (PRESETS[name], f"preset-{name}")


def test_explicit_values_that_equal_the_preset_keep_its_tag() -> None:
    assert choose_window(DEFAULT, "soft_tissue", 40, 400).tag == "preset-soft_tissue"


@pytest.mark.parametrize(
    ("center", "width", "window"), [(50, 350, Window(50, 350)), (50, None, Window(50, 400)), (None, 80, Window(40, 80))]
)
def test_explicit_values_win_over_the_preset(center: float | None, width: float | None, window: Window) -> None:
    chosen = choose_window(DEFAULT, "soft_tissue", center, width)
    assert (chosen.window, chosen.tag) == (window, f"wlww_{window.center:g}_{window.width:g}")


def test_a_window_without_a_preset_is_named_by_its_values() -> None:
    assert choose_window(DEFAULT, None, 40, 400).tag == "wlww_40_400"


@pytest.mark.parametrize(("center", "width"), [(40, None), (None, 400)])
def test_half_a_window_without_a_preset_is_wrong_usage(center: float | None, width: float | None) -> None:
    with pytest.raises(UsageError, match="window_center"):
        choose_window(DEFAULT, None, center, width)


def test_an_unknown_preset_is_an_error_that_lists_those_that_exist() -> None:
    with pytest.raises(DomainError, match="soft_tissue, lung, bone"):
        choose_window(DEFAULT, "soft_tiss")
