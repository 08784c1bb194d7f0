"""Every example of the documentation runs, on a small exam in a folder of its own."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ctsr.phantom import example_volume
from tests.made.ct import save_series

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with EXAMS in it: one patient with one series of two slices."""
    folder = tmp_path_factory.mktemp("examples")
    hu = example_volume(slices=2, size=64).hu
    save_series(folder / "EXAMS" / "anna" / "chest", list(hu.astype(np.int16)))
    return folder


def test_there_are_twelve_examples() -> None:
    assert len(EXAMPLES) == 12


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(
    example: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    runpy.run_path(str(example), run_name="__main__")
    if example.stem != "e06_write":
        assert capsys.readouterr().out, "an example shows something"
    else:
        assert (folder / "smooth" / "0002.dcm").is_file()
