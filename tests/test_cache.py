"""The cache: private, movable, and never a reason to stop."""

import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from ctsr.cli.main import main
from ctsr.paths import VARIABLE, cache_folder, cache_place, cache_uses, clean


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def unusable(places: Path) -> None:
    """A file where a folder should be: refused to every user, root too."""
    (places / "xdg").write_text("")


def test_the_cache_is_for_the_eyes_of_its_user_only(places: Path) -> None:
    assert cache_place().folder == places / "xdg" / "ctsr"
    assert mode(places / "xdg" / "ctsr") == 0o700


def test_a_cache_that_an_earlier_version_left_open_is_closed(places: Path) -> None:
    (places / "xdg" / "ctsr").mkdir(parents=True)
    (places / "xdg" / "ctsr").chmod(0o755)
    cache_place()
    assert mode(places / "xdg" / "ctsr") == 0o700


def test_a_folder_that_was_named_keeps_its_permissions(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = places / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    monkeypatch.setenv(VARIABLE, str(shared))
    assert cache_folder("engines") == shared / "engines"
    assert mode(shared) == 0o775


def test_where_the_usual_place_cannot_be_written_a_private_temporary_one_is_used(places: Path) -> None:
    unusable(places)
    place = cache_place()
    assert place.folder.parent == places / "tmp"
    assert mode(place.folder) == 0o700
    assert str(place.folder) in place.note
    assert cache_place() == place


@pytest.mark.parametrize("command", ["cache", "weights"])
def test_commands_say_where_else_it_lies(places: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights that were fetched into a temporary folder are gone when that is emptied."""
    unusable(places)
    assert main([command, "list"]) == 0
    assert f"{places / 'xdg' / 'ctsr'} cannot be written: {places / 'tmp'}" in capsys.readouterr().err


def test_without_any_home_the_cache_lies_among_the_temporary_files(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: "~/.cache/ctsr")
    assert cache_place().folder.parent == places / "tmp"
    assert not Path("~").exists()


def test_a_link_that_somebody_put_there_does_not_receive_patients_pixels(places: Path) -> None:
    unusable(places)
    theirs = places / "theirs"
    theirs.mkdir()
    (places / "tmp" / f"ctsr-cache-{os.getuid()}").symlink_to(theirs)
    folder = cache_place().folder
    assert folder.resolve() == folder
    assert mode(folder) == 0o700


def test_what_was_not_used_for_long_goes_and_the_rest_stays() -> None:
    old, new = (cache_folder("store") / name / "hu.npy" for name in ("old", "new"))
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(1000))
    month_ago = time.time() - 30 * 86_400
    os.utime(old, (month_ago, month_ago))
    assert clean("store", unused_days=7) == 1000
    assert not old.exists()
    assert [use.entries for use in cache_uses()] == [1, 0, 0]


def test_the_command_lists_and_cleans_all_but_the_weights(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = places / "there"
    for part in ("store", "engines", "weights"):
        (there / part).mkdir(parents=True)
        (there / part / "some").write_bytes(bytes(10))
    assert main(["cache", "list", "--cache_dir", str(there)]) == 0
    assert str(there) in capsys.readouterr().out
    assert main(["cache", "list", "engines", "--cache_dir", str(there)]) == 0
    listed = capsys.readouterr().out
    assert "engines" in listed
    assert "weights" not in listed
    assert main(["cache", "clean", "--cache_dir", str(there)]) == 0
    assert sorted(path.parent.name for path in there.rglob("some")) == ["weights"]
