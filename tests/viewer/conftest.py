"""A small root of exams, a small model that was trained on some of its patients, and sessions to look at them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.viewer import ViewOptions
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import PageTurn, ViewerSession, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.evaluate.conftest import model_path, store
from tests.made.exams import save_patients
from tests.made.listener import Listener

__all__ = ["TURN", "Open", "model_path", "store"]
"""The last two are fixtures that the evaluation's tests use as well."""

Open = Callable[..., ViewerSession]

TURN = PageTurn("test", 0)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 5 slices, 45 pixels wide and more."""
    return save_patients(tmp_path_factory.mktemp("exams"), slices=5, size=45, grow=1)


@pytest.fixture
def model(model_path: Path) -> ModelUnderTest:
    return load_model_under_test(str(model_path), device="cpu")


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def open_view(model: ModelUnderTest, store: Path, listener: Listener) -> Iterator[Open]:
    """``open_view(path, with_model=True, degradation=None, given=(), **options)`` → a session, closed at the end."""
    opened: list[ViewerSession] = []

    def open_view(
        path: Path,
        *,
        with_model: bool = True,
        degradation: Degradation | None = None,
        given: tuple[str, ...] = (),
        **options: object,
    ) -> ViewerSession:
        chosen = ViewOptions(store=store, **options)
        net = model if with_model else None
        wanted = ViewRequest(path, net, degradation or model.degradation, chosen, frozenset(given))
        opened.append(open_session(prepare(wanted, listener), chosen))
        return opened[-1]

    yield open_view
    for session in opened:
        session.close()


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Images of a few pixels: threads that wait for each other would take longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def serve(open_view: Open) -> Iterator[Callable[..., ViewServer]]:
    """``serve(path, …)`` as `open_view`, → a server that is running."""
    running: list[ViewServer] = []

    def serve(path: Path, *, framed: bool = False, **how: Any) -> ViewServer:
        running.append(ViewServer(open_view(path, **how), framed=framed))
        Thread(target=running[-1].serve_forever, daemon=True).start()
        return running[-1]

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()
