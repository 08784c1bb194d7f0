"""The benchmark of a node under load and faults, with little of each."""

from pathlib import Path

import pytest
from benchmarks.node_load import Load, runs

from tests.needs import needs

pytestmark = pytest.mark.slow

LITTLE = Load(images=24, callers=4, kills=2, few=8, limit_s=540)


@pytest.mark.parametrize("name", ["kills", "full disk"])
def test_what_was_acknowledged_comes_back_exactly_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    rows = list(runs(tmp_path, LITTLE, [name]))
    needs(bool(rows), "run as root, who may mount a small disk")
    (row,) = rows
    assert row.is_right, row
    assert row.acknowledged == (LITTLE.images if name == "kills" else LITTLE.few)
    assert row.kills == (LITTLE.kills if name == "kills" else 0)
