"""A cluster whose workers or whose scheduler go while somebody waits for it."""

import threading
import time
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

import pytest

from ctsr import pool
from ctsr.errors import CtsrError
from ctsr.pool import each_in_order, executor_for, in_order
from tests.needs import needs


@pytest.fixture
def local_cluster(monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """A scheduler and a worker in threads of this process."""
    needs(find_spec("distributed") is not None, "install ctsr[cluster] to run this")
    from distributed import LocalCluster

    monkeypatch.setattr(pool, "CHECK_S", 0.1)
    monkeypatch.setattr(pool, "WITHOUT_WORKERS_S", 0.3)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def test_a_cluster_that_has_lost_all_its_workers_is_given_up(local_cluster: Any) -> None:
    def wait_for_ever() -> None:
        with executor_for(1, local_cluster.scheduler_address) as executor:
            assert executor is not None
            assert list(in_order(abs, [-1, 2], executor)) == [1, 2]
            assert list(each_in_order(abs, [-1, 2], executor)) == [1, 2]
            local_cluster.scale(0)
            list(in_order(time.sleep, [0, 0], executor))

    with pytest.raises(CtsrError, match="no worker is left; start the cluster again and give the same command"):
        wait_for_ever()


def test_a_scheduler_that_goes_is_one_line(local_cluster: Any) -> None:
    closing = threading.Timer(0.3, local_cluster.close)

    def wait_for_ever() -> None:
        with executor_for(1, local_cluster.scheduler_address) as executor:
            assert executor is not None
            closing.start()
            list(each_in_order(time.sleep, [0.2] * 100, executor))

    with pytest.raises(CtsrError, match="start the cluster again and give the same command") as caught:
        wait_for_ever()
    closing.join()  # a cluster that two threads close at once is one that distributed cannot close
    assert "\n" not in str(caught.value)


def test_a_scheduler_that_says_nothing_as_it_goes_has_no_worker(
    local_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with executor_for(1, local_cluster.scheduler_address) as executor:
        assert executor is not None
        monkeypatch.setattr("distributed.Client.scheduler_info", lambda _: {})
        with pytest.raises(CtsrError, match="start the cluster again and give the same command"):
            list(each_in_order(time.sleep, [5], executor))
