"""What the output folder holds and says at any moment, and after runs over odd roots."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom

from ctsr.cli.main import main
from ctsr.data.datasets import open_roots
from ctsr.dicom.write import save_slice
from ctsr.documents import patient_names
from ctsr.errors import UsageError
from ctsr.exams import scan
from ctsr.nifti import save_volume
from ctsr.preprocess import preprocess
from ctsr.volume import Grid
from tests.made.ct import body, ct_slice, save, save_series
from tests.made.listener import Listener
from tests.made.logs import rows_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three patients of two slices, pixels of 0.7 mm."""
    for i, name in enumerate(("x1", "x2", "x3"), start=1):
        person = {"PatientID": f"P-{name}", "StudyInstanceUID": f"1.3.{i}"}
        save_series(tmp_path / "exams" / name, [body(), body(seed=10 * i)], series=f"1.2.{i}", **person)
    return tmp_path / "exams"


def interrupted(root: Path, out: Path, **settings: float) -> None:
    """A run that is stopped when the first patient and half of the second are made."""
    with pytest.raises(KeyboardInterrupt):
        preprocess(root, out, progress=Listener(stop_in="preprocess", stop_after=3), workers=1, **settings)


def test_an_interrupted_run_knows_all_its_patients(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(root, out)
    rows = rows_of(out)
    assert [(row["patient_id"], row["skipped"]) for row in rows] == [("x1", False), ("x2", True), ("x3", True)]
    assert ["the same command continues it" in str(row["reason"]) for row in rows] == [False, True, True]
    assert open_roots([out]).ids == ("x1", "x2")
    preprocess(root, out)
    assert {(row["skipped"], row["reason"]) for row in rows_of(out)} == {(False, "")}


def test_a_rerun_that_is_interrupted_leaves_no_mixture_of_spacings(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    interrupted(root, out, target_spacing=1.0)
    assert set(patient_names(out).values()) == {"x1", "x2", "x3"}
    assert {series.pixel_spacing for series in scan(out).all_series()} == {(1.0, 1.0)}
    assert [row["new_row_mm"] for row in rows_of(out)] == [1.0, 1.0, 1.0]


def test_slices_kept_by_an_interrupted_run_are_counted(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(root, out)
    with pytest.raises(KeyboardInterrupt):
        preprocess(root, out, progress=Listener(stop_in="preprocess"), workers=1)
    second = rows_of(out)[1]
    assert (second["num_slices"], second["skipped"], second["output"]) == (1, False, "x2pp")
    assert "not finished" in str(second["reason"])


def test_one_instance_uid_in_two_geometries_gives_two_of_each_uid(tmp_path: Path) -> None:
    root, out = tmp_path / "exams", tmp_path / "out"
    save_series(root / "P" / "original", [body(), body(seed=1)])
    save_series(root / "P" / "resampled", [body(20), body(20, seed=1)], spacing=(1.4, 1.4))
    assert preprocess(root, out).written == 4
    made = [dcmread(path) for path in out.rglob("IM*")]
    assert len({one.SOPInstanceUID for one in made}) == 4
    assert len({one.SeriesInstanceUID for one in made}) == 2


def test_results_of_a_series_that_is_refused_now_go(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = save(ct_slice(body(), series_uid="1.8", RescaleSlope=None, RescaleIntercept=None), root / "x1" / "raw")
    preprocess(root, out, assume_hu=True)
    assert (out / "x1pp" / "raw").is_file()
    assert preprocess(root, out, target_spacing=1.0).failed == 1
    assert not (out / "x1pp" / "raw").exists()
    assert path.is_file()


def test_results_of_a_series_that_is_left_out_now_go(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(root, out)
    for i in (1, 2):
        source = dcmread(root / "x2" / f"IM{i}")
        source.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        save(source, root / "x2" / f"IM{i}")
    preprocess(root, out)
    assert not list((out / "x2pp").iterdir())
    assert len(list(out.rglob("IM*"))) == 4


def test_names_that_are_not_utf8_are_spelled_out_and_known_again(root: Path, tmp_path: Path) -> None:
    out, splits = tmp_path / "out", tmp_path / "splits"
    odd = root / os.fsdecode(b"M\xfcller")
    person = {"PatientID": "P-odd", "StudyInstanceUID": "1.3.9"}
    save_series(odd / os.fsdecode(b"Sch\xe4del"), [body(), body(seed=1)], series="1.2.9", **person)
    raw = ct_slice(body(), series_uid="1.8", uid="1.8.1", RescaleSlope=None, RescaleIntercept=None, **person)
    save(raw, odd / "raw")
    affine = np.diag([-0.7, -0.7, 2.5, 1])
    nib.save(nib.Nifti1Image(np.stack([body(), body()], axis=2), affine), odd / os.fsdecode(b"\xfc.nii"))
    preprocess(root, out)
    assert sorted(path.name for path in out.iterdir() if path.suffix == "" and path.name[0] != ".") == [
        "M\\xfcllerpp",
        "x1pp",
        "x2pp",
        "x3pp",
    ]
    assert {row["patient_id"] for row in rows_of(out)} == {"M\\xfcller", "x1", "x2", "x3"}
    assert preprocess(root, out).kept == 10
    for one in (root, out):
        assert open_roots([one]).ids == ("M\\xfcller", "x1", "x2", "x3")
        assert main(["split", "--root", str(one), "--out_dir", str(splits)]) == 0


def test_what_is_no_ct_is_said_in_one_line(root: Path, tmp_path: Path) -> None:
    listener = Listener()
    for name in ("x1", "y"):
        save(ct_slice(body(), Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), root / name / "seg")
    (root / "z").mkdir()
    preprocess(root, tmp_path / "out", progress=listener)
    assert listener.notes[-1] == "ignored: 2 SEG; without CT: y, z"


def test_a_file_that_cannot_be_read_is_said_once(root: Path, tmp_path: Path) -> None:
    listener = Listener()
    path = root / "x1" / "IM2"
    path.write_bytes(path.read_bytes()[:-100])
    assert preprocess(root, tmp_path / "out", progress=listener).failed == 1
    (note,) = [note for note in listener.notes if "IM2" in note]
    assert note.startswith("failed: ")
    assert not [note for note in listener.notes if "cannot be read" in note]


def test_headers_read_in_other_processes_tell_the_same(tmp_path: Path) -> None:
    root, listener = tmp_path / "exams", Listener()
    for i in range(3):
        save_series(root / f"P{i}", [body(12, seed=seed) for seed in range(20)], series=f"1.2.{i}")
    rows = [preprocess(root, tmp_path / f"out{n}", workers=n, progress=listener).rows for n in (1, 2)]
    assert rows[0] == rows[1]
    assert [(row.patient_id, row.num_slices) for row in rows[0]] == [("P0", 20), ("P1", 20), ("P2", 20)]


HOLDER = """
import sys
from pathlib import Path
from ctsr.preprocess.manifest import Manifest
with Manifest(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_preprocess_writes_into_is_refused_until_that_ends(root: Path, tmp_path: Path) -> None:
    """Two at once wrote logs that knew nothing of one another's series, and mixed settings."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another `ctsr preprocess` writes into it now; wait for it, or name"):
            preprocess(root, out, workers=1)
        assert not list(out.rglob("*.dcm"))
        holder.kill()
    for _ in range(2):
        assert preprocess(root, out, workers=1).failed == 0


def test_a_slice_that_reads_back_otherwise_is_not_left_and_stops_no_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_worse(dataset: Dataset, path: Path) -> tuple[str, ...]:
        left_out = save_slice(dataset, path)
        written = dcmread(path)
        if written.InstanceNumber == 1:
            pixels = written.pixel_array.copy()
            pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] += 1
            written.PixelData = pixels.tobytes()
            written.save_as(path)
        return left_out

    monkeypatch.setattr("ctsr.preprocess.slices.save_slice", save_worse)
    listener, out = Listener(), tmp_path / "out"
    preprocess(root, out, workers=1, progress=listener)
    (line, *_) = [note for note in listener.notes if "read back, its HU differ from those computed" in note]
    assert "slices failed, the first" in line
    made = [path for path in out.rglob("*") if path.is_file() and is_dicom(path)]
    assert [dcmread(path).InstanceNumber for path in made] == [2, 2, 2]
    monkeypatch.undo()
    assert preprocess(root, out, workers=1).failed == 0


def test_a_volume_that_reads_back_otherwise_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_worse(path: Path, values: npt.NDArray[np.int16], grid: Grid, **further: Any) -> None:
        values = values.copy()
        values[1, 2, 3] += 1
        save_volume(path, values, grid, **further)

    hu = np.stack([body(32, seed=seed) for seed in range(3)]).astype(np.int16)
    (tmp_path / "root" / "anna").mkdir(parents=True)
    nib.save(nib.Nifti1Image(hu.T, np.diag([0.5, 0.5, 2.0, 1.0])), tmp_path / "root" / "anna" / "ct.nii.gz")
    monkeypatch.setattr("ctsr.nifti.save_volume", save_worse)
    report = preprocess(tmp_path / "root", tmp_path / "out", workers=1)
    assert report.failed == 1
    assert "read back, it holds other values than were written" in report.rows[0].reason
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
