"""The models of the package: small, complete, and what they say they are."""

from pathlib import Path

import pytest

from ctsr.checkpoint import load_generator, resolve_model
from ctsr.checkpoint.bundled import BUNDLED
from ctsr.checkpoint.packed import read_card
from ctsr.data.split import Split, read_split

REPOSITORY = Path(__file__).parents[2]
MOST_BYTES = 4 * 2**20
models = pytest.mark.parametrize("name", BUNDLED)


@models
def test_a_bundled_model_is_small_and_says_how_it_was_trained(name: str) -> None:
    file = BUNDLED[name].file
    assert file.stat().st_size <= MOST_BYTES
    found = load_generator(file)
    assert found.meta is not None
    assert name == f"ctsr-x{found.scale}"
    assert found.meta.degradation["mode"] == "blurnoise"
    assert found.meta.card.pixel_spacing_mm is not None


@models
def test_its_card_is_the_page_in_the_documentation(name: str) -> None:
    page = (REPOSITORY / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8")
    assert read_card(BUNDLED[name].file) == page


@models
def test_it_was_trained_on_the_split_of_its_recipe(name: str) -> None:
    meta = load_generator(BUNDLED[name].file).meta
    assert meta is not None
    assert Split.from_dict(meta.split) == read_split(REPOSITORY / "recipes" / "split.json")
    assert {"LIDC-IDRI-0001", "C3L-00189"} == set(meta.split["test"])
    assert meta.trained_on.isdisjoint(meta.split["test"] + meta.split["val"])


def test_a_bundled_model_is_found_by_its_name_and_said_so() -> None:
    resolved = resolve_model("ctsr-x2")
    assert resolved.path == BUNDLED["ctsr-x2"].file
    assert resolved.note == "model: ctsr-x2, which comes with ctsr"
