"""Independent programs that judge or read what we write."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.needs import needs, needs_program


def dciodvfy(path: Path) -> list[str]:
    """What Debian's dicom3tools say of a file, line by line."""
    program = needs_program("dciodvfy", "dicom3tools")
    run = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    return (run.stdout + run.stderr).splitlines()


def dciodvfy_errors(path: Path) -> set[str]:
    """What is wrong with a file; warnings do not count."""
    return {line for line in dciodvfy(path) if line.startswith("Error")}


def dcm2niix(folder: Path, out: Path, *, compressed: bool = False) -> Path:
    """The NIfTI file that dcm2niix makes of the one series in `folder`."""
    needs(find_spec("dcm2niix") is not None, "install dcm2niix (pip) to run this")
    options = ["-z", "y" if compressed else "n", "-b", "n", "-o", str(out), "-f", "ct"]
    subprocess.run([sys.executable, "-m", "dcm2niix", *options, str(folder)], check=True, capture_output=True)
    return out / ("ct.nii.gz" if compressed else "ct.nii")


def dcentvfy_errors(paths: Sequence[Path]) -> set[str]:
    """What contradicts itself between files of one patient, study, frame of reference or series."""
    program = needs_program("dcentvfy", "dicom3tools")
    run = subprocess.run([program, *map(str, paths)], capture_output=True, text=True, errors="replace", check=False)
    return {line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")}
