"""The page's modules, checked by TypeScript (names, arguments and properties fit) and ESLint (`eslint.config.js`)."""

import subprocess
from pathlib import Path

import pytest

from tests.needs import needs, needs_program

ROOT = Path(__file__).parents[2]
TSC = ("--yes", "--package", "typescript@5.9.3", "tsc")
ESLINT = ("--yes", "--package", "eslint@9.39.1", "eslint")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    npx = needs_program("npx", "npm")
    return subprocess.run([npx, *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("checker", "what"), [(TSC, ("-p", "jsconfig.json")), (ESLINT, ("src/ctsr/viewer/page",))], ids=["tsc", "eslint"]
)
def test_the_pages_modules_are_sound(checker: tuple[str, ...], what: tuple[str, ...]) -> None:
    there = run(*checker, "--version")
    needs(there.returncode == 0, f"reach npm for {checker[-1]}: {there.stderr.strip()}")
    checked = run(*checker, *what)
    assert checked.stdout == ""
    assert checked.returncode == 0
