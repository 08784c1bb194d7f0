"""Many series over processes and over a real dask cluster, one of whose workers dies."""

import json
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from ctsr import pool as pool_module
from ctsr.cli.main import main
from ctsr.errors import CtsrError
from ctsr.pool import executor_for
from tests.made.cluster import begun, cluster
from tests.made.ct import body, ct_slice, save, save_series
from tests.needs import needs

PATIENTS, FEW = 8, 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "exams"
    for i in range(PATIENTS):
        save_series(folder / f"P{i}", [body(96, seed=i)] * 6, series=f"1.2.{i + 5}")
    return folder


def wait_for_a_result(out: Path) -> None:
    deadline = time.monotonic() + 500  # on a busy machine all processes together take minutes to start
    while not list(out.glob("*/*/run.json")):
        assert time.monotonic() < deadline, "no result"
        time.sleep(0.01)


def test_a_cluster_finishes_although_a_worker_is_killed_midway(
    root: Path, tmp_path: Path, bilinear_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    with cluster(tmp_path / "cluster") as (address, workers):
        arguments = ["exams", "out", "--model_path", str(bilinear_path), "--engine", "torch", "--dask", address]
        running = begun("upscale", *arguments)
        wait_for_a_result(out)
        workers[0].kill()
        assert workers[0].wait() == -signal.SIGKILL
        assert running.wait() == 0
    records = list(out.glob("*/*/run.json"))
    assert len(records) == PATIENTS
    assert all(json.loads(record.read_text())["result"]["num_slices"] == 6 for record in records)
    assert len(list(out.rglob("*.dcm"))) == 6 * PATIENTS


def test_a_series_that_takes_its_process_down_twice_fails_alone_and_is_made_by_the_next_run(
    root: Path, tmp_path: Path, bilinear_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(FEW, PATIENTS):
        shutil.rmtree(root / f"P{i}")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    arguments = ["exams", "out", "--model_path", str(bilinear_path), "--engine", "torch", "--jobs", "2"]
    running = begun("upscale", *arguments)
    assert killed_at(running, out / "P1") == 2
    assert running.wait() == 1
    assert f"{FEW - 1} series made, 0 kept from before, 1 failed" in capfd.readouterr().out
    assert not list((out / "P1").glob("[!.]*"))
    assert begun("upscale", *arguments).wait() == 0
    assert f"1 series made, {FEW - 1} kept from before, 0 failed" in capfd.readouterr().out
    assert len(list(out.rglob("*.dcm"))) == 6 * FEW


def killed_at(running: "subprocess.Popen[bytes]", patient: Path) -> int:
    """Kill one of the processes of a command whenever a result of this patient is begun; returns how many."""
    killed = 0
    while running.poll() is None:
        if list(patient.glob(".*.part")):
            workers = [one for one in psutil.Process(running.pid).children() if "spawn_main" in str(one.cmdline())]
            workers[0].kill()
            psutil.wait_procs(workers)  # the pool ends the others
            for part in patient.glob(".*.part"):
                shutil.rmtree(part)
            killed += 1
        time.sleep(0.001)
    return killed


def test_preprocessing_runs_on_the_same_cluster(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preprocess", "--root", "exams", "--out_dir", "here", "--jobs", "1"]) == 0
    with cluster(tmp_path / "cluster") as (address, _):
        assert begun("preprocess", "--root", "exams", "--out_dir", "there", "--dask", address).wait() == 0
    here, there = (
        {path.relative_to(folder): path.read_bytes() for path in (tmp_path / folder).rglob("IM*")}
        for folder in (tmp_path / "here", tmp_path / "there")
    )
    assert len(here) == 6 * PATIENTS
    assert here == there


def test_processes_give_the_files_that_one_gives_and_a_bad_patient_stops_nobody(
    tmp_path: Path, bilinear_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "exams"
    for i in range(3):
        save_series(root / f"P{i}", [body(40, seed=i)] * 2, series=f"1.2.{i + 5}")
    save(ct_slice(body(40), series_uid="1.9", RescaleSlope=None, RescaleIntercept=None), root / "P9" / "s")
    found: list[dict[str, bytes]] = []
    for jobs in ("1", "2"):
        out = tmp_path / f"out{jobs}"
        arguments = [str(root), str(out), "--model_path", str(bilinear_path), "--engine", "torch", "--jobs", jobs]
        assert main(["upscale", *arguments]) == 1
        shown = capsys.readouterr()
        assert "3 series made, 0 kept from before, 1 failed" in shown.out
        assert "--assume_hu" in shown.err
        found.append({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.dcm")})
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_a_scheduler_that_is_not_there_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAIT_S", 1.0)
    needs(find_spec("distributed") is not None, "install ctsr[cluster] to run this")
    with pytest.raises(CtsrError, match="no scheduler"), executor_for(1, "tcp://127.0.0.1:9"):
        pass
