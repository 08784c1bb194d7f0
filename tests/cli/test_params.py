import re
from pathlib import Path

import pytest

from ctsr.checkpoint import save_checkpoint
from ctsr.cli.main import main
from tests.made.model import example


def printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The table that `ctsr params` prints, by its first column, and what it notes under `note`."""
    assert main(["params", *argv]) == 0
    printed = capsys.readouterr()
    rows = (re.split(r"\s*[│┃]\s*", line.strip(), maxsplit=1) for line in printed.out.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2} | {"note": printed.err}


def test_the_full_network_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed([], capsys)
    assert table["parameters"] == "16 732 609"
    assert table["image"] == "256 × 256 → 512 × 512"
    assert table["multiply-accumulates"] == "1 095.8 G"
    assert table["receptive field"] == "± 349 LR pixels"
    assert table["activations, training"].startswith("13.03 GiB")


def test_flags_and_sizes_are_followed(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(["--scale", "4", "--input-size", "64", "96"], capsys)
    assert table["parameters"] == "16 880 321"
    assert table["image"] == "64 × 96 → 256 × 384"


def test_a_checkpoint_is_counted_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/rrdb_x2_blurnoise_20250912-114004")
    run.mkdir(parents=True)
    save_checkpoint(run / "best.pth", example())
    table = printed(["--model_path", "rrdb_x2_blurnoise_best.pth"], capsys)
    assert table["parameters"].replace(" ", "") == str(sum(w.numel() for w in example().weights.values()))
    assert str(run / "best.pth") in table["note"]


def test_profile_lists_the_parts_and_times_a_forward_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "--nf", "4", "--nb", "1", "--gc", "2", "--input_size", "16", "16", "--profile"]) == 0
    out = capsys.readouterr().out
    for part in ("conv_first", "RRDB_trunk", "trunk_conv", "upsampler", "conv_last"):
        assert part in out
    assert re.search(r"forward pass on the CPU: \d+\.\d+ s", out)


@pytest.mark.parametrize(
    ("argv", "status", "complaint"),
    [
        (["--input_size", "0", "8"], 2, "0 × 8"),
        (["--nf", "0"], 2, "at least 1"),
        (["--model_path", "nowhere.pth"], 1, "nowhere.pth"),
    ],
)
def test_what_cannot_be_counted_is_said_in_one_line(
    argv: list[str], status: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["params", *argv]) == status
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_a_network_between_slices_is_counted_on_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(["--model_path", "ctsr-z", "--input_size", "16", "24"], capsys)["image"] == "16 × 24 → 16 × 24"
    assert main(["params", "--model_path", "ctsr-z", "--input_size", "15", "24", "--profile"]) == 2
    assert "takes even numbers of pixels, got 15 × 24" in capsys.readouterr().err
