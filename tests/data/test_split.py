"""One split by patient: the same for everyone who asks, and never leaking."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsr.data.split import PARTS, Split, choose_split, read_split, split_file, split_patients
from ctsr.errors import MissingInputError, SplitError
from ctsr.hashing import pseudonym


def names(count: int) -> list[str]:
    return [f"{15000 + i}" for i in range(count)]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 10, 20, 33, 55, 100])
def test_it_is_the_split_of_the_scripts_before_ctsr_with_no_part_empty(count: int) -> None:
    split = split_patients(names(count))
    order = [sorted(names(count))[i] for i in np.random.default_rng(42).permutation(count)]
    if count > 3:
        assert split.train == tuple(order[: int(0.70 * count)])
        assert split.val == tuple(order[int(0.70 * count) : int(0.85 * count)])
        assert split.test == tuple(order[int(0.85 * count) :])
    assert all(split.part(name) for name in PARTS)
    assert sorted((*split.train, *split.val, *split.test)) == sorted(names(count))


@given(st.sets(st.text(max_size=6), min_size=3, max_size=40), st.integers(0, 2**32))
def test_whoever_the_patients_are_each_is_in_one_part_and_no_part_is_empty(ids: set[str], seed: int) -> None:
    split = split_patients(ids, seed)
    parts = [split.part(name) for name in PARTS]
    assert sorted(patient for part in parts for patient in part) == sorted(ids)
    assert all(parts)
    assert len(split.train) >= max(len(split.val), len(split.test))
    assert split_patients(sorted(ids, reverse=True), seed) == split == Split.from_dict(split.as_dict())


def test_three_patients_are_one_each() -> None:
    assert [len(split_patients(names(3)).part(name)) for name in PARTS] == [1, 1, 1]


def test_the_order_of_a_listing_does_not_matter() -> None:
    listing = names(20)
    shuffled = list(np.random.default_rng(5).permutation(listing))
    assert split_patients(listing) == split_patients(shuffled) == split_patients(reversed(listing))


def test_ids_are_sorted_as_plain_strings() -> None:
    ids = ["10", "9", "100", "a", "B", "2"]
    order = [sorted(ids)[i] for i in np.random.default_rng(42).permutation(6)]
    split = split_patients(ids)
    assert (*split.train, *split.val, *split.test) == tuple(order)


def test_another_seed_is_another_split() -> None:
    assert split_patients(names(20), 1) != split_patients(names(20), 2)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_patients_are_refused(count: int) -> None:
    with pytest.raises(SplitError, match="at least 3"):
        split_patients(names(count))


def test_a_patient_in_two_parts_is_refused() -> None:
    with pytest.raises(SplitError, match="must not share patients: 1, 2 in train and in test"):
        Split(("1", "2", "3"), ("4",), ("2", "1"))


def written(path: Path, split: Split) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {name: [{"patient_id": patient} for patient in split.part(name)] for name in PARTS}
    path.write_text(json.dumps({"splits": parts}))
    return path


def test_which_split_holds(tmp_path: Path) -> None:
    ids = names(10)
    fresh, stored, filed, asked = (split_patients(ids, seed) for seed in (42, 1, 2, 3))
    assert choose_split(ids, folder=tmp_path)[0] == fresh
    written(split_file(tmp_path), filed)
    assert choose_split(ids, folder=tmp_path)[0] == filed
    assert choose_split(ids, checkpoint=stored.as_dict(), folder=tmp_path)[0] == stored
    path = written(tmp_path / "asked.json", asked)
    assert choose_split(ids, split_json=path, checkpoint=stored.as_dict(), folder=tmp_path)[0] == asked


def test_a_filed_split_of_other_patients_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    written(split_file(tmp_path), split_patients(names(10)))
    with pytest.raises(SplitError, match="names other patients than those in the root \\(15010, 15011\\)"):
        choose_split(names(12), folder=tmp_path)


def test_a_patient_that_is_missing_from_the_root_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "asked.json", split_patients(names(10)))
    with pytest.raises(MissingInputError, match="15009"):
        choose_split(names(9), split_json=path, folder=tmp_path)


def test_a_checkpoint_that_knows_none_of_the_patients_says_nothing(tmp_path: Path) -> None:
    other = split_patients([f"other{i}" for i in range(5)])
    split, source = choose_split(names(10), checkpoint=other.as_dict(), folder=tmp_path)
    assert split == split_patients(names(10))
    assert "fresh" in source


@pytest.mark.parametrize("content", ["no json", "{}", '{"splits": {"train": []}}', '{"splits": {"train": [1]}}'])
def test_a_file_that_is_no_split_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(SplitError, match="not a split file"):
        read_split(path)


def test_a_split_file_with_a_patient_twice_is_refused(tmp_path: Path) -> None:
    parts = {"train": [{"patient_id": "1"}], "val": [{"patient_id": "2"}], "test": [{"patient_id": "1"}]}
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"splits": parts}))
    with pytest.raises(SplitError, match="must not share patients"):
        read_split(path)


def test_a_split_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    rows = {part: [{"patient_id": part}] for part in PARTS}
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"splits": rows}), encoding="utf-8-sig")
    assert read_split(path) == Split(("train",), ("val",), ("test",))


@pytest.mark.parametrize("content", [b"\xff\xfe{\0}\0", b"[" * 100_000, b"9" * 5000])
def test_a_hostile_split_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(SplitError, match="not a split file") as refused:
        read_split(path)
    assert len(str(refused.value)) < 500


def test_a_patient_named_twice_in_one_part_is_refused() -> None:
    with pytest.raises(SplitError, match="names anna twice in train"):
        Split(train=("anna", "bert", "anna"), val=("cleo",), test=("dora",))


def test_patients_that_only_hashes_name_are_counted(tmp_path: Path) -> None:
    stored = {"train": [pseudonym("a"), pseudonym("b")], "val": [pseudonym("c")], "test": [pseudonym("d")]}
    with pytest.raises(MissingInputError) as raised:
        choose_split(["a", "z"], checkpoint=stored, folder=tmp_path)
    assert "names patients that are not in the root (3 of 4); `ctsr split --root ROOT` writes" in str(raised.value)
    assert "name:" not in str(raised.value)
