"""Files for other programs, as far as they can be judged without these."""

import ast
import re
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from ctsr.cli.main import main
from ctsr.upscale import UpscaleOptions

ROOT = Path(__file__).parents[2]
SLICER = ROOT / "integrations/slicer/CtsrUpscale/CtsrUpscale.py"
DOCKERFILE = ROOT / "integrations/container/Dockerfile"


def words(path: Path) -> set[str]:
    """String literals of a Python file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_slicer_module_passes_flags_that_upscale_has(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {word for word in words(SLICER) if re.fullmatch(r"--\w+", word)}
    assert {"--strength", "--slice_spacing"} <= flags
    assert main(["upscale", "--help"]) == 0
    known = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert flags <= known


def test_the_slicer_module_is_found_by_its_name() -> None:
    # Slicer looks for the class that is called as its file, and for the two beside it.
    tree = ast.parse(SLICER.read_text(encoding="utf-8"))
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert classes == {SLICER.stem, f"{SLICER.stem}Widget", f"{SLICER.stem}Logic"}


def test_the_strengths_on_the_panel_are_those_of_upscale() -> None:

    assert set(get_args(get_type_hints(UpscaleOptions)["strength"])) <= words(SLICER)


def test_the_dockerfile_copies_what_there_is_and_installs_extras_that_exist() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [extras] = re.findall(r"'/src\[(.+)\]'", text)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    copied = set(re.findall(r"\w+(?:\.\w+)?", " ".join(re.findall(r"^COPY .+$", text, flags=re.MULTILINE))))
    # What the build reads besides the sources.
    assert {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]} <= copied
