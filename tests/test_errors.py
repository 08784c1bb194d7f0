"""A damaged file, series or patient is named in one line, and everything beside it goes on."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless

from ctsr.dicom import patient_id_in
from ctsr.errors import CtsrError, ReadError, SeriesError, boundary
from ctsr.exams import read_slice, scan
from ctsr.figures import new_figure, save_figure
from ctsr.files import atomic_path, clear_leftovers
from ctsr.preprocess import preprocess
from tests.made.ct import enhanced, save, slices


class Panic(BaseException):
    """As pyo3's PanicException: no Exception."""


@pytest.mark.parametrize(
    "error", [Panic("code"), ValueError("a\nb"), MemoryError(), RecursionError("deep"), OSError(5, "I/O")]
)
def test_any_failure_becomes_one_line_that_names_the_file(error: BaseException) -> None:
    with pytest.raises(ReadError) as caught, boundary("IM1", "copy it again"):
        raise error
    assert str(caught.value).startswith("IM1: ")
    assert str(caught.value).endswith("; copy it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), SeriesError("ours"), BrokenPipeError()])
def test_interruption_and_errors_of_ours_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, boundary("IM1"):
        raise error
    assert caught.value is error


def rle(root: Path, edit: Callable[[bytearray, Dataset], object]) -> Path:
    (ds,) = slices(1)
    ds.compress(RLELossless)
    path = save(ds, root / "bad" / "IM1")
    content = bytearray(path.read_bytes())
    edit(content, ds)
    path.write_bytes(bytes(content))
    return path


def fewer_rows(content: bytearray, ds: Dataset) -> None:
    at = content.index(struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, ds.Rows))
    content[at + 8 : at + 10] = struct.pack("<H", ds.Rows - 1)


def other_bytes(content: bytearray, ds: Dataset) -> None:
    at = content.rindex(struct.pack("<HHL", 0xFFFE, 0xE000, 0)[:4]) + 8
    content[at + 70 : at + 90] = b"\x7f" * 20


@pytest.mark.parametrize("edit", [fewer_rows, other_bytes])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_rle_stream_is_an_error_of_one_line(
    tmp_path: Path, edit: Callable[[bytearray, Dataset], object]
) -> None:
    rle(tmp_path, edit)
    (patient,) = scan(tmp_path).patients
    for series in patient.series:
        with pytest.raises(ReadError, match="IM1"):
            read_slice(series, 0)


def slope(ds: Dataset) -> None:
    ds.add_new(0x00281053, "DS", "1e300")


def intercept(ds: Dataset) -> None:
    ds.add_new(0x00281052, "DS", "1e38")


def spacing(ds: Dataset) -> None:
    ds.PixelSpacing = ["1e308", "1e308"]


def position(ds: Dataset) -> None:
    ds.ImagePositionPatient = ["1e308", "-1e308", "1e308"]


def thickness(ds: Dataset) -> None:
    ds.SliceThickness = "1e308"


@pytest.mark.parametrize("edit", [slope, intercept, spacing, position, thickness])
@pytest.mark.filterwarnings("ignore")
def test_absurd_numbers_in_one_patient_do_not_stop_the_others(
    tmp_path: Path, edit: Callable[[Dataset], object]
) -> None:
    root = tmp_path / "exams"
    for i, ds in enumerate(slices(3)):
        save(ds, root / "good" / f"IM{i}")
        ds.SeriesInstanceUID = "1.2.3.5"
        edit(ds)
        save(ds, root / "bad" / f"IM{i}")
    found = {patient.patient_id: patient for patient in scan(root).patients}
    assert len(found["good"].series) == 1
    report = preprocess(root, tmp_path / "out", workers=1)
    rows = {row.patient_id: row for row in report.rows}
    assert not rows["good"].skipped
    assert rows["good"].reason == ""


def wrong_vr(content: bytes) -> bytes:
    """The shared functional groups as text."""
    at = content.index(struct.pack("<HH2s", 0x5200, 0x9229, b"SQ"))
    return content[: at + 4] + b"UT" + content[at + 6 :]


def unknown_vr(content: bytes) -> bytes:
    at = content.index(struct.pack("<HH2s", 0x0028, 0x0008, b"IS"))
    return content[: at + 4] + b"Q?" + content[at + 6 :]


@pytest.mark.parametrize("damage", [wrong_vr, unknown_vr])
@pytest.mark.filterwarnings("ignore")
def test_a_multi_frame_object_with_odd_encoding_does_not_stop_a_scan(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    for i, ds in enumerate(slices(3)):
        save(ds, tmp_path / "good" / f"IM{i}")
    path = save(enhanced(slices(3)), tmp_path / "bad" / "multi")
    path.write_bytes(damage(path.read_bytes()))
    found = {patient.patient_id: patient for patient in scan(tmp_path).patients}
    assert len(found["good"].series) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_volume_scaled_beyond_all_hu_is_left_out(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full((32, 32, 3), -100, np.int16), np.eye(4))
    image.header.set_slope_inter(1e30, 0)
    (tmp_path / "p").mkdir()
    nib.save(image, tmp_path / "p" / "v.nii")
    content = bytearray((tmp_path / "p" / "v.nii").read_bytes())
    content[112:116] = struct.pack("<f", 1e30)
    (tmp_path / "p" / "v.nii").write_bytes(bytes(content))
    (patient,) = scan(tmp_path).patients
    assert not patient.series
    assert patient.excluded[0].failed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_and_sockets_are_not_opened(tmp_path: Path) -> None:
    for i, ds in enumerate(slices(2)):
        save(ds, tmp_path / "p" / f"IM{i}")
    os.mkfifo(tmp_path / "p" / "pipe")
    os.mkfifo(tmp_path / "p" / "pipe.nii")
    os.mkfifo(tmp_path / "loose")
    (patient,) = scan(tmp_path).patients
    assert len(patient.series[0].slices) == 2


@pytest.mark.parametrize("begun", [132, 600])
def test_a_file_whose_rest_is_zeros_is_given_up_at_once(tmp_path: Path, begun: int) -> None:
    """As a copy leaves that reserved its space and was cut off."""
    path = save(slices(1)[0], tmp_path / "p" / "IM")
    content = path.read_bytes()[:begun]
    path.write_bytes(content + bytes(20_000_000))
    start = time.process_time()
    (patient,) = scan(tmp_path).patients
    patient_id_in(path)
    assert time.process_time() - start < 2
    assert not patient.series
    assert patient.excluded[0].failed


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    name = "ä" * 120 + ".dcm"
    with atomic_path(tmp_path / name) as part:
        part.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
    clear_leftovers(tmp_path / ("x" * 300))


def test_a_patient_whose_folder_name_leaves_no_room_does_not_stop_the_others(tmp_path: Path) -> None:
    root = tmp_path / "exams"
    for i, ds in enumerate(slices(2)):
        save(ds, root / "good" / f"IM{i}")
        save(ds, root / ("x" * 254) / f"IM{i}")
    report = preprocess(root, tmp_path / "out", workers=1)
    assert {row.patient_id: row.skipped for row in report.rows} == {"good": False, "x" * 254: True}


def test_names_with_dollars_and_braces_are_drawn_as_they_are(tmp_path: Path) -> None:
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_title("a$b{$ \\frac")
    axes.set_yscale("log")
    save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_a_header_is_still_read_up_to_its_pixels(tmp_path: Path) -> None:
    path = save(slices(1)[0], tmp_path / "IM")
    assert patient_id_in(path) == str(dcmread(path).PatientID)
    assert issubclass(ReadError, CtsrError)
