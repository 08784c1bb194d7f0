"""Work over processes."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from ctsr.errors import CtsrError
from ctsr.pool import LostError, each_in_order, in_order, pool


def die_at_three(number: int) -> int:
    if number == 3 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGTERM)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    with pool(workers) as executor:
        assert list(in_order(abs, range(-20, 0), executor)) == list(range(20, 0, -1))


def test_a_process_that_is_killed_is_one_clear_error() -> None:
    with pytest.raises(CtsrError, match="a worker process was killed"), pool(2) as executor:
        list(in_order(die_at_three, range(8), executor))


def rest(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)


@pytest.mark.timeout(60)
def test_an_interruption_ends_what_is_under_way_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), pool(2) as executor:  # noqa: PT012
        assert executor is not None
        found = each_in_order(rest, [tmp_path] * 5, executor)
        threading.Thread(target=interrupt_when_two_rest, args=(tmp_path,), daemon=True).start()
        next(found)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))


def interrupt_when_two_rest(folder: Path) -> None:
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGINT)


def die_once_at_three(number: int, died: Path) -> int:
    if number == 3 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_others_are_done_when_one_takes_its_process_down_every_time() -> None:
    with pool(2) as executor:
        assert executor is not None
        found = list(each_in_order(die_at_three, range(12), executor))
        again = list(each_in_order(abs, range(3), executor))
    assert isinstance(found[3], LostError)
    assert "was killed twice" in str(found[3])
    assert [number for number in found if not isinstance(number, LostError)] == [0, 1, 2, *range(4, 12)]
    assert again == [0, 1, 2]


def test_a_process_that_is_killed_once_costs_no_result(tmp_path: Path) -> None:
    with pool(2) as executor:
        assert executor is not None
        work = partial(die_once_at_three, died=tmp_path / "died")
        assert list(each_in_order(work, range(12), executor)) == list(range(12))
