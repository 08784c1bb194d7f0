"""The documentation: its links, its notebook, and that a reader's browser loads nothing from elsewhere."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import needs

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    path for folder in ("docs", "ESRGAN", "recipes") for path in sorted((REPOSITORY / folder).rglob("*.md"))
] + sorted(REPOSITORY.glob("*.md"))
NOTEBOOK = REPOSITORY / "docs" / "tutorials" / "first_steps.ipynb"
MOST_BYTES = 200_000
MADE_WHEN_BUILT = {"first_steps.md", "examples.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    missing = [link for link in local if not (page.parent / link).exists() and Path(link).name not in MADE_WHEN_BUILT]
    assert not missing


def test_the_glossary_has_at_most_twelve_terms() -> None:
    text = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert 0 < len(re.findall(r"^\*\*.+\*\*$", text, re.MULTILINE)) <= 12


def test_the_notebook_is_stored_small() -> None:
    assert NOTEBOOK.stat().st_size <= MOST_BYTES
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "it is executed when it is tested, not stored with results"


def test_the_notebook_runs(tmp_path: Path) -> None:
    needs(importlib.util.find_spec("nbclient") is not None, "pip install nbclient ipykernel to run this")
    nbformat, nbclient = importlib.import_module("nbformat"), importlib.import_module("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, startup_timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "(2, 192, 192)" in printed
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert len(nbformat.writes(notebook)) <= MOST_BYTES


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    needs(importlib.util.find_spec("mkdocs") is not None, "pip install '.[docs]' to run this")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:[^\"'> ]+)", page)
        loaded += re.findall(r"<link[^>]+rel=[\"']?(?:stylesheet|preconnect)[^>]+href=[\"']?(https?:[^\"'> ]+)", page)
        assert not loaded
