"""Roots: raw or preprocessed, one or several, a patient goes by the name of his source's folder."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctsr.data.datasets import open_exams, open_roots
from ctsr.data.split import PARTS, split_patients
from ctsr.documents import PREPROCESSING_LOG, patient_names, upsampled_series
from ctsr.errors import MissingInputError, ReadError, SplitError
from ctsr.preprocess import preprocess
from tests.made.ct import body, save_series
from tests.made.exams import save_patient, save_patients
from tests.made.listener import Listener

PEOPLE = ("Krupp", "Philipp", "app", "pp", "15041")


def ids(*roots: Path) -> list[str]:
    return list(open_roots(roots).ids)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patients(tmp_path_factory.mktemp("raw"), PEOPLE, slices=1, size=20)


@pytest.fixture(scope="module")
def preprocessed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("preprocessed")
    preprocess(raw, out, workers=1)
    return out


def test_a_patient_called_krupp_keeps_his_name(raw: Path, preprocessed: Path) -> None:
    assert patient_names(raw) == {}
    assert ids(raw) == sorted(PEOPLE)
    assert {path.name for path in preprocessed.iterdir() if path.is_dir() and path.name[0] != "."} == {
        "Krupppp", "Philipppp", "apppp", "pppp", "15041pp",
    }  # fmt: skip
    assert ids(preprocessed) == sorted(PEOPLE)


def test_raw_and_preprocessed_roots_split_alike(raw: Path, preprocessed: Path) -> None:
    one, other = (split_patients(ids(root)) for root in (raw, preprocessed))
    assert one == other


def test_the_log_names_patients_and_not_the_ending_of_a_folder(tmp_path: Path) -> None:
    save_patients(tmp_path, ("Annapp", "Bertpp"), slices=1, size=20)
    assert ids(tmp_path) == ["Annapp", "Bertpp"]
    (tmp_path / "preprocessing_log.csv").write_text("patient_id,series_uid\nAnna,1.2\n")
    assert ids(tmp_path) == ["Anna", "Bertpp"]


def test_a_foreign_log_is_an_error_that_names_it(tmp_path: Path) -> None:
    save_patient(tmp_path, "anna", slices=1, size=20)
    (tmp_path / "preprocessing_log.csv").write_text("name;uid\nanna;1.2\n")
    with pytest.raises(ReadError, match=r"preprocessing_log\.csv"):
        open_roots([tmp_path])


def test_an_empty_or_stray_folder_changes_nothing_in_the_split(tmp_path: Path) -> None:
    names = [f"P{i}" for i in range(10)]
    save_patients(tmp_path, names, slices=1, size=20)
    before = split_patients(ids(tmp_path))
    (tmp_path / "A empty").mkdir()
    (tmp_path / "B stray").mkdir()
    (tmp_path / "B stray" / "notes.txt").write_text("nothing of the kind")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme").write_text("exams")
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    save_series(tmp_path / "C scout", [body(20)], series="1.9", **scout)
    assert split_patients(ids(tmp_path)) == before


def test_several_roots_are_one_set_of_patients_sorted_by_id(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for seed, (root, name) in enumerate([(one, "cleo"), (one, "anna"), (other, "dora"), (other, "bert")]):
        save_patient(root, name, slices=1, size=20, seed=seed)
    assert ids(one, other) == ids(other, one) == ["anna", "bert", "cleo", "dora"]


def test_a_patient_in_two_roots_is_one_patient_with_the_series_of_both(tmp_path: Path) -> None:
    save_patient(tmp_path / "one", "anna", slices=2, size=20, series="1.3.1")
    save_patient(tmp_path / "other", "anna", slices=2, size=20, series="1.3.1")
    save_patient(tmp_path / "other", "anna", slices=3, size=20, series="1.3.2")
    listener = Listener()
    (anna,) = open_roots([tmp_path / "one", tmp_path / "other"], progress=listener).usable
    assert [(series.series_uid, len(series.slices)) for series in anna.series] == [("1.3.1", 2), ("1.3.2", 3)]
    assert ["taken for one patient: anna" in note for note in listener.notes] == [True]


def test_volumes_of_a_patient_in_two_roots_are_both_kept(tmp_path: Path) -> None:
    """Slices of a NIfTI volume have no names of their own: those of any two volumes are called alike."""
    for seed, root in enumerate(("one", "other")):
        (tmp_path / root / "anna").mkdir(parents=True)
        image = nib.Nifti1Image(np.stack([body(20, seed=seed)] * 3, axis=-1), np.diag([-0.8, -0.8, 2.5, 1]))
        nib.save(image, tmp_path / root / "anna" / "ct.nii.gz")
    (anna,) = open_roots([tmp_path / "one", tmp_path / "other"]).usable
    assert [series.path.parts[-3] for series in anna.series] == ["one", "other"]


def test_a_copy_of_a_series_under_another_name_is_left_out_and_said(tmp_path: Path) -> None:
    for name in ("anna", "anna copy"):
        save_patient(tmp_path, name, slices=2, size=20, series="1.3.1")
    listener = Listener()
    assert open_roots([tmp_path], progress=listener).ids == ("anna",)
    assert any("anna copy: 1 series are copies of series in" in note for note in listener.notes)


def test_a_patient_who_is_there_raw_and_resampled_is_one_patient_in_one_part(tmp_path: Path) -> None:
    raw = save_patients(tmp_path / "raw", ("anna", "bert", "cleo", "dora"), slices=1, size=20)
    preprocess(raw, tmp_path / "pp", workers=1)
    exams = open_exams([raw, tmp_path / "pp"], folder=tmp_path / "splits")
    assert [len(patient.series) for patient in exams.patients] == [2] * 4
    for part in PARTS:
        opened = exams.part(part, "train", tmp_path / "store").series
        assert sorted(one.patient_id for one in opened) == sorted(2 * exams.split.part(part))


def test_a_resampled_root_without_its_log_beside_the_raw_one_is_refused(tmp_path: Path) -> None:
    raw = save_patients(tmp_path / "raw", ("anna", "bert"), slices=1, size=20)
    preprocess(raw, tmp_path / "pp", workers=1)
    (tmp_path / "pp" / "preprocessing_log.csv").unlink()
    with pytest.raises(SplitError, match=r"pp/annapp is .*raw/anna resampled, but its root has no preprocessing_log"):
        open_roots([raw, tmp_path / "pp"])
    assert ids(tmp_path / "pp") == ["annapp", "bertpp"], "by itself it is a root like any other"


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_a_root_without_exams_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=rf"{name}: (no such folder|no usable CT)"):
        open_roots([tmp_path / name])


def test_a_volume_that_was_compressed_anew_is_left_out_as_a_copy_is(tmp_path: Path) -> None:
    volume = np.stack([body(30, seed=i) for i in range(3)]).T
    for name in ("anna/ct.nii", "boris/ct.nii.gz"):
        (tmp_path / name).parent.mkdir()
        nib.save(nib.Nifti1Image(volume, np.diag([-1, -1, 2, 1])), tmp_path / name)
    listener = Listener()
    patients = open_roots([tmp_path], progress=listener).usable
    assert [patient.patient_id for patient in patients] == ["anna"]
    assert any("boris: 1 series are copies of series in" in note for note in listener.notes)


GOOD_LOG = (
    "patient_id,orig_row_mm,new_row_mm,upsampled,new_series_uid,source,output\n"
    "anna,0.9,0.8,true,1.2.3,anna/s1,annapp/s1\n"
    "bert,0.7,0.8,false,1.2.4,bert/s1,bertpp/s1\n"
)


def test_a_log_is_known_as_spreadsheets_save_it(tmp_path: Path) -> None:
    for content in (GOOD_LOG, GOOD_LOG.replace("\n", "\r\n"), "\ufeff" + GOOD_LOG, GOOD_LOG.rstrip("\n")):
        (tmp_path / PREPROCESSING_LOG).write_bytes(content.encode())
        assert patient_names(tmp_path) == {"annapp": "anna", "bertpp": "bert"}
        assert upsampled_series(tmp_path) == {"1.2.3": (0.9, 0.8)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        GOOD_LOG[:-40].encode(),
        GOOD_LOG.replace(",", ";").encode(),
        GOOD_LOG.encode("utf-16"),
        (GOOD_LOG + "x" * 200_000 + "\n").encode(),
        GOOD_LOG.replace("anna,0.9", "anna").encode(),
    ],
    ids=["empty", "cut off", "semicolons", "UTF-16", "endless", "short line"],
)
@pytest.mark.parametrize("read", [patient_names, upsampled_series])
def test_a_log_that_is_not_whole_is_one_line(tmp_path: Path, content: bytes, read: Callable[[Path], object]) -> None:
    """An empty one was a raw root, whose patients had other names, seeds and splits."""
    (tmp_path / PREPROCESSING_LOG).write_bytes(content)
    with pytest.raises(ReadError, match=r"is not a log of `ctsr preprocess` .*; run that again, or move the file away"):
        read(tmp_path)
