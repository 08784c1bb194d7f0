"""HU ranges and windows: there and back, clipping at their ends, and refusing what they cannot be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE, PRESETS, HURange, Window, preset

HU = st.floats(-4096, 32767, width=32)
RANGES = st.tuples(st.integers(-4096, 4000), st.integers(1, 8000)).map(lambda low: HURange(low[0], low[0] + low[1]))


@given(RANGES, st.lists(HU, min_size=1, max_size=20))
def test_hu_come_back_from_the_networks_range_clipped_and_else_unchanged(span: HURange, values: list[float]) -> None:
    hu = np.array(values, np.float32)
    unit = span.to_unit(hu)
    assert unit.dtype == np.float32
    assert np.abs(unit).max() <= 1 + 1e-6
    # float32 keeps 24 bits: of the range, and of the largest HU on the way.
    within = 3e-7 * max(span.width, abs(span.low), abs(span.high))
    assert np.abs(span.to_hu(unit.astype(np.float64)) - hu.clip(span.low, span.high)).max() <= within


def test_one_unit_is_1500_hu() -> None:
    assert DEFAULT_RANGE.to_unit(np.array([-3024, -1000, 500, 2000, 9000])).tolist() == [-1, -1, 0, 1, 1]
    assert DEFAULT_RANGE.hu_per_unit == 1500


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (2000, -1000), (float("nan"), 1), (float("-inf"), 1), (0, float("inf"))]
)
def test_a_range_without_extent_is_refused(low: float, high: float) -> None:
    with pytest.raises(DomainError, match="low < high"):
        HURange(low, high)


@given(st.integers(-4096, 4096), st.integers(1, 8000))
def test_a_window_shows_its_ends_as_0_and_1(low: int, width: int) -> None:
    window = Window.from_range(low, low + width)
    shown = window.to_01(np.array([low - 1.0, low, low + width / 2, low + width, low + width + 1.0]))
    assert shown.tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-9)


def test_presets_are_those_that_radiologists_know() -> None:
    told = {name: (window.center, window.width) for name, window in PRESETS.items()}
    assert told == {
        "soft_tissue": (40, 400),
        "lung": (-600, 1500),
        "bone": (500, 2000),
        "brain": (40, 80),
        "liver": (60, 150),
        "abdomen": (60, 400),
        "global": (500, 3000),
        "default": (40, 400),
    }


def test_an_unknown_preset_is_an_error_that_lists_them() -> None:
    with pytest.raises(DomainError, match=r"'mediastinum'; there are soft_tissue, lung, bone, .*default"):
        preset("mediastinum")


@pytest.mark.parametrize(
    ("center", "width"), [(40, 0), (40, math.inf), (40, math.nan), (math.nan, 400), (-math.inf, 1)]
)
def test_a_window_without_width_or_place_is_refused(center: float, width: float) -> None:
    with pytest.raises(DomainError, match="above 0 HU and a centre, both finite"):
        Window(center, width)
