import time
from pathlib import Path

import pytest

from ctsr.degrade import Degradation
from ctsr.evaluate.methods import load_model_under_test
from ctsr.viewer import ViewOptions
from ctsr.viewer.session import IDLE_S, ViewedSlice, ViewerSession, nearest_first, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import body, save_series
from tests.viewer.conftest import TURN, Open

TIMEOUT_S = 60.0


def until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "what should have happened in the background did not"
        time.sleep(0.01)


def look(session: ViewerSession, index: int, reformatted: bool = False) -> ViewedSlice:
    return ViewedSlice(session.series[0], session.settings[0], index, reformatted)


def ready(session: ViewerSession, panel: str) -> list[int]:
    seen = look(session, 0)
    count = seen.series.geometry.shape[0]
    return [i for i in range(count) if session.images.has(panel, seen.series, seen.setting, i)]


def test_the_nearest_slices_come_first() -> None:
    assert list(nearest_first(1, 5)) == [1, 2, 0, 3, 4]
    assert list(nearest_first(0, 1)) == [0]


def test_the_slice_in_sight_is_made_first_and_then_its_neighbours(open_view: Open, root: Path) -> None:
    session = open_view(root / "cleo")
    session.view(TURN, look(session, 2))
    until(lambda: ready(session, "SR") == [0, 1, 2, 3, 4])
    # Nobody listened meanwhile, and nothing is lost.
    _, news = session.events(0, TIMEOUT_S)
    sr = [one for one in news if one["panel"] == "SR"]
    assert next(one["index"] for one in sr) == 2
    assert {one["index"] for one in sr[1:3]} <= {1, 3}
    assert sr[-1]["SR"] == 5


def test_other_planes_need_every_lr_slice(open_view: Open, root: Path) -> None:
    session = open_view(root / "cleo", with_model=False)
    session.view(TURN, look(session, 2))
    until(lambda: len(ready(session, "LR")) == 5)
    assert ready(session, "LR") == [0, 1, 2, 3, 4]  # the slice and two neighbours on either side


def test_work_ahead_ends_where_memory_does_but_what_is_in_sight_is_made(open_view: Open, tmp_path: Path) -> None:
    # 512² float32 is 1 MiB a slice, LR a quarter: 16 MiB hold fewer than the 24 slices.
    images = [body(512, seed=i % 2) for i in range(24)]
    save_series(tmp_path / "p" / "s", images)
    session = open_view(tmp_path / "p", cache_mb=16)
    session.view(TURN, look(session, 0))
    until(lambda: session.progress(look(session, 0))["full"])
    time.sleep(0.5)
    assert ready(session, "SR")[:3] == [0, 1, 2]
    assert 8 <= len(ready(session, "SR")) <= 16
    session.view(TURN, look(session, 23))
    until(lambda: {21, 22, 23} <= set(ready(session, "SR")))
    assert session.images.cache.used <= 16 * 2**20


def test_sr_waits_while_slices_are_gone_through(open_view: Open, root: Path) -> None:
    session = open_view(root / "cleo")
    begun = time.monotonic()
    while time.monotonic() - begun < 3 * IDLE_S:
        for index in range(5):
            session.view(TURN, look(session, index))
        assert ready(session, "SR") == []
        time.sleep(IDLE_S / 10)
    until(lambda: 4 in ready(session, "SR"))


def test_a_new_degradation_makes_new_slices(open_view: Open, root: Path) -> None:
    session = open_view(root / "cleo")
    session.view(TURN, look(session, 1))
    until(lambda: 1 in ready(session, "SR"))
    other = session.settings.add(session.settings.base.__class__(session.settings.base.degradation, deg_seed=7))
    seen = ViewedSlice(session.series[0], other, 1)
    session.view(TURN, seen)
    until(lambda: session.images.has("SR", seen.series, other, 1))
    assert other.number == 1


def test_closing_ends_the_threads(open_view: Open, root: Path) -> None:
    session = open_view(root / "cleo")
    session.view(TURN, look(session, 1))
    session.close()
    assert session.events(10**6, 60.0)[0] < 10**6, "nobody waits any more"


@pytest.mark.parametrize(("reformatted", "no_names"), [(False, False), (True, False), (False, True)])
def test_a_slice_that_cannot_be_read_stops_no_other_and_is_tried_when_it_is_looked_at(
    tmp_path: Path, reformatted: bool, no_names: bool
) -> None:
    files = save_series(tmp_path / "p" / "s", [body(48, seed=i, texture=60) for i in range(8)])
    options = ViewOptions(native=True, engine="torch", store=tmp_path / "store", no_names=no_names)
    session = open_session(
        prepare(ViewRequest(tmp_path / "p", load_model_under_test("ctsr-x2", device="cpu"), Degradation(), options)),
        options,
    )
    aside = tmp_path / "aside"
    try:
        assert session.series[0]  # decoded
        files[7].rename(aside)
        session.view(TURN, look(session, 7, reformatted))
        others = [0, 1, 2, 3, 4, 5, 6]
        until(lambda: ready(session, "SR") == others and (not reformatted or ready(session, "LR") == others))
        until(lambda: any(one["error"] for one in session.events(0, TIMEOUT_S)[1]))
        errors = {one["index"]: one["error"] for one in session.events(0, TIMEOUT_S)[1] if one["error"]}
        assert list(errors) == [7]
        assert (str(files[7]) in errors[7]) != no_names
        aside.rename(files[7])
        session.view(TURN, look(session, 7, reformatted))
        until(lambda: ready(session, "SR") == [*others, 7])
    finally:
        session.close()
