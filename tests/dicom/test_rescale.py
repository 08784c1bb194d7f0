import numpy as np
import pytest

from ctsr.dicom.encode import PADDING_HU, to_stored

F32 = np.float32


def test_hu_are_stored_as_they_are() -> None:
    hu = np.array([[-1024.0, -0.4], [0.6, 3071.0]], F32)
    stored = to_stored(hu)
    assert (stored.slope, stored.intercept, stored.padding) == (1, 0, None)
    assert stored.values.tolist() == [[-1024, 0], [1, 3071]]
    assert stored.values.dtype == np.int16


@pytest.mark.parametrize(("low", "high"), [(-1024, 64511), (-1024, 40000), (-90000, 120000), (-40000, -39000)])
def test_hu_beyond_16_bits_get_a_rescale_that_holds_them(low: int, high: int) -> None:
    hu = np.linspace(low, high, 5001).astype(F32)
    stored = to_stored(hu)
    again = stored.values.astype(np.float64) * stored.slope + stored.intercept
    assert np.abs(again - hu).max() <= stored.slope / 2 + 0.01
    assert stored.slope <= (high - low) / 65000 + 1


@pytest.mark.parametrize("low", [-1024, -2048, -3024, -60000])
def test_padding_has_a_stored_value_of_its_own(low: int) -> None:
    hu = np.array([-1000.0, low, 40.0, 3000.0], F32)
    padding = np.array([True, False, False, False])
    stored = to_stored(hu, padding)
    assert stored.padding is not None
    assert (stored.values == stored.padding).tolist() == padding.tolist()


def test_padding_is_usually_stored_below_air() -> None:
    stored = to_stored(np.array([-1000.0, -1000.0, 40.0], F32), np.array([True, False, False]))
    assert stored.padding == PADDING_HU
