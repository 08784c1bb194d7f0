import os
from pathlib import Path

import pytest

from ctsr.errors import MissingInputError
from ctsr.paths import find_path, native_path, resolve_path
from tests.made.listener import Listener

pytestmark = pytest.mark.skipif(os.sep == "\\", reason="these spellings are Windows' own there")


@pytest.fixture
def esrgan(tmp_path: Path) -> Path:
    """A folder `ESRGAN` with the files that the user's commands name."""
    folder = tmp_path / "ESRGAN"
    for name in ("splits/patient_split_seed42.json", "finetune_outputs/best.pth", "runs/x/best.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("finetune_outputs/best.pth", "finetune_outputs/best.pth"),
        ("runs\\x\\best.pth", "runs/x/best.pth"),
        (".\\runs\\x", "runs/x"),
        ("runs\\x\\", "runs/x"),
        ("ESRGAN\\splits\\patient_split_seed42.json", "splits/patient_split_seed42.json"),
        ("ESRGAN/runs/x/best.pth", "runs/x/best.pth"),
        ("..\\ESRGAN\\runs", "../ESRGAN/runs"),
    ],
)
def test_a_path_is_found_in_windows_spelling_too(esrgan: Path, text: str, meant: str) -> None:
    found = find_path(text, base=esrgan)
    assert found.path == esrgan / meant
    assert found.note == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("finetune_outputsbest.pth", "finetune_outputs/best.pth"),
        ("runsxbest.pth", "runs/x/best.pth"),
        ("runs/xbest.pth", "runs/x/best.pth"),
        ("ESRGANsplitspatient_split_seed42.json", "splits/patient_split_seed42.json"),
    ],
)
def test_separators_that_a_shell_ate_are_put_back_and_said(esrgan: Path, text: str, meant: str) -> None:
    heard = Listener()
    assert resolve_path(text, base=esrgan, progress=heard) == esrgan / meant
    assert len(heard.notes) == 1
    assert text in heard.notes[0]
    assert meant in heard.notes[0]


def test_a_folder_that_outer_folders_are_named_before_is_found(esrgan: Path) -> None:
    outer = esrgan.parent.name
    assert find_path(f"{outer}\\ESRGAN\\runs", base=esrgan).path == esrgan / "runs"


def test_a_name_that_exists_as_it_is_wins_over_every_guess(esrgan: Path) -> None:
    (esrgan / "finetune_outputsbest.pth").write_text("")
    (esrgan / "runs\\x\\best.pth").write_text("")
    for text in ("finetune_outputsbest.pth", "runs\\x\\best.pth"):
        assert find_path(text, base=esrgan).path == esrgan / text


def test_a_relative_path_is_given_back_relative(esrgan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(esrgan)
    assert find_path("runs\\x").path == Path("runs/x")


def test_an_absolute_path_is_taken_as_it_is(esrgan: Path, tmp_path: Path) -> None:
    assert find_path(esrgan / "runs", base=tmp_path / "elsewhere").path == esrgan / "runs"


@pytest.mark.parametrize("text", ["C:\\data\\14655pp", "c:/data", "\\\\server\\share\\data", "C:datapp"])
def test_an_absolute_path_of_a_windows_machine_is_refused(esrgan: Path, text: str) -> None:
    with pytest.raises(MissingInputError, match="absolute Windows path"):
        find_path(text, base=esrgan)
    with pytest.raises(MissingInputError, match="absolute Windows path"):
        native_path(text)


def test_what_could_mean_two_things_is_refused_by_naming_both(esrgan: Path) -> None:
    (esrgan / "run").mkdir()
    (esrgan / "run/sx").write_text("")
    with pytest.raises(MissingInputError, match=r"run/sx, .*runs/x"):
        find_path("runsx", base=esrgan)


def test_what_is_nowhere_is_an_error_that_says_where_it_was_looked_for(esrgan: Path) -> None:
    with pytest.raises(MissingInputError) as error:
        find_path("ESRGAN\\runs\\y", base=esrgan)
    assert str(esrgan / "ESRGAN/runs/y") in str(error.value)
    assert str(esrgan / "runs/y") in str(error.value)


def test_an_empty_path_is_not_the_current_folder(esrgan: Path) -> None:
    with pytest.raises(MissingInputError, match="empty"):
        find_path("", base=esrgan)


def test_a_path_to_be_written_gets_this_systems_separators() -> None:
    assert native_path("eval_results\\new") == Path("eval_results/new")
