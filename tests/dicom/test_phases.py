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


def exam(edit: Edit) -> Edit:
    """Two exams of `PLACES` slices under one series UID, the second half a step above the first."""

    def placed(ds: Dataset, i: int) -> None:
        place(ds, 30 + 2.5 * (i % PLACES) + 1.25 * (i // PLACES))
        edit(ds, i // PLACES)

    return placed


def set_study(ds: Dataset, number: int) -> None:
    ds.StudyInstanceUID = f"1.2.9.{number}"


def set_frame(ds: Dataset, number: int) -> None:
    ds.FrameOfReferenceUID = f"1.2.8.{number}"


@pytest.mark.parametrize("series_uid", ["1.2.3.4", ""])
@pytest.mark.parametrize(("set_uid", "what"), [(set_study, "study"), (set_frame, "frame of reference")])
def test_exams_under_one_series_uid_or_none_are_told_apart(
    tmp_path: Path, set_uid: Edit, what: str, series_uid: str
) -> None:
    def edit(ds: Dataset, number: int) -> None:
        set_uid(ds, number)
        ds.SeriesInstanceUID = series_uid

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, exam(edit)))
    assert [series.phase for series in exams.series] == [f"{what} 1 of 2", f"{what} 2 of 2"]
    assert [series.slice_step for series in exams.series] == [2.5, 2.5]
    assert [series.slices[0].position[2] for series in exams.series] == [30, 31.25]
    assert kinds(exams) == {DefectKind.SEVERAL_EXAMS}
    assert len({repr(series.geometry_key) for series in exams.series}) == 2, "what is made of them is kept apart"
    for series in exams.series:
        assert [one for one in exams.series if one.is_called(f"{series_uid} {series.phase}".strip())] == [series]


def test_exams_that_share_all_other_uids_and_their_places_are_told_apart(tmp_path: Path) -> None:
    """Nor is an image of one taken for a copy of the other's; a phase is named beside the exam."""

    def edit(ds: Dataset, i: int) -> None:
        number, image = divmod(i, 2 * PLACES)
        set_study(ds, number)
        ds.SOPInstanceUID = f"1.2.3.4.{image}"
        ds.AcquisitionNumber = 1 + image % 2
        place(ds, 30 + 2.5 * (image // 2))

    exams = scan_patient(write_series(tmp_path, 4 * PLACES, edit))
    assert [series.phase for series in exams.series] == [
        f"study {study} of 2, AcquisitionNumber {number}" for study in (1, 2) for number in (1, 2)
    ]
    assert [(len(series.slices), series.study_uid) for series in exams.series] == [
        (PLACES, f"1.2.9.{number}") for number in (0, 0, 1, 1)
    ]
    assert exams.excluded == ()


def test_exams_of_other_geometry_are_named_as_well(tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        set_study(ds, number)
        ds.PixelSpacing = [0.7 + 0.1 * number] * 2

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, exam(edit)))
    assert [series.phase for series in exams.series] == ["study 1 of 2", "study 2 of 2"]
    assert kinds(exams) == {DefectKind.SEVERAL_EXAMS}


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_uid_that_part_of_the_slices_lack_is_not_another_one(tmp_path: Path, keyword: str, is_empty: bool) -> None:
    def edit(ds: Dataset, i: int) -> None:
        if i % 2:
            setattr(ds, keyword, "") if is_empty else delattr(ds, keyword)

    (series,) = scan_patient(write_series(tmp_path, PLACES, edit)).series
    assert (len(series.slices), series.phase, series.defects) == (PLACES, "", ())


def test_a_slice_without_study_is_of_that_of_its_frame_of_reference(tmp_path: Path) -> None:
    def edit(ds: Dataset, i: int) -> None:
        number = i // PLACES
        set_study(ds, number)
        set_frame(ds, number)
        place(ds, 30 + 2.5 * (i % PLACES))
        if i == 1:
            ds.StudyInstanceUID = ""

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, edit))
    assert [(series.phase, len(series.slices)) for series in exams.series] == [
        ("study 1 of 2", PLACES),
        ("study 2 of 2", PLACES),
    ]


def test_a_frame_of_reference_for_every_image_tells_nothing(tmp_path: Path) -> None:
    (series,) = scan_patient(write_series(tmp_path, PLACES, set_frame)).series
    assert (len(series.slices), series.phase, series.defects) == (PLACES, "", ())


def test_an_image_that_cannot_be_used_is_missing_from_its_own_exam_only(tmp_path: Path) -> None:
    def edit(ds: Dataset, i: int) -> None:
        set_study(ds, i // PLACES)
        if i == 2 * PLACES - 1:
            del ds.ImagePositionPatient

    first, second = scan_patient(write_series(tmp_path, 2 * PLACES, edit)).series
    assert {defect.kind for defect in first.defects} == {DefectKind.SEVERAL_EXAMS}
    assert {defect.kind for defect in second.defects} == {DefectKind.SEVERAL_EXAMS, DefectKind.MISSING_GEOMETRY}


ANNA = {"PatientID": "MRN 20017", "PatientBirthDate": "19500101", "PatientSex": "F"}


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "MRN 30018"},
        {"PatientBirthDate": "19610203"},
        {"PatientSex": "M"},
        {"PatientID": "ANON2"},
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside one another", "at the same places"])
def test_people_whom_an_anonymiser_gave_the_same_uids_are_told_apart(
    tmp_path: Path, other: dict[str, str], beside: bool
) -> None:
    def edit(ds: Dataset, i: int) -> None:
        number, position = divmod(i, PLACES)
        for keyword, value in (ANNA | (other if number else {})).items():
            setattr(ds, keyword, value)
        place(ds, 30 + 2.5 * (i if beside else position))

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, edit))
    assert [series.phase for series in exams.series] == ["patient 1 of 2", "patient 2 of 2"]
    found = sorted([header.instance_number for header in series.slices] for series in exams.series)
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert kinds(exams) == {DefectKind.SEVERAL_EXAMS}
    assert len({series.identities for series in exams.series}) == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda ds, i: setattr(ds, "PatientID", f"0{ds.PatientID} " if i % 2 else ds.PatientID),
        lambda ds, i: setattr(ds, "PatientID", "" if i % 2 else ds.PatientID),
        lambda ds, i: setattr(ds, "PatientBirthDate", "" if i % 2 else "1950.01.01"),
        lambda ds, i: setattr(ds, "IssuerOfPatientID", "here" if i % 2 else ""),
        lambda ds, i: setattr(ds, "PatientID", f"IMAGE {i}"),
    ],
)
def test_a_patient_who_is_written_in_several_ways_is_one(tmp_path: Path, edit: Edit) -> None:
    def written(ds: Dataset, i: int) -> None:
        for keyword, value in ANNA.items():
            setattr(ds, keyword, value)
        edit(ds, i)

    (series,) = scan_patient(write_series(tmp_path, PLACES + 1, written)).series
    assert (len(series.slices), series.phase, series.defects) == (PLACES + 1, "", ())


@pytest.mark.parametrize("tell_apart", [by("AcquisitionNumber", 1, 2), by("ConvolutionKernel", "B30f", "B70f"), None])
def test_phases_whose_images_share_their_uids_are_no_copies(
    tmp_path: Path, tell_apart: Callable[[Dataset, int, int], None] | None
) -> None:
    def edit(ds: Dataset, phase: int, position: int) -> None:
        ds.SOPInstanceUID = f"1.2.3.4.{position}"
        if tell_apart is not None:
            tell_apart(ds, phase, position)

    exams = scan_patient(write_series(tmp_path, 2 * PLACES, phases(edit)))
    assert [numbers(series) for series in exams.series] == [[1] * PLACES, [0] * PLACES]
    assert kinds(exams) == {DefectKind.SEVERAL_PHASES}
    assert exams.excluded == ()


def test_a_copy_that_was_written_anew_is_a_copy(tmp_path: Path) -> None:
    write_series(tmp_path / "a", PLACES)

    def anew(ds: Dataset, i: int) -> None:
        ds.SliceThickness, ds.KVP, ds.ContentTime = "2.500000", "120.0", "101112"
        ds.AcquisitionNumber = None

    write_series(tmp_path / "b", PLACES, anew)
    exams = scan_patient(tmp_path)
    assert [len(series.slices) for series in exams.series] == [PLACES]
    assert [(excluded.num_slices, "a copy" in excluded.reason) for excluded in exams.excluded] == [(PLACES, True)]


def two_stacks(name: str, *places: list[float]) -> tuple[int, Edit]:
    """How many slices there are in two stacks, told apart by `name`, and what puts each where it belongs."""
    everywhere = [(z, number) for number, stack in enumerate(places) for z in stack]

    def edit(ds: Dataset, i: int) -> None:
        z, number = everywhere[i]
        place(ds, z)
        ds.SliceThickness = (2.5, 5)[number] if name == "SliceThickness" else 2.5
        setattr(ds, name, ((2.5, 5) if name == "SliceThickness" else (1, 2))[number])

    return len(everywhere), edit


THIN = [2.5 * i for i in range(10)]


@pytest.mark.parametrize("name", ["AcquisitionNumber", "SliceThickness"])
@pytest.mark.parametrize(
    ("thin", "thick"),
    [
        (THIN, [25 + 5.0 * i for i in range(6)]),
        (THIN, [27.5 + 5.0 * i for i in range(6)]),
        (THIN, [21.1 + 5.0 * i for i in range(6)]),
        (THIN, [1.1 + 5.0 * i for i in range(4)]),
        (THIN[:4] + THIN[5:], [1.1 + 5.0 * i for i in range(4)]),
        (THIN, [16.1 + 2.5 * i for i in range(8)]),
    ],
    ids=["touching", "a step apart", "overlapping a little", "interleaved", "with a missing slice", "of equal steps"],
)
def test_stacks_with_a_grid_of_their_own_are_series_of_their_own(
    tmp_path: Path, name: str, thin: list[float], thick: list[float]
) -> None:
    exams = scan_patient(write_series(tmp_path, *two_stacks(name, thin, thick)))
    assert [[header.position[2] for header in series.slices] for series in exams.series] == [thin, thick]
    assert kinds(exams) - {DefectKind.GAP} == {DefectKind.SEVERAL_PHASES}
    assert (DefectKind.GAP in kinds(exams)) == (len(thin) < len(THIN))


@pytest.mark.parametrize("has_thickness", [True, False])
def test_steps_of_an_acquisition_in_thin_and_thick_slices_are_no_series_of_their_own(
    tmp_path: Path, has_thickness: bool
) -> None:
    """A head whose base was taken in thin slices, four to a step of the table."""
    heights = [2.5 * i for i in range(12)] + [30 + 5.0 * i for i in range(12)]

    def edit(ds: Dataset, i: int) -> None:
        place(ds, heights[i])
        ds.AcquisitionNumber = 1 + i // 4
        ds.SliceThickness = (2.5 if i < 12 else 5) if has_thickness else None

    exams = scan_patient(write_series(tmp_path, 24, edit))
    named = ["SliceThickness 2.5", "SliceThickness 5.0"] if has_thickness else [""]
    assert [series.phase for series in exams.series] == named


@pytest.mark.parametrize("missing", [{5}, {4}, {3, 6}, {8, 9}])
def test_missing_slices_of_an_acquisition_step_by_step_are_missing(tmp_path: Path, missing: set[int]) -> None:
    numbered = [(z, 1 + z // 5) for z in range(15) if z not in missing]

    def edit(ds: Dataset, i: int) -> None:
        z, ds.AcquisitionNumber = numbered[i]
        place(ds, 30 + 2.5 * z)

    exams = scan_patient(write_series(tmp_path, len(numbered), edit))
    assert [series.phase for series in exams.series] == [""]
    assert kinds(exams) == {DefectKind.GAP}


@pytest.mark.parametrize("beside", ["objects", "slices"])
def test_multi_frame_objects_that_hold_the_same_places_are_told_apart(tmp_path: Path, beside: str) -> None:
    save(enhanced(slices(PLACES)), tmp_path / "a")
    if beside == "objects":
        second = enhanced(slices(PLACES))
        second.SOPInstanceUID = "1.2.3.4.100"
        save(second, tmp_path / "b")
    else:
        for i, ds in enumerate(slices(PLACES)):
            save(ds, tmp_path / "classic" / f"{i}")
    exams = scan_patient(tmp_path)
    assert [(series.phase, len(series.slices)) for series in exams.series] == [
        ("object 1 of 2", PLACES),
        ("object 2 of 2", PLACES),
    ]
    assert all(len({header.path.parent for header in series.slices}) == 1 for series in exams.series)
    assert kinds(exams) == {DefectKind.SEVERAL_PHASES}
