"""No command opens a connection that it was not asked to: each runs where only this machine can be reached."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ctsr
from ctsr.cli.main import COMMANDS
from tests.made.exams import save_patients
from tests.made.model import save_model
from tests.needs import needs

HOOK = Path(__file__).parent / "loopback"

RUNS = {
    "scan": [["EXAMS"]],
    "preprocess": [["--root", "EXAMS"]],
    "split": [["--root", "preprocessed_data"]],
    "train": [
        [*("--epochs", "1", "--nf", "4", "--nb", "1", "--gc", "2"), *("--patch_size", "32", "--batch_size", "4")]
    ],
    "finetune": [[*("--epochs", "1", "--perceptual", "none"), *("--patch", "32", "--batch_size", "4")]],
    "evaluate": [["--split", "val"], ["--split", "test", "--engine", "openvino"]],
    "upscale": [
        ["EXAMS/anna", "sr"],
        ["EXAMS/bert", "sr8", "--precision", "int8", "--calibration", "EXAMS/cleo"],
    ],
    "quantize": [["--steps", "1", "--patch_size", "32", "--batch_size", "2", "--lr", "1e-6"]],
    "export": [["m.onnx"], ["m.xml", "--format", "openvino"], ["m.pt", "--format", "torchscript"]],
    "view": [["EXAMS/anna", "--snapshot", "slice.png"]],
    "blend": [["rrdb_x2_blurnoise_best.pth", "finetune_x2_blurnoise_best.pth"]],
    "models": [[], ["ctsr-x2"]],
    "weights": [["list"]],  # `fetch` is what asks for a connection
    "params": [["--nf", "4", "--nb", "1", "--gc", "2", "--input_size", "16", "16"]],
    "cache": [["list"], ["clean"]],
    "doctor": [["--help"]],  # its verdict is on this machine: tests/cli/test_doctor.py
    "physics": [["--help"]],  # it needs a phantom's scan, and reads it as `scan` does
    "node": [["--help"]],  # it listens, and sends where it is told to: tests/node
    "demo": [["--help"]],  # it is the commands before, one after the other
}
"""Every command, in an order in which each finds what it needs; a command that is not here fails the test."""


def private(code: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python code in a process that can reach this machine only; what it tried is in `connections`."""
    # What a library calls a build machine it may spare; a user's it does not.
    usual = {name: value for name, value in os.environ.items() if name != "CI" and "TELEMETRY" not in name}
    environment = usual | {
        "PYTHONPATH": os.pathsep.join([str(HOOK), str(Path(ctsr.__file__).parents[1])]),
        "CTSR_TEST_CONNECTIONS": str(folder / "connections"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder / "home"),
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_hook_stops_what_would_leave_the_machine(tmp_path: Path) -> None:
    done = private("import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)", tmp_path)
    assert "not this machine" in done.stderr
    assert "192.0.2.1" in (tmp_path / "connections").read_text()


def test_every_verb_is_tried() -> None:
    assert set(RUNS) == set(COMMANDS), "add the command's runs to the table"


@pytest.mark.timeout(900)
def test_no_verb_connects_to_anything_but_this_machine(tmp_path: Path) -> None:
    save_patients(tmp_path / "EXAMS", slices=3, size=48)
    (tmp_path / "home").mkdir()
    save_model(tmp_path / "runs" / "rrdb_x2_blurnoise_20250912-114004" / "best.pth")
    code = (
        "import sys, traceback\n"
        "from ctsr.cli.main import main\n"
        "if __name__ == '__main__':\n"
        "    for line in sys.argv[1:]:\n"
        "        try:\n"
        "            status = main(line.split('\\x1f'))\n"
        "        except SystemExit as end:\n"
        "            status = end.code\n"
        "        print('STATUS', status, line, flush=True)\n"
    )
    lines = ["\x1f".join([command, *words]) for command, several in RUNS.items() for words in several]
    done = private(code, tmp_path, *lines)
    statuses = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("STATUS")]
    assert statuses == ["0"] * len(lines), done.stdout + done.stderr
    assert not (tmp_path / "connections").exists(), (tmp_path / "connections").read_text()
    # Code in C connects unseen. A library that means to leaves an identity or a queue for its maker in the user's home.
    left = {
        path.name for place in ("home", "cache", "home/.cache", "home/.config") for path in list_of(tmp_path / place)
    }
    assert left <= {"ctsr", "matplotlib", "fontconfig", ".cache", ".config"}, left


def list_of(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def test_a_library_that_sends_what_it_runs_is_told_not_to(tmp_path: Path) -> None:
    needs(find_spec("onnxruntime") is not None, "install ctsr[export] to run this")
    export = "from ctsr.cli.main import main; main(['export', 'm.onnx', '--model_path', 'ctsr-x2'])"
    raw = "import onnxruntime; onnxruntime.InferenceSession('m.onnx', providers=['CPUExecutionProvider'])"
    made: dict[str, list[str]] = {}
    for name, code in (("ctsr", export), ("onnxruntime", raw)):
        folder = tmp_path / name
        (folder / "home").mkdir(parents=True)
        if name == "onnxruntime":
            (folder / "m.onnx").write_bytes((tmp_path / "ctsr" / "m.onnx").read_bytes())
        done = private(code, folder)
        assert done.returncode == 0, done.stderr
        made[name] = [path.name for path in folder.rglob("*") if "icrosoft" in path.name]
    assert made["ctsr"] == []
    assert made["onnxruntime"], "it leaves no identity any more: this test sees nothing"
