"""What is published: the wheel and the sdist, built and installed as users get them."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import ctsr
from tests.made.ct import write_series

ROOT = Path(__file__).parents[1]
MOST_WHEEL_BYTES = 15_000_000


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("release")
    # Without isolation: what builds is installed already, and nothing is fetched.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel; the libraries that ctsr needs are those of this one."""
    folder = tmp_path_factory.mktemp("user")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    [packages] = folder.glob("lib/python*/site-packages") if os.name != "nt" else [folder / "Lib/site-packages"]
    [wheel] = release.glob("*.whl")
    offline = ("--no-deps", "--no-index", "--no-compile", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel], check=True)
    [ours] = [path for path in sys.path if path.endswith("site-packages")][:1]
    # After its own packages, as a .pth file: the editable ctsr of this environment is not found by this one.
    (packages / "libraries.pth").write_text(f"{ours}\n", encoding="utf-8")
    return python


def test_the_wheel_is_small_and_brings_models_page_and_types(release: Path) -> None:
    [wheel] = release.glob("*.whl")
    assert wheel.stat().st_size < MOST_WHEEL_BYTES
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"ctsr/py.typed", "ctsr/bundled/ctsr-x2.safetensors", "ctsr/bundled/ctsr-z.safetensors"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert any(name.startswith("ctsr/viewer/") and name.endswith(".js") for name in names)
    assert all(name.startswith(("ctsr/", f"ctsr-{ctsr.__version__}.dist-info/")) for name in names)


def test_the_sdist_holds_what_is_in_the_repository_and_nothing_of_a_machine(release: Path) -> None:
    [sdist] = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml", "tests/test_release.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".ci", ".hypothesis", "build/", "bundled/"))]


def test_the_installed_wheel_makes_a_series_sharper(installed: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "exam", 3)
    place = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "CTSR_CACHE": str(tmp_path / "cache")}

    def run(*words: str) -> str:
        command = [installed, *words]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=os.environ | place
        ).stdout

    where = run("-c", "import ctsr; print(ctsr.__file__)").strip()
    assert Path(where).is_relative_to(installed.parents[1])
    assert run("-m", "ctsr", "--version").split() == ["ctsr", ctsr.__version__]
    assert "1 series made" in run("-m", "ctsr", "upscale", "exam", "out", "--engine", "torch")
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 3


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert {project["version"], citation["version"], ctsr.__version__} == {ctsr.__version__}
    assert f"\n## {ctsr.__version__}" in changelog
    assert (citation["type"], citation["license"]) == ("software", project["license"])
