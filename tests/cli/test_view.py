"""`ctsr view` up to the page, and what it says when it cannot."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import matplotlib.image
import pytest

from ctsr.cli.main import COMMANDS, SCRIPT_FLAGS, main, parse
from tests.made.exams import save_patients
from tests.made.model import save_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patients(tmp_path_factory.mktemp("exams"), ["anna", "bert"], slices=2, size=45)


@pytest.fixture
def viewed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`ctsr view` of a patient in a folder without runs, on the CPU."""
    monkeypatch.chdir(tmp_path)

    def viewed(*flags: str) -> int:
        return main(["view", str(root / "anna"), "--store", "store", "--device", "cpu", *flags])

    return viewed


def test_flags_are_spelled_as_in_the_users_commands() -> None:
    words = (
        "--dicom_folder preprocessed_data/14655pp --model_path runs/x/best.pth --device cuda --scale 2 --preset global "
        "--degradation blurnoise --noise_sigma_range_norm 0.001 0.003 --dose_factor_range 0.25 0.5 "
        "--degradation_sampling det-slice --deg_seed_mode per_patient --deg-seed 42 --eval_summary e/summary.json"
    )
    options = parse(COMMANDS["view"], words.split(), prog="ctsr view")
    assert options.dicom_folder == Path("preprocessed_data/14655pp")
    assert options.options.degradation_sampling == "det-slice"
    assert options.options.eval_summary == Path("e/summary.json")
    assert options.degradation.dose_factor_range == (0.25, 0.5)


def test_the_script_without_sr_means_no_model() -> None:
    assert SCRIPT_FLAGS["visualize_lr_hr.py"] == ("--no_model",)
    assert parse(COMMANDS["view"], ["x", *SCRIPT_FLAGS["visualize_lr_hr.py"]], prog="x").no_model


def test_a_snapshot_needs_no_browser_and_no_run(viewed, capsys: pytest.CaptureFixture[str]) -> None:
    assert viewed("--snapshot", "out.png", "--plane", "coronal", "--index", "20") == 0
    out, err = capsys.readouterr()
    assert out == "picture: out.png\n"
    assert "ctsr-x2, which comes with ctsr" in err
    assert matplotlib.image.imread("out.png").std() > 0.1


def test_a_snapshot_with_a_model_has_sr(viewed, capsys: pytest.CaptureFixture[str]) -> None:
    assert viewed("--snapshot", "without.png", "--no_model") == 0
    save_model(Path("runs/rrdb_x2_blurnoise_20250912-114004/best.pth"))
    assert viewed("--snapshot", "with.png") == 0
    assert "the newest run" in capsys.readouterr().err
    assert matplotlib.image.imread("with.png").shape[1] > matplotlib.image.imread("without.png").shape[1]


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (("--model_path", "nowhere.pth"), 1, "no model nowhere.pth"),
        (("--model_path", "x", "--no_model"), 2, "contradict each other"),
        (("--preset", "fog"), 2, "no window preset is called 'fog'"),
        (("--index", "2", "--snapshot", "x.png"), 2, "2 axial slices, 0 to 1"),
        (("--index", "-1"), 2, "counted from 0"),
        (("--port", "99999"), 2, "--port 99999"),
        (("--cache_mb", "1"), 2, "--cache_mb 1"),
        (("--eval_summary", "none.json"), 1, "none.json"),
        (("--dose_factor_range", "0.5", "2"), 2, "--dose_factor_range"),
    ],
)
def test_what_cannot_be_is_one_line(
    viewed, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], status: int, message: str
) -> None:
    assert viewed(*flags) == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_help_does_not_negate_twice_and_names_its_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "--help"]) == 0
    text = capsys.readouterr().out
    assert "no_no_model" not in text
    assert "--no_model" in text
    assert "options options" not in text


def test_no_folder_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view"]) == 2
    assert "ctsr view DIR" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_ends_with_a_signal(root: Path, tmp_path: Path, number: signal.Signals) -> None:
    program = Path(sys.executable).with_name("ctsr")
    command = [str(program), "view", str(root), "--store", "store", "--no_browser", "--no_model", "--preset", "lung"]
    command += ["--cache_dir", "cache"]
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    try:
        line = next(line for line in started.stderr if line.startswith("Viewer: "))
        with urllib.request.urlopen(f"{line.split()[1]}api/state", timeout=60) as answer:
            state = json.load(answer)
        assert state["window"] == [-600, 1500]
        assert state["panels"] == ["LR", "Bilinear", "Bicubic", "HR"]
        assert list((tmp_path / "cache").rglob("open.html"))
        started.send_signal(number)
        assert started.wait(timeout=60) == 0
        rest = started.stderr.read()
        assert "closed" in rest
        assert "Traceback" not in rest
        assert not list((tmp_path / "cache").rglob("open.html"))  # it holds the token
    finally:
        started.kill()
        started.communicate()
