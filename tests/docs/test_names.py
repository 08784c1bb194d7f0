"""Names of modules in the documentation: those that are written out exist."""

import re
from pathlib import Path

import pytest

from tests.docs.test_site import PAGES, REPOSITORY

SOURCE = REPOSITORY / "src"
PACKAGES = {path.name for path in (SOURCE / "ctsr").iterdir() if path.is_dir()}
OF_FILES = {"csv", "json", "log", "md", "pdf", "png", "py", "sif", "yaml"}
"""What follows a dot in names of files, which are no modules."""
NOT_THERE = {"ctsr.upscale_volume"}
"""Named in a decision as what was not done."""


def dotted_names(text: str) -> list[str]:
    """`ctsr.package.name` anywhere, and `package.name` in code."""
    whole = re.findall(r"(?<![\w./-])ctsr(?:\.[A-Za-z_]\w*)+", text)
    short = [name for name in re.findall(r"`([a-z_]+\.[a-z_]\w*)(?=[`.(])", text) if name.split(".")[0] in PACKAGES]
    names = dict.fromkeys([*whole, *(f"ctsr.{name}" for name in short)])
    return [name for name in names if name.rpartition(".")[2] not in OF_FILES and name not in NOT_THERE]


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a word of the module that its beginning names."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = SOURCE.joinpath(*parts[:count])
        module = place.with_suffix(".py") if place.with_suffix(".py").exists() else place / "__init__.py"
        if module.exists():
            rest = parts[count:]
            return not rest or re.search(rf"\b{rest[0]}\b", module.read_text(encoding="utf-8")) is not None
    return False


TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages about what there is: the change log also tells what there was."""


@pytest.mark.parametrize("page", TODAY, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_modules_that_a_page_names_exist(page: Path) -> None:
    assert [name for name in dotted_names(page.read_text(encoding="utf-8")) if not is_there(name)] == []


def test_a_name_that_is_gone_is_noticed() -> None:
    assert dotted_names("`ctsr.infer.private` and `infer.resolver`, but `physics.png`") == [
        "ctsr.infer.private",
        "ctsr.infer.resolver",
    ]
    assert not is_there("ctsr.infer.private")
    assert is_there("ctsr.infer.engine.TorchEngine")
