"""`ctsr physics` on flags that do not fit the series."""

from pathlib import Path

import pytest

from ctsr.cli.main import main
from tests.made.exams import save_patient


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return save_patient(tmp_path / "exams", "anna", slices=3, size=64)[0].parent


@pytest.mark.parametrize("slices", [("0", "4"), ("-2", "3"), ("2", "2"), ("5", "9")])
def test_slices_that_the_series_does_not_have_are_refused(
    series: Path, slices: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They were cut to those it has, and -2 was the last but one."""
    assert main(["physics", str(series), "--slices", *slices]) == 2
    said = capsys.readouterr().err
    assert f"--slices {slices[0]} {slices[1]}: the series has slices 0 to 2" in said


@pytest.mark.parametrize("center", [("nan", "3"), ("3", "inf")])
def test_a_centre_that_is_no_place_is_one_line(
    series: Path, center: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["physics", str(series), "--kind", "wire", "--center", *center]) != 0
    said = capsys.readouterr().err
    assert "center needs two finite numbers" in said
    assert "Traceback" not in said


def test_tables_do_not_go_into_the_series(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(series.iterdir())
    assert main(["physics", str(series), "--out_dir", str(series / "measured")]) == 2
    assert "are inside one another" in capsys.readouterr().err
    assert sorted(series.iterdir()) == before
