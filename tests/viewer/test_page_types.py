"""The page's modules, checked by TypeScript: names that are imported exist, arguments and properties fit."""

import subprocess
from pathlib import Path

from tests.needs import needs, needs_program

ROOT = Path(__file__).parents[2]
TSC = ("--yes", "--package", "typescript@5.9.3", "tsc")


def test_the_pages_modules_fit_together() -> None:
    npx = needs_program("npx", "npm")
    there = subprocess.run([npx, *TSC, "--version"], capture_output=True, text=True, check=False)
    needs(there.returncode == 0, f"reach npm for TypeScript: {there.stderr.strip()}")
    checked = subprocess.run([npx, *TSC, "-p", "jsconfig.json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert checked.returncode == 0
