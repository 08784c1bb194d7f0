"""The whole way: dcmtk's storescu → a node, which is killed → Debian's Orthanc."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from ctsr.cli.main import main
from ctsr.node.queue import JobState, Queue
from ctsr.node.service import serve
from ctsr.node.settings import NodeOptions
from ctsr.progress import Progress
from ctsr.upscale.run import Report
from tests.made.ct import save
from tests.made.model import save_model
from tests.made.orthanc import Archive, running
from tests.needs import needs_program
from tests.node.conftest import Log, associate, ct_slices, store

ENDS_WITHIN_S = 120.0


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


class Process:
    """`ctsr node` in a process of its own."""

    def __init__(self, queue: Path, *flags: str) -> None:
        words = ["node", "--port", "0", "--queue", str(queue), "--min_free", "0", *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ctsr", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        self.port = int(json.loads(line)["port"])

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode


def test_what_a_killed_node_had_acknowledged_comes_back_once(
    orthanc: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storescu = needs_program("storescu", "dcmtk")
    model = save_model(tmp_path / "best.pth")
    files = [str(save(ds, tmp_path / "in" / f"{ds.InstanceNumber}.dcm")) for ds in ct_slices(3)]
    send_to = f"ORTHANC@127.0.0.1:{orthanc.dicom_port}"
    flags = ["--send_to", send_to, "--model_path", str(model), "--engine", "torch", "--retry_after", "0.2"]
    node = Process(tmp_path / "queue", *flags, "--quiet", "3600")
    sent = [storescu, "-aet", "ROUTER", "-aec", "CTSR", "127.0.0.1", str(node.port), *files]
    subprocess.run(sent, check=True, capture_output=True)
    assert node.end(signal.SIGKILL) == -signal.SIGKILL
    assert main(["node", "--list", "--queue", str(tmp_path / "queue")]) == 0
    assert " receiving " in capsys.readouterr().out
    node = Process(tmp_path / "queue", *flags, "--quiet", "0")
    wait_for(lambda: len(orthanc.get("/instances")) == 3)
    # A caller that was not told so in time sends again: known, and nothing is done twice.
    store(node.port, ct_slices(1))
    wait_for(lambda: _states(tmp_path / "queue") == [JobState.SENT])
    assert node.end(signal.SIGTERM) == 0
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


class Interpolator:
    """Stands for a network: hands the images on as they are, or fails, and counts."""

    settings = "test"

    def __init__(self) -> None:
        self.broken = True

    def __call__(self, source: Path, out: Path, progress: Progress) -> Report:
        if self.broken:
            raise RuntimeError("a mistake of a library")
        for path in source.iterdir():
            save(dcmread(path), out / path.name)
        return Report((), (), ())


def test_what_failed_is_listed_and_tried_again_when_told_and_results_go_by_stow_rs(
    orthanc: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    before = len(orthanc.get("/instances"))
    queue = tmp_path / "queue"
    options = NodeOptions(port=0, queue=queue, quiet=0, min_free=0, send_to=f"{orthanc.url}/dicom-web")
    log, stop, upscaler = Log(), threading.Event(), Interpolator()
    thread = threading.Thread(target=serve, args=(options, upscaler, log.write, stop))
    thread.start()
    try:
        wait_for(lambda: bool(log["listening"]))
        assert store(log["listening"][0]["port"], ct_slices(2, series="1.2.7")) == [0, 0]
        wait_for(lambda: bool(log["failed"]))
        assert main(["node", "--list", "--queue", str(queue)]) == 0
        assert "a mistake of a library (RuntimeError)" in capsys.readouterr().out
        upscaler.broken = False
        assert main(["node", "--retry", "--queue", str(queue)]) == 0
        wait_for(lambda: bool(log["sent"]))
        assert len(orthanc.get("/instances")) == before + 2
    finally:
        stop.set()
        thread.join(ENDS_WITHIN_S)
    assert not associate(log["listening"][0]["port"]).is_established
    assert log.lines[-1]["event"] == "stopped"
    assert not any(word in json.dumps(log.lines) for word in ("Doe", "Jane", '"P1"'))


def test_a_node_without_destination_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model(tmp_path / "best.pth")
    words = ["node", "--model_path", str(model), "--queue", str(tmp_path / "queue")]
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert main(words) == 2
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert "--send_to" in capsys.readouterr().err
    assert main(["node", "--list", "--queue", str(tmp_path / "none")]) == 1
