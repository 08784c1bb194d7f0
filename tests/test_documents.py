"""What is read back has the type that it should have, or is an error of one line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctsr.checkpoint.files import Meta, check_weights
from ctsr.cli.exams import Scan
from ctsr.cli.flags import config_flags
from ctsr.data.split import read_split
from ctsr.documents import as_type, parse_json
from ctsr.errors import CheckpointError, ReadError, SplitError, UsageError
from ctsr.preprocess.manifest import MANIFEST, Manifest
from tests.made.model import META as EXAMPLE


@dataclass(frozen=True)
class Row:
    """What a document may hold."""

    name: str
    size: int = 0
    spacing: tuple[float, float] | None = None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_encoding_that_editors_write(encoding: str) -> None:
    assert parse_json('{"größe": [1, 2.5, null, true]}'.encode(encoding)) == {"größe": [1, 2.5, None, True]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 5000, "a number of 5000 digits"),
        (b"1e" + b"9" * 100, "not a finite number"),
        (b"1e999", "not a finite number"),
        (b"-Infinity", "not a finite number"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_out_of_bounds_is_one_line(content: bytes, why: str) -> None:
    with pytest.raises(ReadError, match=why) as caught:
        parse_json(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ({"name": "a"}, Row, Row("a")),
        ({"name": "a", "size": 3, "spacing": [1, 2.5]}, Row, Row("a", 3, (1.0, 2.5))),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ({"a": ["b"]}, dict[str, tuple[str, ...]], {"a": ("b",)}),
        (np.float32(0.5), float, 0.5),
        (np.int64(3), int, 3),
        (None, int | None, None),
    ],
)
def test_a_value_of_its_type_is_taken(value: object, kind: Any, expected: object) -> None:
    assert as_type(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        ({}, Row, "it has no 'name'"),
        ({"name": 1}, Row, r"it\.name is 1 where text is expected"),
        ({"name": "a", "size": True}, Row, r"it\.size is True where a whole number is expected"),
        ({"name": "a", "size": 1.5}, Row, "whole number"),
        ({"name": "a", "spacing": [1]}, Row, "a list of 2"),
        ({"name": "a", "spacing": ["x", 1]}, Row, r"it\.spacing\[0\] is 'x' where a number is expected"),
        ({"name": "a", "other": 1}, Row, "unknown 'other'"),
        ([{"name": "a"}, []], list[Row], r"it\[1\] is a list where a mapping is expected"),
        ({1: "a"}, dict[str, str], "a key of it"),
        ("abc", tuple[str, ...], "where a list is expected"),
        ([[]] * 9, str, "a list where text is expected"),
        ("x" * 5000, int, "…'"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(value: object, kind: Any, why: str) -> None:
    with pytest.raises(ReadError, match=why) as caught:
        as_type(value, kind)
    assert len(str(caught.value)) < 200


MISSHAPEN: dict[str, list[object]] = {
    "hu_range": [
        {"low": "a", "high": "b"},
        {"low": float("-inf"), "high": 2000.0},
        {"low": 0.0, "high": float("nan")},
        {"low": -1e30, "high": 1e30},
        [0, 1],
    ],
    "seed": ["1", 1.5, None],
    "split": [{"train": "anna"}, {"train": [1]}, []],
    "architecture": [{"name": "rrdb"}, "rrdb", {"name": "rrdb", "scale": "2", "nf": 4, "nb": 1, "gc": 2}],
    "card": [{"kernels": {"B30f": "many"}}, {"pixel_spacing_mm": ["a", "b"]}],
    "versions": [{"torch": 2}],
    "degradation": [[], {"a": [[[[[[1]]]]]]}],
    "trained_identities": ["abc", [1]],
    "format": ["1", True, 2],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MISSHAPEN.items() for value in values])
def test_meta_of_another_type_is_refused(name: str, value: object) -> None:
    plain = EXAMPLE.to_plain()
    assert Meta.from_plain({**plain, "of_a_later_version": 1}) == EXAMPLE
    with pytest.raises(CheckpointError):
        Meta.from_plain({**plain, name: value})


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1e30]),
        torch.tensor([float("nan"), 1]),
        torch.tensor([float("inf")]),
        torch.tensor([1j]),
        torch.eye(3).to_sparse(),
    ],
)
def test_weights_that_give_no_image_are_refused(value: torch.Tensor) -> None:
    check_weights({"body.weight": torch.ones(3), "steps": torch.tensor(5)})
    with pytest.raises(CheckpointError, match=r"body\.weight"):
        check_weights({"body.weight": value})


SPLIT = '{"splits": {"train": [{"patient_id": "a"}], "val": [{"patient_id": 7}], "test": [{"patient_id": "c"}]}}'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_split_that_an_editor_saved_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "split.json").write_bytes(SPLIT.encode(encoding))
    assert read_split(tmp_path / "split.json").val == ("7",)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        "{}",
        '{"splits": []}',
        SPLIT.replace('"test"', '"rest"'),
        SPLIT.replace("7", "[7]"),
        SPLIT.replace("7", "9" * 5000),
        SPLIT.replace('{"patient_id": 7}', "7"),
    ],
)
def test_a_split_of_another_form_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(SplitError, match="not a split file") as caught:
        read_split(tmp_path / "split.json")
    assert "\n" not in str(caught.value)


ALIASES = "a: &a [1, 1]\n" + "".join(
    f"{y}: &{y} [*{x}, *{x}]\n" for x, y in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    "content",
    [
        ALIASES,
        "json: " + "[" * 5000,
        "json: {a: b}",
        "json: [[a]]",
        "hu_offset: " + "9" * 4000,
        "json: !!binary aGVsbG8=",
    ],
)
def test_a_config_whose_values_are_no_values_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        config_flags(tmp_path / "c.yaml", Scan)
    assert "\n" not in str(caught.value)


def test_a_manifest_never_deletes_what_lies_elsewhere(tmp_path: Path) -> None:
    outside, out = tmp_path / "precious", tmp_path / "out"
    outside.write_text("12345")
    (out / MANIFEST).parent.mkdir(parents=True)
    lines = [
        '{"output": "../precious", "owner": "me", "made_from": "", "size": 5}',
        f'{{"output": "{outside}", "owner": "me", "made_from": "", "size": 5}}',
        '{"output": ["a"], "owner": "me", "made_from": "", "size": 5}',
        "[" * 100_000,
        '{"output": "a", "owner": "me", "made_from": "", "size": "5"}',
    ]
    (out / MANIFEST).write_text("\n".join(lines))
    with Manifest(out) as manifest:
        assert manifest.outputs_of("me") == []
        assert manifest.remove(["../precious", str(outside)]) == 0
    assert outside.is_file()
