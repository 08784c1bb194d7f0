"""Work over processes."""

import multiprocessing
import os
import signal

import pytest

from ctsr.errors import CtsrError
from ctsr.pool import in_order, pool


def die_at_three(number: int) -> int:
    if number == 3 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGTERM)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    with pool(workers) as executor:
        assert list(in_order(abs, range(-20, 0), executor)) == list(range(20, 0, -1))


def test_a_process_that_is_killed_is_one_clear_error() -> None:
    with pytest.raises(CtsrError, match="a worker process was ended from outside"), pool(2) as executor:
        list(in_order(die_at_three, range(8), executor))
