from pathlib import Path

import pytest

from ctsr.evaluate.methods import BASELINES, MODEL
from ctsr.hu import PRESETS, TISSUES
from ctsr.metrics import METRICS
from tests.evaluate.made import COLUMNS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*COLUMNS.names, *METRICS, *BASELINES.values(), MODEL, *TISSUES])
def test_the_page_explains_every_column_and_method(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_page_lists_the_presets_as_they_are() -> None:
    names, _, values = (line for line in PAGE.splitlines() if line.strip().startswith("|") and line.count("|") == 10)
    listed = dict(zip(names.split("|")[2:-1], values.split("|")[2:-1], strict=True))
    written = {name.strip(): value.strip().replace("−", "-") for name, value in listed.items()}
    assert written == {name: f"{window.center:g}/{window.width:g}" for name, window in PRESETS.items()}
