"""`make stress` finds the tests that start processes, runs these again and again, and counts failures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress import Ledger

TESTS = """
import multiprocessing, os, pathlib, subprocess, sys
import pytest

@pytest.fixture(scope="module")
def shared():
    waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield
    waiting.communicate(b"\\n")

@pytest.fixture(scope="module")
def made():
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_nothing(): pass
def test_has_it_made(made): pass
def test_has_what_is_made(made): pass
def test_first(shared): pass
def test_second(shared): pass
def test_spawned(): start("spawn")
def test_forked(): start("fork")

def start(method):
    process = multiprocessing.get_context(method).Process(target=os.getpid)
    process.start(); process.join()

def test_fails_the_second_time():
    subprocess.run([sys.executable, "-c", ""], check=True)
    count = pathlib.Path("count")
    count.write_text(count.read_text() + "x" if count.exists() else "x")
    assert count.read_text() != "xx", "the second run"
"""
STARTING = {
    "test_has_it_made",
    "test_first",
    "test_second",
    "test_spawned",
    "test_forked",
    "test_fails_the_second_time",
}


def stress(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """The command, in a folder of its own with tests of its own."""
    source = Path(__file__).with_name("stress.py")
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests/stress.py").write_bytes(source.read_bytes())
    (folder / "tests/test_made.py").write_text(TESTS)
    command = [sys.executable, "-m", "tests.stress", "--ledger", "ledger.jsonl", "--loops", "1", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_tests_that_start_processes_are_found_and_run_again(tmp_path: Path) -> None:
    done = stress(tmp_path, "--runs", "3")
    assert done.returncode == 1, done.stderr
    found = Ledger(tmp_path / "ledger.jsonl")
    runs = {name.partition("::")[2]: count for name, count in found.runs.items()}
    assert runs == {"test_nothing": 1, "test_has_what_is_made": 1} | dict.fromkeys(STARTING, 3)
    assert {name.partition("::")[2]: count for name, count in found.failed.items() if count} == {
        "test_fails_the_second_time": 1
    }
    assert "6 tests start processes; 6 of them have 3 runs or more; 18 runs, 1 failures" in done.stdout
    texts = [line.get("text", "") for line in map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())]
    assert len([text for text in texts if "the second run" in text]) == 1


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    stress(tmp_path, "--runs", "1")
    lines = (tmp_path / "ledger.jsonl").read_text()
    assert "18 runs" in stress(tmp_path, "--runs", "3").stdout
    assert (tmp_path / "ledger.jsonl").read_text().startswith(lines)
    # Nothing is left to do, and nothing is done.
    before = (tmp_path / "ledger.jsonl").read_bytes()
    stress(tmp_path, "--runs", "3")
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "raise SystemExit(9)"])
def test_a_module_that_ends_python_is_a_failure(tmp_path: Path, code: str) -> None:
    stress(tmp_path, "--report")
    (tmp_path / "tests/test_bad.py").write_text(code)
    source = tmp_path / "tests/stress.py"
    done = subprocess.run(
        [sys.executable, "-m", "tests.stress", "--ledger", "made.jsonl", "--loops", "0", "tests/test_bad.py"],
        cwd=source.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "failed 1 of 1: tests/test_bad.py" in done.stdout
