"""Roots opened for use: the split that holds, and what each part yields to each command."""

import json
from pathlib import Path

import pytest

from ctsr.data.datasets import SplitExams, open_exams
from ctsr.data.split import split_file, split_patients
from ctsr.errors import MissingInputError
from tests.made.ct import Edit, body, save, slices
from tests.made.exams import NAMES, save_patient, save_patients
from tests.made.listener import Listener
from tests.made.model import SPLIT


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 2 slices; dora has a second series of 3."""
    folder = save_patients(tmp_path_factory.mktemp("exams"), slices=2, size=24)
    save_patient(folder, "dora", slices=3, size=24, series="1.4")
    return folder


@pytest.fixture
def exams(root: Path, tmp_path: Path) -> SplitExams:
    return open_exams([root], checkpoint_split=SPLIT, folder=tmp_path / "splits")


def spoiled(folder: Path, edit: Edit, series: str) -> None:
    """A series of three slices of which `edit` spoils something."""
    for i, ds in enumerate(slices([body(24)] * 3, edit, series=series)):
        save(ds, folder / f"IM{i}")


def test_a_part_is_every_series_of_its_patients_and_of_no_one_else(exams: SplitExams, tmp_path: Path) -> None:
    opened = exams.part("val", "train", tmp_path)
    assert [(one.patient_id, len(one)) for one in opened.series] == [("dora", 2), ("dora", 3), ("emil", 2)]
    assert opened.failures == ()
    assert {one.patient_id for one in exams.part("train", "train", tmp_path).series} == set(SPLIT["train"])


def test_patients_can_be_asked_for_by_name(exams: SplitExams, tmp_path: Path) -> None:
    opened = exams.part("val", "evaluate", tmp_path, only=["emil"])
    assert [one.patient_id for one in opened.series] == ["emil"]


def test_the_split_says_where_it_came_from(root: Path, exams: SplitExams, tmp_path: Path) -> None:
    assert (exams.split.as_dict(), exams.source) == ({name: list(ids) for name, ids in SPLIT.items()}, "the checkpoint")
    fresh = open_exams([root], folder=tmp_path)
    assert (fresh.split, fresh.source) == (split_patients(NAMES), "a fresh split with seed 42")
    kept = split_file(tmp_path)
    kept.write_text(json.dumps({"splits": {part: [{"patient_id": name} for name in SPLIT[part]] for part in SPLIT}}))
    assert open_exams([root], folder=tmp_path).source == str(kept)


def test_a_patient_of_the_split_who_is_missing_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="gina"):
        open_exams([root], checkpoint_split=SPLIT | {"test": ("gina",)}, folder=tmp_path)


def test_what_a_verb_refuses_fails_and_the_others_go_on(tmp_path: Path) -> None:
    def forget(ds, i: int) -> None:
        del ds.RescaleSlope

    exams = save_patients(tmp_path / "exams", ("anna", "bert", "cleo"), slices=1, size=24)
    spoiled(exams / "anna" / "bad", forget, "1.8")
    opened_exams = open_exams([exams], checkpoint_split={"train": NAMES[:3]}, folder=tmp_path)
    opened = opened_exams.part("train", "train", tmp_path / "store")
    assert [one.patient_id for one in opened.series] == ["anna", "bert", "cleo"]
    (failure,) = opened.failures
    assert "anna" in failure
    assert "`assume_hu`" in failure
    forgiven = opened_exams.part("train", "train", tmp_path / "store", assume_hu=True)
    assert len(forgiven.series) == 4
    assert forgiven.failures == ()


def test_what_a_verb_warns_about_is_said_and_used(tmp_path: Path) -> None:
    exams = save_patients(tmp_path / "exams", ("anna", "bert", "cleo"), slices=1, size=24)
    spoiled(exams / "bert" / "odd", lambda ds, i: setattr(ds, "RescaleType", "US"), "1.8")
    listener = Listener()
    opened = open_exams([exams], checkpoint_split={"train": NAMES[:3]}, folder=tmp_path).part(
        "train", "train", tmp_path / "store", progress=listener
    )
    assert len(opened.series) == 4
    (warning,) = listener.notes
    assert warning.startswith("warning: ")
    assert "bert" in warning


def test_patients_in_no_part_are_said(root: Path, tmp_path: Path) -> None:
    listener = Listener()
    some = {"train": ("anna", "bert"), "val": ("cleo",), "test": ("dora",)}
    open_exams([root], checkpoint_split=some, folder=tmp_path, progress=listener)
    assert "in no part of the checkpoint, and so not used: emil, fred" in listener.notes
    path = split_file(tmp_path / "named")
    path.parent.mkdir()
    path.write_text(json.dumps({"splits": {part: [{"patient_id": name} for name in some[part]] for part in some}}))
    named = Listener()
    open_exams([root], split_json=path, folder=tmp_path, progress=named)
    assert f"in no part of {path}, and so not used: emil, fred" in named.notes
    whole = Listener()
    open_exams([root], checkpoint_split=SPLIT, folder=tmp_path, progress=whole)
    assert not [note for note in whole.notes if "not used" in note]
