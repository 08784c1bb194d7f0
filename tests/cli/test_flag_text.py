"""The library's messages name fields; the command line shows the flags of the command that runs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.closures import modules

from ctsr.cli.flags import flags_of, help_text, with_flags
from ctsr.cli.main import COMMANDS, main, options_class

FLAG = re.compile(r"(?<![\w-])--[a-z]")
COMMAND = re.compile(r"`ctsr [^`]*`|<code>ctsr [^<]*</code>")
"""A whole command, which a reader may copy."""


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("scan", "pass `assume_hu` if they are", "pass --assume_hu if they are"),
        ("split", "`ctsr split --root ROOT` writes one", "`ctsr split --root ROOT` writes one"),
        ("upscale", "`overwrite=True` replaces it", "--overwrite replaces it"),
        ("upscale", "`limit_noise=False` leaves that out", "--no_limit_noise leaves that out"),
        ("upscale", "choose `format=nifti`", "choose --format nifti"),
        ("upscale", "choose another `out`", "choose another OUT"),
        ("train", "`noise_sigma_range` is too wide", "--noise_sigma_range_norm is too wide"),
        ("train", "`patch_size` 30 is not divisible", "--patch_size 30 is not divisible"),
        ("finetune", "`patch_size` 30 is not divisible", "--patch 30 is not divisible"),
        ("scan", "`model` is no flag here", "`model` is no flag here"),
        ("scan", "`overwrite` is a flag of other commands", "`overwrite` is a flag of other commands"),
    ],
)
def test_fields_in_messages_become_flags_of_the_command(command: str, message: str, shown: str) -> None:
    assert with_flags(message, flags_of(options_class(COMMANDS[command]))) == shown


def test_an_error_of_the_library_names_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    flags = ["--root", str(tmp_path / "root"), "--out_dir", str(tmp_path / "out"), "--jobs", "0"]
    assert main(["preprocess", *flags]) == 2
    assert "--workers must be at least 1, got 0" in capsys.readouterr().err


def texts(node: ast.AST) -> Iterator[str]:
    """Strings as they are written: what is filled in stands as a blank."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def is_shown(node: ast.AST) -> bool:
    """Whether it raises an error, or tells `progress` or the options' help something."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "note"
    is_field_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_field_text or isinstance(node, ast.Raise)


def is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign)


def test_no_text_of_the_library_names_a_flag() -> None:
    found: list[str] = []
    for module, tree in modules().items():
        if module.startswith("ctsr.cli"):
            continue
        for node in [*filter(is_shown, ast.walk(tree)), *filter(is_constant, tree.body)]:
            found += [f"{module}: {text}" for text in texts(node) if FLAG.search(COMMAND.sub("", text))]
    assert found == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_no_field(command: str) -> None:
    shown = help_text(options_class(COMMANDS[command]), COMMANDS[command].basic.split(), f"ctsr {command}")
    named = set(re.findall(r"`(\w+)(?:=\w+)?`", shown))
    assert named.isdisjoint(flag.name for flag in flags_of(options_class(COMMANDS[command])))
