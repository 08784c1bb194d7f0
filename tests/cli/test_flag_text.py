from pathlib import Path

import pytest

from ctsr.cli.console import with_flags
from ctsr.cli.main import main


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("pass `assume_hu` if they are", "pass --assume_hu if they are"),
        ("`ctsr split --root ROOT` writes one", "`ctsr split --root ROOT` writes one"),
        ("`overwrite=True` replaces it", "--overwrite replaces it"),
        ("`limit_noise=False` leaves that out", "--no_limit_noise leaves that out"),
        ("choose `format=nifti`", "choose --format nifti"),
        ("`noise_sigma_range` is too wide", "--noise_sigma_range_norm is too wide"),
        ("`model` is no flag here", "`model` is no flag here"),
    ],
)
def test_fields_in_messages_become_flags_and_other_words_stay(message: str, shown: str) -> None:
    assert with_flags(message) == shown


def test_an_error_of_the_library_names_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    flags = ["--root", str(tmp_path / "root"), "--out_dir", str(tmp_path / "out"), "--jobs", "0"]
    assert main(["preprocess", *flags]) == 2
    assert "--jobs must be at least 1" in capsys.readouterr().err
