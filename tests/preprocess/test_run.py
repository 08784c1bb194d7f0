import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from ctsr.errors import CtsrError, DomainError, MissingInputError, ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.hashing import find_people
from ctsr.preprocess import preprocess
from ctsr.preprocess.manifest import CSV_LOG, JSON_LOG
from tests.made.ct import body, ct_slice, enhanced, save, save_series, slices, write
from tests.made.listener import Listener
from tests.made.logs import rows_of
from tests.oracles import dciodvfy_errors


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below, with its time of change and bytes; without the hidden folder of states."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".ctsr" not in path.parts)
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def volume(count: int = 3, size: int = 40) -> npt.NDArray[np.int16]:
    return np.stack([body(size, seed=seed) for seed in range(count)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients: one series deep below, and two side by side; a name that ends in pp."""
    folder = tmp_path / "exams"
    save_series(folder / "Krupp" / "study" / "CT 1", volume(3))
    save_series(folder / "P2" / "a", volume(2), series="1.2.5", spacing=(0.9, 0.95))
    save_series(folder / "P2" / "b", volume(2, 30), series="1.2.6", spacing=(0.5, 0.5))
    return folder


def test_the_tree_is_kept_with_pp_behind_the_patient(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    found = {path.relative_to(out).as_posix() for path in out.rglob("IM*")}
    assert found == {
        *(f"Krupppp/study/CT 1/IM{i}" for i in (1, 2, 3)),
        *(f"P2pp/{name}/IM{i}" for name in "ab" for i in (1, 2)),
    }


@pytest.mark.parametrize("cosines", [(1.004, 0.0, 0.0, 0.0, 1.004, 0.0), (1.0, 0.005, 0.0, 0.0, 1.0, 0.0)])
def test_cosines_that_are_no_unit_vectors_at_right_angles_are_written_as_such(
    tmp_path: Path, cosines: tuple[float, ...]
) -> None:
    save_series(tmp_path / "exams" / "P1", volume(), ImageOrientationPatient=list(cosines))
    preprocess(tmp_path / "exams", tmp_path / "out", target_spacing=0.9)
    for path in (tmp_path / "out").rglob("IM*"):
        vectors = np.array(dcmread(path).ImageOrientationPatient, float).reshape(2, 3)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(2), atol=1e-9)


def test_originals_are_not_touched(root: Path, tmp_path: Path) -> None:
    before = snapshot(root)
    preprocess(root, tmp_path / "out")
    assert snapshot(root) == before


def test_a_marked_structure_is_read_back_where_it_was(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    y, x = np.indices((200, 180))
    hu = -1000 + 1000 * np.exp(-((x - 150) ** 2 + (y - 31) ** 2) / (2 * 6.0**2))
    save(ct_slice(hu, spacing=(0.703125, 0.65), position=(-60.3, -171.7, 4.0)), root / "P" / "s")
    preprocess(root, out)
    (series,) = scan(out).all_series()
    weight = read_slice(series, 0).hu.astype(np.float64) + 1000
    rows, columns = np.indices(weight.shape)
    new_y = series.slices[0].position[1] + 0.8 * (rows * weight).sum() / weight.sum()
    new_x = series.slices[0].position[0] + 0.8 * (columns * weight).sum() / weight.sum()
    weight = np.rint(hu).astype(np.int64) + 1000
    old_y = -171.7 + 0.703125 * (y * weight).sum() / weight.sum()
    old_x = -60.3 + 0.65 * (x * weight).sum() / weight.sum()
    assert (new_x, new_y) == pytest.approx((old_x, old_y), abs=0.01)


def test_padding_is_still_padding_when_read_again(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    rows, columns = np.indices((100, 100)) - 49.5
    hu = np.where(np.hypot(rows, columns) > 48, -2000, body(100))
    ds = ct_slice(hu, PixelRepresentation=1, RescaleIntercept=0)
    ds.PixelData = hu.astype("<i2").tobytes()
    ds.add_new("PixelPaddingValue", "SS", -2000)
    save(ds, root / "P" / "s.dcm")
    preprocess(root, out)
    (series,) = scan(out).all_series()
    pixels = read_slice(series, 0)
    assert pixels.padding is not None
    assert pixels.padding.mean() == pytest.approx((hu == -2000).mean(), abs=0.02)
    assert pixels.hu[~pixels.padding].min() >= body(100).min()
    assert (pixels.hu[pixels.padding] == -1000).all()


def test_the_logs_have_a_row_for_each_series(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = preprocess(root, out)
    rows = rows_of(out)
    assert [(row["patient_id"], row["series_uid"], row["num_slices"]) for row in rows] == [
        ("Krupp", "1.2.3.4", 3),
        ("P2", "1.2.5", 2),
        ("P2", "1.2.6", 2),
    ]
    second = rows[1]
    assert (second["orig_row_mm"], second["orig_col_mm"], second["orig_rows"]) == (0.9, 0.95, 40)
    assert (second["new_row_mm"], second["new_rows"], second["new_cols"]) == (0.8, 45, round(40 * 0.95 / 0.8))
    assert [row["upsampled"] for row in rows] == [False, True, False]
    assert (report.written, report.kept, report.failed) == (7, 0, 0)


def test_logs_lie_in_the_output_folder_only(root: Path, tmp_path: Path) -> None:
    preprocess(root, tmp_path / "out")
    logs = set(tmp_path.rglob("preprocessing_log.*"))
    assert logs == {tmp_path / "out" / CSV_LOG, tmp_path / "out" / JSON_LOG}


def test_a_rerun_rewrites_nothing(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    before = snapshot(out)
    report = preprocess(root, out)
    assert (report.written, report.kept) == (0, 7)
    assert snapshot(out) == before


def test_other_settings_make_everything_anew_under_new_uids(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    old = dcmread(out / "P2pp" / "a" / "IM1")
    report = preprocess(root, out, target_spacing=1.0)
    new = dcmread(out / "P2pp" / "a" / "IM1")
    assert (report.written, report.kept) == (7, 0)
    assert {row["new_row_mm"] for row in rows_of(out)} == {1.0}
    assert old.SOPInstanceUID != new.SOPInstanceUID
    assert old.SeriesInstanceUID != new.SeriesInstanceUID


def test_a_changed_source_is_made_anew_and_the_others_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    source = dcmread(root / "P2" / "a" / "IM1")
    source.PixelData = (body(seed=9) + 1024).astype("<u2").tobytes()
    save(source, root / "P2" / "a" / "IM1")
    report = preprocess(root, out)
    assert (report.written, report.kept) == (1, 6)
    assert len(rows_of(out)) == 3


def test_a_slice_whose_source_is_gone_goes_too(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    (root / "Krupp" / "study" / "CT 1" / "IM2").unlink()
    preprocess(root, out)
    assert not (out / "Krupppp" / "study" / "CT 1" / "IM2").exists()
    assert rows_of(out)[0]["num_slices"] == 2


def test_a_lost_result_is_made_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    path = out / "P2pp" / "a" / "IM1"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert preprocess(root, out).written == 1
    assert path.read_bytes() == content


def test_another_root_adds_its_patients_to_the_logs(root: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", tmp_path / "more"
    preprocess(root, out)
    save_series(more / "P3", volume(2), series="1.2.7")
    save_series(more / "P2" / "c", volume(2), series="1.2.8")
    preprocess(more, out)
    assert [(row["patient_id"], row["series_uid"]) for row in rows_of(out)] == [
        ("Krupp", "1.2.3.4"),
        ("P2", "1.2.5"),
        ("P2", "1.2.6"),
        ("P2", "1.2.8"),
        ("P3", "1.2.7"),
    ]
    assert len(list(out.rglob("IM*"))) == 11


def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    root = tmp_path / "exams"
    save_series(root / "P1", volume(40, 24))
    outs = [tmp_path / f"out{workers}" for workers in (1, 2)]
    for workers, out in enumerate(outs, start=1):
        assert preprocess(root, out, workers=workers).written == 40
    one, two = ({name: content for name, (_, content) in snapshot(out).items()} for out in outs)
    assert one == two


def test_one_bad_slice_fails_its_series_and_nothing_else(root: Path, tmp_path: Path) -> None:
    out, listener = tmp_path / "out", Listener()
    bad = dcmread(root / "P2" / "a" / "IM2")
    bad.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    bad["PixelData"].is_undefined_length = True
    bad.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0nope\xfe\xff\xdd\xe0\0\0\0\0"
    save(bad, root / "P2" / "a" / "IM2")
    report = preprocess(root, out, progress=listener)
    assert report.failed == 1
    row = rows_of(out)[1]
    assert (row["num_slices"], row["skipped"]) == (1, False)
    assert "1 of 2 slices failed" in str(row["reason"])
    assert any("IM2" in note for note in listener.notes)
    assert not (out / "P2pp" / "a" / "IM2").exists()
    assert len(list(out.rglob("IM*"))) == 6
    assert preprocess(root, out).failed == 1


def test_a_failure_names_the_folder_where_the_root_itself_is_the_patient(tmp_path: Path) -> None:
    images = [body(96, seed=seed, texture=20) for seed in range(6)]
    images[3] = 2 * images[3]
    save_series(tmp_path / "anna", images)
    listener = Listener()
    assert preprocess(tmp_path / "anna", tmp_path / "out", progress=listener).failed == 1
    (note,) = (note for note in listener.notes if note.startswith("failed: "))
    assert note.startswith(f"failed: {tmp_path / 'anna'}: 1 of 6 slices failed")


def test_a_slice_unlike_its_series_is_left_out_or_named(tmp_path: Path) -> None:
    images = [body(96, seed=seed, texture=20) for seed in range(20)]
    images[8], images[16] = 2 * images[8], images[16] + 100  # the first of a chunk, and one within
    save_series(tmp_path / "exams" / "P1", images)
    listener = Listener()
    report = preprocess(tmp_path / "exams", tmp_path / "out", progress=listener)
    assert (report.failed, report.written) == (1, 19)
    assert not (tmp_path / "out" / "P1pp" / "IM9").exists()
    (row,) = rows_of(tmp_path / "out")
    assert "1 of 20 slices failed, the first: " in str(row["reason"])
    assert "IM9: unlike its series" in str(row["reason"])
    (warning,) = (note for note in listener.notes if note.startswith("warning: "))
    assert "IM17: unlike its series, its values do not look like HU: its air lies +100 HU" in warning
    assert preprocess(tmp_path / "exams", tmp_path / "out", assume_hu=True).failed == 0


def test_an_odd_slice_of_a_volume_is_named(tmp_path: Path) -> None:
    stack = np.stack([body(96, seed=seed, texture=20) for seed in range(7)])
    stack[3] = stack[3].clip(-160, 240)
    (tmp_path / "exams" / "P1").mkdir(parents=True)
    image = nib.Nifti1Image(stack.transpose(2, 1, 0), np.diag([-0.8, -0.8, 2.5, 1.0]))
    nib.save(image, tmp_path / "exams" / "P1" / "ct.nii")
    listener = Listener()
    assert preprocess(tmp_path / "exams", tmp_path / "out", progress=listener).failed == 1
    assert any("ct.nii, slice 3: unlike its series" in note for note in listener.notes)


def test_a_series_without_rescale_is_refused_unless_told_otherwise(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in (root / "P2" / "a").iterdir():
        source = dcmread(path)
        del source.RescaleSlope
        del source.RescaleIntercept
        save(source, path)
    report = preprocess(root, out)
    assert report.failed == 1
    row = rows_of(out)[1]
    assert row["skipped"] is True
    assert "`assume_hu`" in str(row["reason"])
    assert preprocess(root, out, assume_hu=True).failed == 0
    assert dcmread(out / "P2pp" / "a" / "IM1").pixel_array.max() > 1000


def test_a_localizer_is_a_row_with_a_reason_and_no_failure(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(ct_slice(body(), series_uid="1.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), root / "P2" / "scout")
    report = preprocess(root, out)
    assert report.failed == 0
    (row,) = [row for row in rows_of(out) if row["skipped"]]
    assert (row["patient_id"], row["series_uid"], row["num_slices"]) == ("P2", "1.9", 1)
    assert "localizer" in str(row["reason"])
    assert not (out / "P2pp" / "scout").exists()


@pytest.mark.parametrize(
    ("name", "first"), [("mf.dcm", "mf_f001.dcm"), ("mf", "mf_f001"), ("1.2.840.7", "1.2.840.7_f001")]
)
def test_frames_become_classic_slices(tmp_path: Path, name: str, first: str) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    save(enhanced(slices(volume(3))[::-1]), root / "P" / name)
    preprocess(root, out)
    folder = out / "Ppp"
    assert sorted(path.name for path in folder.iterdir())[0] == first
    assert len(list(folder.iterdir())) == 3
    (series,) = scan(out).all_series()
    assert [header.position[2] for header in series.slices] == [30.0, 32.5, 35.0]
    # The first frame is the highest, and stays the first.
    assert [header.instance_number for header in series.slices] == [3, 2, 1]
    assert dcmread(folder / first).SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"


def test_a_nifti_volume_stays_one_with_its_place_in_mm(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    (root / "P").mkdir(parents=True)
    x, y, z = np.meshgrid(np.arange(60), np.arange(50), np.arange(4), indexing="ij")
    affine = np.array([[-0.7, 0, 0, 60.0], [0, 0.65, 0, -40.0], [0, 0, 2.5, 10.0], [0, 0, 0, 1]])
    hu = -1000 + 1000 * np.exp(-((x - 40) ** 2 + (y - 12) ** 2) / 50) + 0 * z
    nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), root / "P" / "ct.nii.gz")
    report = preprocess(root, out)
    assert report.written == 4
    new = nib.load(out / "Ppp" / "ct.nii.gz")
    assert np.allclose(sorted(new.header.get_zooms()), [0.8, 0.8, 2.5])

    def center(image: object) -> npt.NDArray[np.float64]:
        weight = np.asarray(image.dataobj, dtype=np.float64) + 1000
        index = [(grid * weight).sum() / weight.sum() for grid in np.indices(weight.shape)]
        return image.affine @ [*index, 1]

    old = nib.load(root / "P" / "ct.nii.gz")
    assert center(new) == pytest.approx(center(old), abs=0.01)
    before = (out / "Ppp" / "ct.nii.gz").read_bytes()
    assert preprocess(root, out).written == 0
    shutil.rmtree(out)
    preprocess(root, out)
    assert (out / "Ppp" / "ct.nii.gz").read_bytes() == before


KILLED = """
import os, sys
from pathlib import Path
from ctsr.preprocess import preprocess
from ctsr.reporting import Silent

class EndsItself(Silent):
    def track(self, items, *, total, what):
        for number, item in enumerate(items):
            if what == "preprocess" and number == 10:
                os.kill(os.getpid(), int(sys.argv[4]))
            yield item

if __name__ == "__main__":
    preprocess(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]), progress=EndsItself())
"""
"""Sends itself a signal when ten slices are done: on a busy machine another process may be too late for that."""


@pytest.mark.parametrize(("workers", "how"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)])
def test_an_interrupted_run_is_continued_to_the_same_result(tmp_path: Path, workers: int, how: int) -> None:
    root, out, whole = tmp_path / "exams", tmp_path / "out", tmp_path / "whole"
    for name in "AB":
        save_series(root / name, volume(60, 128), series=f"1.2.{ord(name)}")
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(root), str(out), str(workers), str(int(how))]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == -how
    done = len(list(out.rglob("IM*")))
    assert 10 <= done < 120
    for path in out.rglob("IM*"):
        assert dcmread(path).pixel_array.shape == (112, 112)
    report = preprocess(root, out)
    assert report.written + report.kept == 120
    assert report.kept >= 10
    assert [row["num_slices"] for row in rows_of(out)] == [60, 60]
    assert not list(out.rglob("*.part"))
    preprocess(root, whole)
    one, two = ({name: content for name, (_, content) in snapshot(folder).items()} for folder in (out, whole))
    assert one == two


@pytest.mark.parametrize("out", ["exams", "exams/out", "."])
def test_results_never_mix_with_originals(root: Path, out: str) -> None:
    with pytest.raises(UsageError, match="are inside one another"):
        preprocess(root, root.parent / out)


def test_a_root_without_ct_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="no CT below"):
        preprocess(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MissingInputError, match="no such folder"):
        preprocess(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_is_refused(root: Path, tmp_path: Path, spacing: float) -> None:
    with pytest.raises(DomainError, match="target spacing"):
        preprocess(root, tmp_path / "out", target_spacing=spacing)


def test_what_the_disk_must_hold_is_said_first(root: Path, tmp_path: Path) -> None:
    listener = Listener()
    preprocess(root, tmp_path / "out", progress=listener)
    assert any("7 slices to write" in note and "free" in note for note in listener.notes)


def test_a_disk_too_small_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    # 1190 mm at 0.05 mm: more than a GB each.
    count = shutil.disk_usage(tmp_path).free // 10**9 + 1
    write(root / "P", slices([body(119)] * count, spacing=(10.0, 10.0)))
    with pytest.raises(CtsrError, match="are free"):
        preprocess(root, out, target_spacing=0.05)
    assert not (out / "Ppp").exists()


def test_a_foreign_log_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / JSON_LOG).write_text('[{"something": "else"}]')
    with pytest.raises(ReadError, match="not a log of ctsr"):
        preprocess(root, out)
    assert (out / JSON_LOG).read_text() == '[{"something": "else"}]'


def test_derived_slices_are_valid(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(enhanced(slices(volume(2))), root / "P3" / "mf.dcm")
    preprocess(root, out)
    for path in (out / "P2pp" / "a" / "IM1", out / "P3pp" / "mf_f002.dcm"):
        assert dciodvfy_errors(path) == set()


def test_two_slices_never_get_one_name(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    save(enhanced(slices(volume(2))), root / "P" / "mf.dcm")
    save(ct_slice(body(), series_uid="1.7", uid="1.7.1"), root / "P" / "mf_f002.dcm")
    report = preprocess(root, out)
    assert report.failed == 1
    assert any("mf_f002.dcm" in row.reason for row in report.rows if row.skipped)


@pytest.mark.parametrize("name", ["ct.nii", "x.mha", "x.nrrd"])
def test_dicom_in_a_folder_that_is_called_like_a_volume_stays_dicom_of_its_patient(tmp_path: Path, name: str) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    for exam, uid in (("exam2019", "1.2.5"), ("exam2021", "1.2.6")):
        save_series(root / exam / name, volume(2), series=uid, PatientID="MRN-0012345", StudyInstanceUID=f"{uid}.1")
    preprocess(root, out)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.parent.name == name}
    assert found == {f"{exam}pp/{name}/IM{i}" for exam in ("exam2019", "exam2021") for i in (1, 2)}
    people = find_people({patient.patient_id: patient.identities for patient in scan(out).usable})
    assert people.groups == (("exam2019pp", "exam2021pp"),)


def test_slices_that_come_later_change_what_headers_say_of_those_that_are_there(tmp_path: Path) -> None:
    """A copy that was under way: every second slice first, each stating the distance of all."""
    source, root, out = tmp_path / "source", tmp_path / "exams", tmp_path / "out"
    paths = save_series(source, volume(6), SpacingBetweenSlices=2.5)
    folder = root / "P1"
    folder.mkdir(parents=True)
    for path in paths[::2]:
        shutil.copy2(path, folder)
    assert preprocess(root, out).written == 3
    assert {float(dcmread(path).SpacingBetweenSlices) for path in out.rglob("IM*")} == {5.0}
    for path in paths[1::2]:
        shutil.copy2(path, folder)
    assert preprocess(root, out).written == 6
    assert {float(dcmread(path).SpacingBetweenSlices) for path in out.rglob("IM*")} == {2.5}


def test_more_slices_at_the_same_distance_leave_the_others_alone(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_series(root / "P9", volume(3), series="1.2.9")
    (root / "P9" / "IM3").rename(tmp_path / "IM3")
    preprocess(root, out)
    (tmp_path / "IM3").rename(root / "P9" / "IM3")
    report = preprocess(root, out)
    assert (report.written, report.kept) == (1, 9)


def test_a_folder_of_two_pixel_sizes_is_said(root: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", tmp_path / "more"
    preprocess(root, out)
    save_series(more / "P3", volume(2), series="1.2.7")
    listener = Listener()
    preprocess(more, out, progress=listener)
    assert not [note for note in listener.notes if "also holds" in note]
    preprocess(more, out, target_spacing=1.0, progress=listener)
    (warning,) = (note for note in listener.notes if "also holds" in note)
    assert "3 series from before, of pixels of 0.8 mm, not 1 mm" in warning
