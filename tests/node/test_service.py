"""The whole way: dcmtk's storescu → a node, which is killed → Debian's Orthanc."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydicom import Dataset

from ctsr.checkpoint import load_model
from ctsr.cli.main import main
from ctsr.cli.upscale import ModelUpscaler
from ctsr.dicom import variants
from ctsr.errors import DiskFullError
from ctsr.files import ROOM_PAUSE_S
from ctsr.infer import EngineRequest
from ctsr.node import NodeOptions
from ctsr.node.queue import Instance, JobState, Queue
from ctsr.node.service import Worker, serve
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.series import Outcome
from tests.made.ct import save
from tests.made.model import save_model, save_slice_model
from tests.made.orthanc import Archive, free_ports, running
from tests.needs import needs_program
from tests.node import light
from tests.node.conftest import Log, associate, ct_slices, store

ENDS_WITHIN_S = 120.0
REPOSITORY = Path(__file__).parents[2]


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with running(tmp_path_factory.mktemp("orthanc") / "run") as archive:
            yield archive


@contextmanager
def node_process(queue: Path, send_to: str, quiet: float) -> Generator[int]:
    """A node in a process of its own, which is killed in the end; gives its port."""
    words = [sys.executable, "-m", "tests.node.light", str(queue), send_to, str(quiet)]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_node_had_acknowledged_comes_back_once(
    orthanc: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storescu = needs_program("storescu", "dcmtk")
    files = [str(save(ds, tmp_path / "in" / f"{ds.InstanceNumber}.dcm")) for ds in ct_slices(3)]
    queue, send_to = tmp_path / "queue", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}"
    for file in files[:2]:
        with node_process(queue, send_to, 3600) as port:
            sent = [storescu, "-aet", "ROUTER", "-aec", "CTSR", "127.0.0.1", str(port), file]
            subprocess.run(sent, check=True, capture_output=True)
    assert main(["node", "--list", "--queue", str(queue)]) == 0
    assert " receiving " in capsys.readouterr().out
    # Two of them are known. On a busy machine the third may take seconds: a short wait would end without it.
    with node_process(queue, send_to, 3600) as port:
        assert store(port, ct_slices(3), calling="ROUTER") == [0, 0, 0]
    with node_process(queue, send_to, 1):
        wait_for(lambda: bool(orthanc.get("/instances")))
    # Killed in the middle of the delivery, or just after it.
    with node_process(queue, send_to, 0):
        wait_for(lambda: set(_states(queue)) == {JobState.SENT})
    (series,) = orthanc.get("/series")
    assert len(orthanc.get(f"/series/{series}")["Instances"]) == 3
    (study,) = orthanc.get("/studies")
    assert orthanc.get(f"/studies/{study}")["MainDicomTags"]["StudyInstanceUID"] == "1.2.3"


def _states(folder: Path) -> list[JobState]:
    queue = Queue(folder, exclusive=False)
    try:
        return [job.state for job in queue.jobs()]
    finally:
        queue.close()


@contextmanager
def node_thread(options: NodeOptions, upscaler: Any) -> Generator[Log]:
    log, stop = Log(), threading.Event()
    thread = threading.Thread(target=serve, args=(options, upscaler, log.write, stop))
    thread.start()
    try:
        wait_for(lambda: bool(log["listening"]))
        yield log
    finally:
        stop.set()
        thread.join(ENDS_WITHIN_S)


def test_results_of_a_model_go_back_by_stow_rs(
    orthanc: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    model = load_model(save_model(tmp_path / "best.pth"))
    upscaler = ModelUpscaler(model, EngineRequest("torch"), UpscaleOptions(picture=False))
    options = light.options(tmp_path / "queue", f"{orthanc.url}/dicom-web", 2)
    before = set(orthanc.get("/instances"))
    with node_thread(options, upscaler) as log:
        assert store(log["listening"][0]["port"], ct_slices(2, series="1.2.7")) == [0, 0]
        wait_for(lambda: len(set(orthanc.get("/instances")) - before) == 2)
    for instance in set(orthanc.get("/instances")) - before:
        tags = orthanc.get(f"/instances/{instance}/simplified-tags")
        assert (tags["Rows"], tags["SeriesDescription"]) == ("64", "CHEST [SR x2]")
    assert not any(word in json.dumps(log.lines) for word in ("Doe", "Jane", '"P1"'))


def test_what_the_page_says_of_orthanc_sends_each_series_there_and_back_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    page = (REPOSITORY / "docs" / "how-to" / "node.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (script,) = re.findall(r"```lua\n(.*?)```", page, re.DOTALL)
    node_port, _ = free_ports()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "route.lua").write_text(script)
    extra = json.loads(f"{{{settings.replace('11112', str(node_port))}}}")
    with running(tmp_path / "run", StableAge=1, **extra) as archive:
        send_to = f"ORTHANC@127.0.0.1:{archive.dicom_port}"
        options = replace(light.options(tmp_path / "queue", send_to, 1), port=node_port)
        model = load_model(save_model(tmp_path / "best.pth"))
        upscaler = ModelUpscaler(model, EngineRequest("torch"), UpscaleOptions(picture=False))
        with node_thread(options, upscaler) as log:
            assert store(archive.dicom_port, ct_slices(3), called="ORTHANC") == [0, 0, 0]
            wait_for(lambda: len(log["sent"]) == 1)
            # The result becomes stable, too, and is left where it is.
            wait_for(lambda: [change["ChangeType"] for change in changes(archive)].count("StableSeries") == 2)
            assert len(archive.get("/instances")) == 6
            assert len(log["complete"]) == 1
            assert not log["ignored"], "the script does not send results"


def changes(archive: Archive) -> list[Any]:
    return archive.get("/changes?limit=1000")["Changes"]


def test_a_node_makes_slices_between_slices(orthanc: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    model = load_model(save_slice_model(tmp_path / "best.pth"))
    settings = UpscaleOptions(picture=False, slice_spacing=1.0)
    upscaler = ModelUpscaler(model, EngineRequest("torch"), settings, model)
    assert upscaler.settings != ModelUpscaler(model, EngineRequest("torch"), settings).settings
    options = light.options(tmp_path / "queue", f"{orthanc.url}/dicom-web", 2)
    before = set(orthanc.get("/instances"))
    with node_thread(options, upscaler) as log:
        assert store(log["listening"][0]["port"], ct_slices(3, series="1.2.8")) == [0, 0, 0]
        wait_for(lambda: len(set(orthanc.get("/instances")) - before) == 6)
    tags = [orthanc.get(f"/instances/{name}/simplified-tags") for name in set(orthanc.get("/instances")) - before]
    assert {(float(tag["SliceThickness"]), tag["SeriesDescription"]) for tag in tags} == {(1, "CHEST [SR z 1 mm]")}


def test_a_node_delivers_one_enhanced_file_by_c_store(
    orthanc: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    model = load_model(save_model(tmp_path / "best.pth"))
    upscaler = ModelUpscaler(model, EngineRequest("torch"), UpscaleOptions(picture=False, enhanced=True))
    options = light.options(tmp_path / "queue", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", 2)
    before = set(orthanc.get("/instances"))
    with node_thread(options, upscaler) as log:
        assert store(log["listening"][0]["port"], ct_slices(3, series="1.2.9")) == [0, 0, 0]
        wait_for(lambda: bool(log["sent"] or log["failed"]))
    (made,) = set(orthanc.get("/instances")) - before
    tags = orthanc.get(f"/instances/{made}/simplified-tags")
    assert (tags["NumberOfFrames"], tags["Rows"], tags["SeriesDescription"]) == ("3", "64", "CHEST [SR x2]")


def test_what_failed_is_listed_tried_again_when_told_and_waits_for_its_destination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, upscaler = tmp_path / "queue", light.Copier()
    upscaler.broken = True
    with node_thread(light.options(queue, f"PACS@127.0.0.1:{free_ports()[0]}", 0), upscaler) as log:
        assert store(log["listening"][0]["port"], ct_slices(1)) == [0]
        wait_for(lambda: bool(log["failed"]))
        assert main(["node", "--list", "--queue", str(queue)]) == 0
        assert "a mistake of a library (RuntimeError)" in capsys.readouterr().out
        upscaler.broken = False
        assert main(["node", "--retry", "--queue", str(queue)]) == 0
        wait_for(lambda: bool(log["postponed"]))
    assert log.lines[-1]["event"] == "stopped"
    assert not associate(log["listening"][0]["port"]).is_established


class Full:
    """No room for results, at first: within the run, and before it begins."""

    settings = "test"

    def __init__(self) -> None:
        self.answers: list[Any] = [DiskFullError("no room left"), full_report()]

    def __call__(self, source: Path, out: Path, progress: Any) -> Any:
        if not self.answers:
            return light.Copier()(source, out, progress)
        answer = self.answers.pop()
        if isinstance(answer, DiskFullError):
            raise answer
        return answer


def full_report() -> light.Report:
    return light.Report(outcomes=(Outcome(output=Path("x"), error="no room left", is_disk_full=True),), failed=1)


def test_results_that_find_no_room_are_made_later(tmp_path: Path) -> None:
    seconds = [1000.0]
    queue, log, stop = Queue(tmp_path / "queue", now=lambda: seconds[0]), Log(), threading.Event()
    queue.receive(Instance("1.2.3", "1.2.3.4", "1.2.3.4.1", "ROUTER"), saved_bytes(ct_slices(1)[0], tmp_path))
    queue.close_quiet(0, ())
    worker = Worker(queue, Full(), log.write, stop)
    for _ in range(2):
        assert worker.step()
        assert not worker.step(), "it waits"
        seconds[0] += ROOM_PAUSE_S
    assert worker.step()
    assert [job.state for job in queue.jobs()] == [JobState.SENDING]
    assert [line["reason"] for line in log["postponed"]] == ["no room left"] * 2
    queue.close()


class FullAfterwards(light.Copier):
    """The first time, there is no room for the last of the results."""

    runs = 0

    def __call__(self, source: Path, out: Path, progress: Any) -> Any:
        super().__call__(source, out, progress)
        self.runs += 1
        return full_report() if self.runs == 1 else light.Report()


def test_results_of_a_study_that_has_grown_since_are_not_sent_with_those_of_the_whole(tmp_path: Path) -> None:
    seconds = [1000.0]
    queue, log, stop = Queue(tmp_path / "queue", now=lambda: seconds[0]), Log(), threading.Event()
    worker = Worker(queue, FullAfterwards(), log.write, stop)
    for number, dataset in enumerate(ct_slices(2), start=1):
        identity = Instance("1.2.3", "1.2.3.4", f"1.2.3.4.{number}", "ROUTER")
        queue.receive(identity, saved_bytes(dataset, tmp_path))
        queue.close_quiet(0, ())
        assert worker.step()
        seconds[0] += ROOM_PAUSE_S
    (job,) = queue.jobs()
    assert (job.state, job.num_images) == (JobState.SENDING, 2)
    assert len(list((job.folder / job.result).iterdir())) == 2
    assert len(list(job.folder.glob("results-*"))) == 2
    assert queue.content_of(job) in job.result
    queue.close()


def test_work_whose_end_a_full_disk_kept_the_queue_from_noting_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, log, stop = Queue(tmp_path / "queue"), Log(), threading.Event()
    queue.receive(Instance("1.2.3", "1.2.3.4", "1.2.3.4.1", "ROUTER"), saved_bytes(ct_slices(1)[0], tmp_path))
    queue.close_quiet(0, ())
    worker = Worker(queue, light.Copier(), log.write, stop)
    with monkeypatch.context() as patch:
        # As SQLite does when its log cannot grow.
        patch.setattr(queue, "upscaled", Mock(side_effect=sqlite3.OperationalError("database or disk is full")))
        with pytest.raises(sqlite3.Error):
            worker.step()
    assert [job.state for job in queue.jobs()] == [JobState.UPSCALING]
    assert worker.step()
    assert [job.state for job in queue.jobs()] == [JobState.SENDING]
    queue.close()


def saved_bytes(dataset: Dataset, folder: Path) -> bytes:
    return save(dataset, folder / "one.dcm").read_bytes()


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_the_verb_ends_well_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def served(options: NodeOptions, upscaler: Any, log: object, stop: threading.Event) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
        assert stop.is_set()
        assert (options.aet, options.allow) == ("X", ("A", "B"))
        assert upscaler.options.strength == "strong"

    monkeypatch.setattr("ctsr.node.service.serve", served)
    model = save_model(tmp_path / "best.pth")
    words = ["--aet", "X", "--allow", "A", "--allow", "B", "--strength", "strong", "--model_path", str(model)]
    assert main(["node", "--send_to", "PACS@h:1", *words]) == 0
    slice_model = save_slice_model(tmp_path / "z.pth")
    words += ["--slice_spacing", "1", "--slice_model", str(slice_model)]
    assert main(["node", "--send_to", "PACS@h:1", *words]) == 0


@pytest.mark.usefixtures("signals")
def test_a_node_without_destination_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model(tmp_path / "best.pth")
    assert main(["node", "--model_path", str(model), "--queue", str(tmp_path / "queue")]) == 2
    assert "--send_to" in capsys.readouterr().err
    assert main(["node", "--list", "--queue", str(tmp_path / "none")]) == 1


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--anonymize"], "--anonymize needs dicom-anonymizer: pip install"),
        (["--enhanced"], "--enhanced needs highdicom: pip install"),
        (["--compress", "jpegls"], "--compress: no encoder of JPEG-LS Lossless Image Compression is installed"),
        (["--compress", "htj2k"], "--compress: the installed imagecodecs cannot encode HTJ2K"),
    ],
)
def test_a_node_that_lacks_a_package_is_refused_at_its_start(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variants._rules.cache_clear()
    for name in ("dicomanonymizer", "dicomanonymizer.simpledicomanonymizer"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("ctsr.dicom.variants.find_spec", lambda _: None)
    monkeypatch.setattr("ctsr.dicom.encode.get_encoder", lambda _: Mock(is_available=False))
    monkeypatch.setattr("imagecodecs.HTJ2K", Mock(available=False))
    words = ["--model_path", str(save_model(tmp_path / "best.pth")), "--queue", str(tmp_path / "queue")]
    assert main(["node", "--send_to", "PACS@h:1", *words, *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "queue").exists(), "refused before anything is made"
