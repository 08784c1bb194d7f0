"""Output wherever it goes: encodings that lack characters, control characters, streams that were closed."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctsr.cli.console import Console
from ctsr.cli.main import main
from ctsr.errors import CtsrError, DiskFullError
from ctsr.files import atomic_folder, naming_full_disk, write_atomically

HOSTILE = "a\x1b]0;title\x07b\x9b31m\u202ec\r\udcfc"
SPELLED = r"a\x1b]0;title\x07b\x9b31m\u202ec\r\xfc"


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "cp437", "ascii", "latin-1", "utf-8"])
def test_a_table_reaches_a_pipe_of_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
    console = Console()
    console.table("Größe – 体", ("name", "mm"), [("Мария", "0.7 × 0.8")])
    console.note("σ → 2 …")
    out = written.getvalue().decode(encoding)
    assert ("0.7 x 0.8" if encoding in {"cp1251", "cp437", "ascii"} else "0.7 × 0.8") in out
    assert ("Мария" in out) == (encoding in {"cp1251", "utf-8"})
    assert ("体" in out) == (encoding == "utf-8")


@pytest.mark.parametrize("place", ["print", "note", "error", "title", "cell", "progress"])
def test_control_characters_are_spelled_out(place: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("ctsr.cli.console.PLAIN_INTERVAL_S", 0.0)
    console = Console()
    match place:
        case "title":
            console.table(HOSTILE, ["patient"], [["P1"]])
        case "cell":
            console.table("", ["patient"], [[HOSTILE]])
        case "progress":
            list(console.track([1], total=1, what=HOSTILE))
        case _:
            getattr(console, place)(HOSTILE)
    shown = "".join(capsys.readouterr())
    assert SPELLED in shown
    assert not any(ord(character) < 32 and character != "\n" for character in shown)


def test_a_closed_stream_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python has None where the shell closed the stream: `ctsr --version >&-`.
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_a_file_system_without_permissions_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "chmod", refuse)
    write_atomically(tmp_path / "a.txt", "a")
    with atomic_folder(tmp_path / "b") as part:
        (part / "c").write_text("c")
    assert (tmp_path / "a.txt").read_text() == "a"
    assert (tmp_path / "b" / "c").read_text() == "c"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_file_and_remedy(number: int, tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"best\.pth: no room left.*make room"),
        naming_full_disk(tmp_path / "best.pth"),
    ):
        raise OSError(number, os.strerror(number))


def test_a_library_that_only_fails_is_believed_where_no_room_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = RuntimeError("PytorchStreamWriter failed writing file data/0")
    with pytest.raises(RuntimeError), naming_full_disk(tmp_path / "best.pth"):
        raise failed
    monkeypatch.setattr("ctsr.files._free_bytes", lambda _: 0)
    with pytest.raises(DiskFullError, match=r"best\.pth"), naming_full_disk(tmp_path / "best.pth"):
        raise failed


def test_an_error_of_ours_on_a_full_disk_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctsr.files._free_bytes", lambda _: 0)
    with pytest.raises(CtsrError, match="two slices"), naming_full_disk(tmp_path / "x"):
        raise CtsrError("two slices are missing")


COMPUTING = """
import sys, threading, torch
from ctsr.cli import main

def compute():
    image = torch.rand(400, 400)
    begun.set()
    while True:
        image @ image

begun = threading.Event()
threading.Thread(target=compute, daemon=True).start()
begun.wait()
print("done")
main.main = lambda argv: int(argv[0])
main.entry()
"""


@pytest.mark.parametrize("status", ["0", "1"])
def test_a_command_ends_with_its_status_although_a_thread_still_computes(status: str) -> None:
    """As a viewer's that answers a page when it is closed: PyTorch aborted as the interpreter went."""
    done = subprocess.run([sys.executable, "-c", COMPUTING, status], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (int(status), "done\n", "")
