"""Files for other programs, as far as they can be judged without these."""

import ast
import re
import runpy
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args, get_type_hints

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


class Node:
    """A volume that does not come from Slicer's DICOM database."""

    def GetAttribute(self, _name: str) -> None: ...  # noqa: N802

    def GetName(self) -> str:  # noqa: N802
        return "CT of the chest"


def slicer_module(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The module, with stand-ins for what is Slicer's."""
    slicer, scripted = ModuleType("slicer"), ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic"):
        setattr(scripted, f"ScriptedLoadableModule{name}", type(name or "Module", (), {}))
    util = ModuleType("slicer.util")
    vars(util).update(
        VTKObservationMixin=type("Mixin", (), {}),
        saveNode=lambda _, path: bool(Path(path).write_bytes(b"x")),
        startupEnvironment=lambda: None,
        loadVolume=lambda path: SimpleNamespace(SetName=lambda name: None, path=path),
    )
    vars(slicer)["util"] = util
    for module in (slicer, scripted, util, ModuleType("qt"), ModuleType("ctk")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return runpy.run_path(str(SLICER))


def test_the_slicer_module_passes_warnings_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ctsr"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "print('engine: PyTorch', file=sys.stderr)\n"
        "print(f'warning: volume: {pathlib.Path(sys.argv[2]).parent}: its HU are shifted', file=sys.stderr)\n"
        "pathlib.Path(sys.argv[3]).write_bytes(b'x')\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    logic = slicer_module(monkeypatch)["CtsrUpscaleLogic"]()
    logic.run(Node(), program=str(program))
    assert logic.warnings == ("volume: CT of the chest: its HU are shifted",)


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
