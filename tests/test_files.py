"""Files: whole under their final name, or not there at all."""

import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from ctsr.errors import DiskFullError, UsageError
from ctsr.files import (
    atomic_folder,
    atomic_path,
    cached_by_file,
    clear_leftovers,
    new_folder,
    write_atomically,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Generator[None]:
    """Files for the user and his group alone, until the test is over."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize("crash", [RuntimeError, KeyboardInterrupt])
def test_a_crash_inside_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, crash: type) -> None:
    final = tmp_path / "log.csv"
    final.write_text("old")
    with pytest.raises(crash), atomic_path(final) as part:  # noqa: PT012
        part.write_text("ne")
        raise crash
    assert final.read_text() == "old"
    assert names(tmp_path) == ["log.csv"]


def test_a_process_killed_inside_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "log.csv"
    final.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from ctsr.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as part:\n"
        "    part.write_text('ne'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(final)], check=False).returncode < 0
    assert final.read_text() == "old"
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["log.csv"]


def test_the_final_name_appears_only_when_all_is_written(tmp_path: Path) -> None:
    final = tmp_path / "new" / "log.csv"
    with atomic_path(final) as part:
        part.write_text("half")
        assert part.parent == final.parent
        assert not final.exists()
    assert final.read_text() == "half"
    assert names(final.parent) == ["log.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.usefixtures("umask")
def test_a_file_is_as_readable_as_the_umask_lets_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "log.csv", "text")
    (tmp_path / "plain").write_text("text")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("log.csv", "plain")}
    assert modes == {0o640}


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "µ\r\n\n")
    assert (tmp_path / "text").read_bytes() == b"\xc2\xb5\r\n\n"


def test_json_that_no_other_reader_takes_is_never_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x"), "umlaut": "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": "x", "umlaut": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"psnr": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["path"] == "x"


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "series") as part:  # noqa: PT012
        (part / "hu.npy").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []
    with atomic_folder(tmp_path / "series") as part:
        (part / "hu.npy").write_text("all")
    assert (tmp_path / "series" / "hu.npy").read_text() == "all"
    assert names(tmp_path) == ["series"]


def test_where_another_process_was_faster_its_folder_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "series") as part:
        (part / "hu.npy").write_text("mine")
        (tmp_path / "series").mkdir()
        (tmp_path / "series" / "hu.npy").write_text("theirs")
    assert (tmp_path / "series" / "hu.npy").read_text() == "theirs"
    assert names(tmp_path) == ["series"]


def test_leftovers_go_and_what_may_still_be_written_stays(tmp_path: Path) -> None:
    others = [f".{name}.abcdefgh.000000-{os.getpid()}.part" for name in ("young", "old")]
    for name in (*others, "a.part", ".a", ".a.part"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / others[1], (0, 0))
    with atomic_path(tmp_path / "mine") as part:
        part.write_text("")
        clear_leftovers(tmp_path)
        # Somebody on another machine may still be at it; I certainly am.
        assert names(tmp_path) == sorted([".a", ".a.part", others[0], part.name, "a.part"])
    clear_leftovers(tmp_path / "nowhere")


def test_who_was_killed_but_not_waited_for_writes_no_more(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from ctsr.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log.csv")])
    while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []
    killed.wait()


def test_only_the_leftovers_of_that_name_go(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from ctsr.files import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as one, atomic_folder(Path(sys.argv[2])) as other:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    finals = [str(tmp_path / name) for name in ("o", "o.sharp")]
    assert subprocess.run([sys.executable, "-c", program, *finals], check=False).returncode < 0
    clear_leftovers(tmp_path, "o")
    assert [name[:9] for name in names(tmp_path)] == [".o.sharp."]
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_two_folders_of_one_second_get_names_of_their_own(tmp_path: Path) -> None:
    one, other = (new_folder(tmp_path / "runs", "rrdb_") for _ in range(2))
    assert one != other
    assert names(tmp_path / "runs") == [one.name, other.name]


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    reads: list[str] = []

    @cached_by_file(maxsize=2)
    def read(path: Path) -> str:
        reads.append(path.name)
        return path.read_text()

    path = tmp_path / "a"
    path.write_text("one")
    assert (read(path), read(path)) == ("one", "one")
    assert reads == ["a"]
    path.write_text("another")
    assert read(path) == "another"


def test_json_keeps_a_path_whose_bytes_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xfcller")
    write_json(tmp_path / "x.json", {"path": path})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"path": str(path)}


def test_a_file_system_without_fsync_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    write_atomically(tmp_path / "a.txt", "content")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "content"


def test_a_full_disk_is_named_whatever_the_error_is_called(tmp_path: Path) -> None:
    class RustError(Exception):
        """As safetensors' own: no OSError, and without a number."""

    with pytest.raises(DiskFullError, match=r"a\.safetensors: no room left"), atomic_path(tmp_path / "a.safetensors"):
        raise RustError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/stdout").is_symlink(), reason="no /dev/stdout on this system")
def test_redirected_output_is_added_to_and_the_link_to_it_stays(tmp_path: Path) -> None:
    where = Path("/dev/stdout").readlink()
    code = "from ctsr.files import *; print('first', flush=True); write_atomically(Path('/dev/stdout'), 'told')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=out)
    assert (tmp_path / "out").read_text() == "first\ntold"
    assert Path("/dev/stdout").readlink() == where


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_written_into_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "told")
    assert os.read(reader, 10) == b"told"
    os.close(reader)
    with pytest.raises(UsageError, match="pipe, socket or device"), atomic_path(pipe):
        pass
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
