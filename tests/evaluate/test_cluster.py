"""Evaluations whose slices are shared: processes and the workers of a real dask cluster write what one process does."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from ctsr.checkpoint import load_model
from ctsr.errors import CtsrError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate, evaluate_curve
from ctsr.evaluate.methods import load_model_under_test
from ctsr.evaluate.output_folder import read_rows
from ctsr.evaluate.runner import WorkerPool
from ctsr.pool import executor_for
from tests.made.cluster import begun, cluster
from tests.made.exams import save_patients
from tests.made.listener import Listener, T
from tests.made.model import save_model
from tests.made.moments import MOMENT
from tests.needs import needs_weights

SLICES = 24
SPLIT = {"train": ("anna",), "val": ("dora",), "test": ("emil",)}
LEARNED = ("alexnet", "lpips-alex", "niqe")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `exams` of three patients, `store`, and two models `one` and `other`."""
    place = tmp_path_factory.mktemp("large")
    save_patients(place / "exams", ("anna", "dora", "emil"), slices=SLICES, size=128)
    for seed, name in enumerate(("one", "other")):
        save_model(place / name / "best.pth", split=SPLIT, seed=seed)
    return place


def arguments(place: Path, out: str) -> list[str]:
    return [
        *("evaluate", "--root", str(place / "exams"), "--store", str(place / "store"), "--device", "cpu"),
        *("--model_path", str(place / "one" / "best.pth"), str(place / "other" / "best.pth")),
        *("--split", "val", "--no_plots", "--windows", "global", "lung", "--output_dir", out),
    ]


@pytest.fixture(scope="module")
def alone(large: Path) -> dict[str, bytes]:
    """What one process writes."""
    assert begun(*arguments(large, "out"), folder=large).wait() == 0
    return files(large / "out")


def files(out: Path) -> dict[str, bytes]:
    """Every file of the one evaluation in a folder, without the folder's name and the moment it was written."""
    (folder,) = out.iterdir()
    words = "|".join(map(re.escape, (folder.name, out.name)))
    return {
        str(path.relative_to(folder)): re.sub(f"{words}|{MOMENT.pattern}".encode(), b"", path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_in(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") - 1 for path in out.glob("*/metrics.csv"))


def wait_for_rows(out: Path, running: "subprocess.Popen[bytes]") -> None:
    """Until the first of them are there, and by far not all."""
    while rows_in(out) < 1:
        assert running.poll() is None, "it was done before it could be disturbed"
        time.sleep(0.005)
    assert rows_in(out) < 2 * 4 * SLICES


def test_a_cluster_writes_what_one_process_does_although_a_worker_is_killed_midway(
    large: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    with cluster(tmp_path / "cluster") as (address, workers):
        running = begun(*arguments(large, "out"), "--dask", address)
        wait_for_rows(tmp_path / "out", running)
        workers[0].kill()
        assert workers[0].wait() == -signal.SIGKILL
        assert running.wait() == 0
    assert files(tmp_path / "out") == alone


def test_a_run_that_loses_a_process_goes_on_to_the_same_bytes(
    large: Path, alone: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running = begun(*arguments(large, "out"), "--jobs", "2")
    wait_for_rows(tmp_path / "out", running)
    assert rows_in(tmp_path / "out") < 2 * 4 * SLICES
    next(one for one in psutil.Process(running.pid).children() if "spawn_main" in " ".join(one.cmdline())).kill()
    assert running.wait() == 0
    assert "Traceback" not in capfd.readouterr().err
    assert files(tmp_path / "out") == alone


@pytest.fixture(scope="module")
def crew() -> Iterator[WorkerPool]:
    """Two processes of one thread each."""
    with executor_for(2) as executor:
        assert executor is not None
        yield WorkerPool(executor, 1)


@pytest.fixture
def run(root: Path, store: Path, model_path: Path, tmp_path: Path):
    """``run(out, crew, listener, path, **options)`` → an evaluation."""

    def run(
        out: str,
        crew: WorkerPool | None = None,
        listener: Listener | None = None,
        path: Path = model_path,
        **options: object,
    ) -> Evaluation:
        settings = {"root": (root,), "store": store, "no_plots": True} | options
        model = load_model_under_test(str(path), device="cpu")
        chosen = EvaluateOptions(output_dir=tmp_path / out, **settings)
        return evaluate([model], model.degradation, chosen, workers=crew, progress=listener or Listener())

    return run


@pytest.fixture
def _several_cores() -> Iterator[None]:
    """Two threads for every operation of PyTorch, wherever this runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_several_cores")
def test_learned_metrics_have_the_same_digits_whatever_the_number_of_processes_and_cores(
    run, crew: WorkerPool, tmp_path: Path
) -> None:
    """AlexNet's convolutions by themselves do not."""
    exams = save_patients(tmp_path / "exams", slices=2, size=192)
    options = {"root": (exams,), "metrics": ("PSNR", "LPIPS", "NIQE"), "cache": needs_weights(*LEARNED)}
    found = [run(out, by, split="test", **options) for out, by in (("by1", None), ("by2", crew))]
    one, two = (evaluation.folder / "metrics.csv" for evaluation in found)
    assert {row.metrics["LPIPS"].reason for row in read_rows(one)} == {""}
    assert one.read_bytes() == two.read_bytes()
    assert torch.get_num_threads() == 2


class Vandal(Listener):
    """Takes the smallest series out of the store when measuring begins."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        if what == "Evaluating slices":
            shutil.rmtree(min(self._store.glob("*/*"), key=lambda folder: (folder / "hu.npy").stat().st_size))
        yield from super().track(items, total=total, what=what)


@pytest.mark.parametrize("shared", [False, True])
def test_slices_that_fail_stop_no_others_and_are_measured_by_the_next_run(
    run, crew: WorkerPool, tmp_path: Path, shared: bool
) -> None:
    by = crew if shared else None
    whole = run("whole", store=tmp_path / "another")
    broken = run("out", by, Vandal(tmp_path / "store"), store=tmp_path / "store")
    (failure,) = broken.failures
    assert failure.startswith("dora: 2 slices of series 1.3.99 not measured, the same command tries again: ")
    assert (broken.num_slices, broken.num_patients) == (6, 2)
    mended = run("out", by, store=tmp_path / "store")
    assert mended.folder == broken.folder
    assert mended.failures == ()
    assert (mended.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    assert sorted(files(tmp_path / "out")) == sorted(files(tmp_path / "whole"))


def test_a_model_that_was_replaced_meanwhile_is_not_mixed_in(run, crew: WorkerPool, tmp_path: Path) -> None:
    path = save_model(tmp_path / "run" / "best.pth", seed=5)

    class Trainer(Listener):
        def note(self, message: str) -> None:
            if message.startswith("split: "):
                save_model(path, seed=8)

    with pytest.raises(CtsrError, match=r"no slice could be measured: dora: .* has changed since the evaluation began"):
        run("out", crew, Trainer(), path)


def test_a_worker_that_would_compute_learned_metrics_otherwise_measures_nothing(
    run, crew: WorkerPool, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(needs_weights("niqe"), cache)

    class Forgetful(Listener):
        def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
            if what == "Evaluating slices":
                shutil.rmtree(cache)
            yield from super().track(items, total=total, what=what)

    with pytest.raises(CtsrError, match="a worker has other weights or packages for NIQE"):
        run("out", crew, Forgetful(), metrics=("NIQE",), cache=cache)


def test_blends_that_are_no_files_are_made_in_every_process(
    root: Path, store: Path, model_path: Path, tmp_path: Path, crew: WorkerPool
) -> None:
    other = load_model(save_model(tmp_path / "other" / "best.pth", seed=7))
    model = load_model_under_test(str(model_path), device="cpu")
    found = [
        evaluate_curve(
            other,
            model.model,
            [0.25],
            model.device,
            model.degradation,
            EvaluateOptions(root=(root,), store=store, output_dir=tmp_path / out, no_plots=True, split="test"),
            workers=by,
        )
        for out, by in (("by1", None), ("by2", crew))
    ]
    (one,), (two,) = (curve.folder.glob("*/metrics.csv") for curve in found)
    assert one.read_bytes() == two.read_bytes()
