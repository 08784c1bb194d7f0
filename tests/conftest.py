"""What tests share: the real CT they may read, and how they ask for it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.demo_set import DemoExams, shared_demo_exams
from tests.markers import markers_of
from tests.needs import needs

REAL_CT = "CTSR_REAL_CT"

# The same examples on every run, and no verdict on speed.
hypothesis.settings.register_profile("ctsr", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ctsr")

# `make test &` has a shell ignore Ctrl-C, and so would every program that a test starts and ends with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use and by how long they take."""
    for item in items:
        for marker in markers_of(item):
            item.add_marker(marker)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache folder: no test depends on what the user's holds, and none writes into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The folder of real CT exams (`patients/`, `singles/`, `odd/`); skips where it is not at hand."""
    needs(REAL_CT in os.environ, f"set {REAL_CT} to the folder of real CT exams to run this")
    folder = Path(os.environ[REAL_CT])
    assert (folder / "patients").is_dir(), f"{REAL_CT}={folder} holds no patients/"
    return folder


@pytest.fixture(scope="session")
def demo_exams(tmp_path_factory: pytest.TempPathFactory) -> DemoExams:
    """Six synthetic patients of a few slices, as files, with known HU in known places."""
    return shared_demo_exams(tmp_path_factory)
