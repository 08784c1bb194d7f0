"""Which slices are planned, and on which of them MA is computed."""

from pathlib import Path

import pytest

from ctsr.data.hu_cache import StoredSeries
from ctsr.evaluate.slices import PlannedSlice, announce_ma, slices_with_ma
from tests.evaluate.made import ref
from tests.made.listener import Listener


def series(name: str, count: int) -> list[PlannedSlice]:
    stored = StoredSeries(
        folder=Path("store") / name,
        patient_id="anna",
        series_uid=name,
        identities=tuple(map(str, range(count))),
        z_mm=(0.0,) * count,
        rows=512,
        columns=512,
        pixel_spacing=(0.8, 0.8),
        slice_thickness=2.5,
        kernel="",
        scanner="",
    )
    return [PlannedSlice(stored, index, ref("anna", index, name)) for index in range(count)]


def test_ma_is_computed_on_every_nth_slice_of_each_series_from_its_first() -> None:
    assert slices_with_ma([*series("1", 5), *series("2", 3)], 2) == {0, 2, 4, 5, 7}


@pytest.mark.parametrize(("counts", "images"), [([1] * 100, 100), ([100], 10), ([15, 15, 15], 6)])
def test_the_announced_images_are_those_on_which_ma_is_computed(counts: list[int], images: int) -> None:
    slices = [planned for number, count in enumerate(counts) for planned in series(str(number), count)]
    assert len(slices_with_ma(slices, 10)) == images
    listener = Listener()
    announce_ma(slices, every=10, images_per_slice=3, progress=listener)
    (note,) = listener.notes
    assert f"for {3 * images} images" in note
    assert "`ma_every" not in note, "there is nothing to gain by the number in use"


def test_the_advice_says_on_how_many_images_ma_would_be_computed() -> None:
    listener = Listener()
    announce_ma(series("1", 40), every=1, images_per_slice=3, progress=listener)
    assert "for 120 images; `ma_every=10` computes it on 12" in listener.notes[0]
