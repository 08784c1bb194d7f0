"""Tests are marked by what they use, and by name where they take long."""

from pathlib import Path

import pytest

from tests.slow import SLOW_TESTS


def names(request: pytest.FixtureRequest) -> set[str]:
    return {marker.name for marker in request.node.iter_markers()}


def test_a_test_that_uses_real_ct_is_marked(real_ct: Path, request: pytest.FixtureRequest) -> None:
    assert "real_ct" in names(request)


def test_another_is_not(request: pytest.FixtureRequest) -> None:
    assert names(request).isdisjoint({"real_ct", "browser", "cluster", "slow"})


def test_slow_tests_are_listed_by_name() -> None:
    assert all(name.startswith("test_") for name in SLOW_TESTS)
