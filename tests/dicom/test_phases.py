"""Phases, passes and reconstructions under one series UID are series of their own, and one stack stays one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from ctsr.exams import read_volume, scan_patient
from ctsr.series import DefectKind, Series
from tests.made.ct import Edit, chest, ct_slice, enhanced, save, slices, write_series
from tests.made.exams import kinds

PLACES = 4


def place(ds: Dataset, z: float) -> None:
    ds.ImagePositionPatient = [-100, -120, z]


def phases(tell_apart: Callable[[Dataset, int, int], None], count: int = 2) -> Edit:
    """`count` images at each position; `tell_apart` is told the phase and the position."""

    def edit(ds: Dataset, i: int) -> None:
        phase, position = i % count, i // count
        place(ds, 30 + 2.5 * position)
        tell_apart(ds, phase, position)

    return edit


def by(name: str, *values: object) -> Callable[[Dataset, int, int], None]:
    return lambda ds, phase, position: setattr(ds, name, values[phase])


def numbers(series: Series) -> list[int]:
    return sorted((header.instance_number or 0) % 2 for header in series.slices)


@pytest.mark.parametrize(
    ("tell_apart", "names"),
    [
        (by("AcquisitionNumber", 4, 10), ["AcquisitionNumber 4", "AcquisitionNumber 10"]),
        (by("AcquisitionTime", "095959", "101112.5"), ["AcquisitionTime 095959", "AcquisitionTime 101112.5"]),
        (by("TemporalPositionIdentifier", 1, 2), ["TemporalPositionIdentifier 1", "TemporalPositionIdentifier 2"]),
        (by("TriggerTime", "30.5", "75"), ["TriggerTime 30.5", "TriggerTime 75"]),
        (by("NominalPercentageOfCardiacPhase", 30.0, 75.0), None),
        (by("ConvolutionKernel", "B30f", "B70f"), ["ConvolutionKernel B30f", "ConvolutionKernel B70f"]),
        (by("KVP", "80", "140"), ["KVP 80", "KVP 140"]),
        (by("SliceThickness", "1.25", "5"), ["SliceThickness 1.25", "SliceThickness 5"]),
    ],
)
def test_images_at_one_position_are_told_apart_by_an_attribute(
    tmp_path: Path, tell_apart: Callable[[Dataset, int, int], None], names: list[str] | None
) -> None:
    exams = scan_patient(write_series(tmp_path, 2 * PLACES, phases(tell_apart)))
    assert names is None or [series.phase for series in exams.series] == names
    assert [numbers(series) for series in exams.series] == [[1] * PLACES, [0] * PLACES]
    assert kinds(exams) == {DefectKind.SEVERAL_PHASES}
    assert len({repr(series.geometry_key) for series in exams.series}) == 2, "what is made of them is kept apart"
    for series, first in zip(exams.series, (0, 1), strict=True):
        volume = read_volume(series)
        assert volume.grid.shape[0] == PLACES
        assert (volume.hu[0] == chest(seed=first)).all()


def test_passes_of_different_length_are_told_apart(tmp_path: Path) -> None:
    def edit(ds: Dataset, i: int) -> None:
        place(ds, 30 + 2.5 * (i if i < 6 else i - 4))
        ds.AcquisitionNumber = 1 if i < 6 else 2

    exams = scan_patient(write_series(tmp_path, 9, edit))
    assert [(series.phase, len(series.slices)) for series in exams.series] == [
        ("AcquisitionNumber 1", 6),
        ("AcquisitionNumber 2", 3),
    ]


def test_two_attributes_together_tell_apart_what_neither_does(tmp_path: Path) -> None:
    def edit(ds: Dataset, phase: int, position: int) -> None:
        ds.AcquisitionNumber = 1 + phase // 2
        ds.ConvolutionKernel = ("B30f", "B70f")[phase % 2]

    exams = scan_patient(write_series(tmp_path, 16, phases(edit, 4)))
    assert [series.phase for series in exams.series] == [
        f"AcquisitionNumber {number}, ConvolutionKernel {kernel}" for number in (1, 2) for kernel in ("B30f", "B70f")
    ]


def test_times_that_differ_from_image_to_image_are_ranked(tmp_path: Path) -> None:
    def edit(ds: Dataset, phase: int, position: int) -> None:
        ds.AcquisitionTime = f"1200{30 * phase + position:02d}"

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, phases(edit)))
    assert [series.phase for series in exams.series] == ["1 of 2 by AcquisitionTime", "2 of 2 by AcquisitionTime"]
    assert [numbers(series) for series in exams.series] == [[1] * PLACES, [0] * PLACES]


def test_where_only_instance_numbers_differ_they_tell_apart(tmp_path: Path) -> None:
    def edit(ds: Dataset, i: int) -> None:
        place(ds, 30 + 2.5 * (i % PLACES))

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, edit))
    found = [[header.instance_number for header in series.slices] for series in exams.series]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_stack_in_the_gaps_of_another_is_another(tmp_path: Path) -> None:
    def edit(ds: Dataset, phase: int, position: int) -> None:
        place(ds, 30 + 2.5 * position + 1.2 * phase)
        ds.AcquisitionNumber = 1 + phase

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, phases(edit)))
    assert [series.slice_step for series in exams.series] == pytest.approx([2.5, 2.5])
    assert kinds(exams) == {DefectKind.SEVERAL_PHASES}


@pytest.mark.parametrize("overlap", [0, 1])
def test_an_acquisition_step_by_step_is_one_series(tmp_path: Path, overlap: int) -> None:
    def edit(ds: Dataset, i: int) -> None:
        ds.AcquisitionNumber = 1 + i // 4
        if overlap and i in {3, 4}:  # the table's steps are shorter than what is seen at once
            ds.AcquisitionNumber = 3 - ds.AcquisitionNumber

    (series,) = scan_patient(write_series(tmp_path, 8, edit)).series
    assert (series.phase, series.defects) == ("", ())


def test_one_slice_taken_again_does_not_spoil_the_others(tmp_path: Path) -> None:
    folder = write_series(tmp_path, 6)
    again = ct_slice(chest(seed=9), position=(-100, -120, 35), uid="1.2.3.4.99", number=7, AcquisitionNumber=2)
    save(again, folder / "again")
    exams = scan_patient(folder)
    assert [len(series.slices) for series in exams.series] == [6, 1]
    assert read_volume(exams.series[0]).grid.shape[0] == 6


def test_frames_of_one_object_are_told_apart_by_their_functional_groups(tmp_path: Path) -> None:
    made = slices(2 * PLACES, phases(lambda ds, phase, position: None))
    ds = enhanced(made)
    for i, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = 1 + i % 2
        frame.FrameContentSequence = [content]
    exams = scan_patient(save(ds, tmp_path / "enhanced").parent)
    assert [series.phase for series in exams.series] == ["TemporalPositionIndex 1", "TemporalPositionIndex 2"]
    assert [[header.frame for header in series.slices] for series in exams.series] == [[0, 2, 4, 6], [1, 3, 5, 7]]
