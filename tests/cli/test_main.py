"""The command itself: help, exit statuses, one-line errors, and nothing heavy imported before it is needed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctsr import __version__
from ctsr.cli.console import Console
from ctsr.cli.main import COMMANDS, Command, main
from ctsr.cli.options import Common
from ctsr.errors import MissingInputError, SeriesError


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A command that ends badly."""

    kind: str = ""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        if self.kind == "interrupt":
            signal.raise_signal(signal.SIGINT)
        if self.kind == "system":
            Path("/nowhere/at/all").read_bytes()
        if self.kind == "long":
            Path("a" * 300).read_bytes()
        raise {"usual": SeriesError("P1:\n  2 slices are missing"), "bug": ZeroDivisionError()}[self.kind]


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(COMMANDS, "trouble", Command("trouble", __name__, "Trouble", "ends badly"))

    def trouble(kind: str, *more: str) -> int:
        return main(["trouble", "--kind", kind, *more])

    return trouble


ASK_ALL_FOR_HELP = """
import contextlib, io, json, sys
from ctsr.cli.main import main
from ctsr.cli.main import COMMANDS
found = {}
for words in ([], ["--help"], *([name, "--help"] for name in COMMANDS)):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    heavy = [name for name in ("torch", "tensorboard", "matplotlib") if name in sys.modules]
    found[" ".join(words)] = [status, out.getvalue(), heavy]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def helped() -> dict[str, tuple[int, str, list[str]]]:
    """What each request for help gave: status, text, and what was imported by then."""
    done = subprocess.run([sys.executable, "-c", ASK_ALL_FOR_HELP], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_help_lists_every_verb_with_what_it_is_for(helped) -> None:
    status, text, _ = helped["--help"]
    assert status == 0
    for command in COMMANDS.values():
        assert any(line.split(maxsplit=1) == [command.name, command.summary] for line in text.splitlines())


def test_no_verb_at_all_is_wrong_usage_and_shows_the_help(helped) -> None:
    assert helped[""][0] == 2
    assert helped[""][1] == helped["--help"][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_explains_itself(helped, name: str) -> None:
    status, text, _ = helped[f"{name} --help"]
    assert status == 0
    assert f"usage: ctsr {name}" in text
    for flag in ("--config", "--debug", f"ctsr {name}"):
        assert flag in text


def test_help_waits_for_no_heavy_library(helped) -> None:
    assert {words: heavy for words, (_, _, heavy) in helped.items() if heavy} == {}


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ctsr {__version__}\n"


def test_an_unknown_verb_is_wrong_usage_and_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: ctsr has no command 'trian'; did you mean train?\n"
    assert main(["zzz"]) == 2
    assert capsys.readouterr().err == f"error: ctsr has no command 'zzz'; there are {', '.join(COMMANDS)}\n"


def test_help_with_a_command_is_the_commands_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "split"]) == 0
    text = capsys.readouterr().out
    assert main(["split", "--help"]) == 0
    assert capsys.readouterr().out == text
    assert main(["help"]) == 0
    assert "Three lines" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_nothing_that_says_nothing(helped, name: str) -> None:
    text = helped[f"{name} --help"][1]
    for noise in ("default: None", "default: )", "--no_no_", "STR", "{FLOAT"):
        assert noise not in text


def test_an_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split", "--sede", "3"]) == 2
    assert capsys.readouterr().err == "error: unknown flag --sede; did you mean --seed?\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("cache", "ctsr cache: an argument is missing: ctsr cache {list,clean} [PARTS] [flags]"),
        ("blend one", "ctsr blend: an argument is missing: ctsr blend FIRST SECOND [flags]"),
        ("preprocess", "ctsr preprocess: an argument is missing: ctsr preprocess --root PATH [flags]"),
        ("train --arch nope", "invalid choice 'nope' for argument '--arch'. Expected one of ('rrdb', 'rrdb_skip', "),
        (
            "train --epochs x",
            "error parsing --epochs: invalid literal for int() with base 10: 'x'; `ctsr train --help`",
        ),
        ("train --epochs", "missing value for argument '--epochs'. Expected 1 values; `ctsr train --help` says more"),
        ("upscale a b c", "unrecognized options: c; `ctsr upscale --help` says more"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_arguments_that_do_not_fit_are_one_line_and_wrong_usage(words: str, says: str, encoding: str) -> None:
    command = [sys.executable, "-m", "ctsr", *words.split()]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.count("\n") == 1


def test_what_a_user_can_put_right_is_one_line_and_status_1(trouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert trouble("usual") == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: P1: 2 slices are missing\n")


def test_an_error_of_the_system_is_one_line_and_status_1(trouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert trouble("system") == 1
    assert capsys.readouterr().err == "error: /nowhere/at/all: No such file or directory\n"


def test_a_name_that_is_too_long_is_named_with_a_remedy(trouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert trouble("long") == 1
    assert capsys.readouterr().err == f"error: {'a' * 300}: File name too long; choose a shorter name\n"


def test_only_debug_shows_the_traceback(trouble) -> None:
    with pytest.raises(SeriesError):
        trouble("usual", "--debug")
    with pytest.raises(MissingInputError):
        main(["split", "--root", "nowhere", "--debug"])


def test_our_own_bugs_are_not_dressed_up_as_the_users(trouble) -> None:
    with pytest.raises(ZeroDivisionError):
        trouble("bug")


def test_an_interruption_says_so_and_ends_with_130(trouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert trouble("interrupt") == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder that a process is in")
def test_a_working_folder_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MKL ended the process: it could not load libtorch, it said."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["upscale", "IN", "OUT"]) == 1
    assert capsys.readouterr().err == "error: the folder that this was called in is gone; change into another one\n"
