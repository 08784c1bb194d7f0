"""The list of slow tests names tests that exist."""

import re
from pathlib import Path

import pytest

from tests.markers import CLUSTER
from tests.slow import SLOW

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("module", [*SLOW, *CLUSTER])
def test_a_listed_test_exists(module: str) -> None:
    defined = set(re.findall(r"def (test_\w+)\(", (REPOSITORY / module).read_text(encoding="utf-8")))
    assert defined >= (SLOW.get(module) or set())
