"""As in a container: a user without home or name, the C locale, and a pipe that few characters pass."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pytest
from pydicom import dcmread

import ctsr
from ctsr.hashing import derived_uid
from tests.made.exams import save_patient
from tests.needs import needs

pytestmark = pytest.mark.slow

NOBODY, NAMELESS = 65534, 54321
"""A user that every system knows, and a number that no system has a name for, as orchestrators choose them."""
PATIENTS = ("anna", "bert", "Мария", "tab\t\x1b]0;title\x07")


class Container:
    """Commands of another user than the one who runs the tests."""

    def __init__(self, place: Path, uid: int, home: str | None, encoding: str) -> None:
        self.place, self.uid, self.encoding = place, uid, encoding
        self.environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "PYTHONIOENCODING": encoding,
            "PYTHONPATH": os.pathsep.join([str(Path(ctsr.__file__).parents[1]), sysconfig.get_path("purelib")]),
            "TMPDIR": str(place / "tmp"),
            "OMP_NUM_THREADS": "1",
        }
        if home is not None:
            self.environment["HOME"] = home

    @cached_property
    def interpreter(self) -> str:
        """The tests' own, or where that lies in a private home the system's of the same version; empty if neither."""
        for path in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
            with suppress(OSError):
                if self.run([path, "-c", "import ctsr"]).returncode == 0:
                    return path
        return ""

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words,
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            timeout=300,
            check=False,
        )

    def ctsr(self, *words: str, status: int = 0) -> str:
        """What a command prints, which has to succeed and to be fit for any terminal of this encoding."""
        done = self.run([self.interpreter, "-m", "ctsr", *words])
        shown, errors = (stream.decode(self.encoding) for stream in (done.stdout, done.stderr))
        assert done.returncode == status, shown + errors
        for word in ("Traceback", "Errno", "MPLCONFIGDIR", "mkdir"):
            assert word not in shown + errors
        assert not any(ord(character) < 32 and character != "\n" for character in shown + errors)
        return shown + errors


@pytest.fixture(scope="module")
def exams() -> Iterator[Path]:
    """A root that everybody may read and nobody may write, outside of pytest's folders, which are their owner's."""
    with tempfile.TemporaryDirectory(prefix="ctsr-exams-") as name:
        folder = Path(name)
        for seed, patient in enumerate(PATIENTS):
            uid = derived_uid("series", seed)
            save_patient(folder, f"P{seed}", slices=3, size=48, seed=seed, series=uid)
            (folder / f"P{seed}").rename(folder / patient)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(
    params=[(NOBODY, None, "cp1251"), (NAMELESS, "/", "cp437"), (NOBODY, "read-only", "ascii")],
    ids=["no home", "no name", "read-only home"],
)
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    # `extra_groups` and `user` are for root alone; without another user nothing here would be refused.
    needs(os.geteuid() == 0, "run as root, who may become the user of a container")
    uid, home, encoding = request.param
    with tempfile.TemporaryDirectory(prefix="ctsr-container-") as name:
        place = Path(name)
        (place / "tmp").mkdir()
        (place / "read-only").mkdir(mode=0o555)
        for folder in (place, place / "tmp"):
            os.chown(folder, uid, uid)
        if home == "read-only":
            os.chown(place / home, uid, uid)
            home = str(place / home)
        made = Container(place, uid, home, encoding)
        needs(bool(made.interpreter), "let others read the source folder and Python")
        yield made


def test_every_command_works_for_a_user_without_a_home(container: Container, exams: Path) -> None:
    name = {"cp1251": "Мария", "cp437": "?????", "ascii": "?????"}[container.encoding]
    assert "ctsr-x2" in container.ctsr("models")
    table = container.ctsr("scan", str(exams))
    assert "4 patients with 4 usable series, 12 slices" in table
    assert name in table
    assert r"tab\t\x1b]0;title\x07" in table
    assert "12 slices written" in container.ctsr("preprocess", str(exams), "--out_dir", "resampled")
    said = container.ctsr("upscale", "resampled", "finer", "--only", "Мария*", "--device", "cpu")
    assert "CTSR_CACHE" in said, "where its cache lies now is said"
    assert name in said
    [result] = {path.parent for path in (container.place / "finer").rglob("*.dcm")}
    assert dcmread(next(result.glob("*.dcm"))).Rows == 84
    evaluated = ("--root", "resampled", "--split", "test", "--model_path", "ctsr-x2", "--max_slices_per_patient", "1")
    assert "Results: " in container.ctsr("evaluate", *evaluated, "--device", "cpu")
    [report] = (container.place / "eval_results").rglob("report.html")
    assert "</html>" in report.read_text(encoding="utf-8")
    assert "Cache in" in container.ctsr("cache", "list")
    assert (container.place / "tmp" / f"ctsr-cache-{container.uid}").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("container", [(NOBODY, None, "cp1251")], indirect=True, ids=["no home"])
def test_a_model_is_trained_quantized_shown_and_passed_on_by_a_user_without_a_home(
    container: Container, exams: Path
) -> None:
    small = ("--patch_size", "32", "--batch_size", "2", "--data_root", str(exams))
    net = ("--arch", "edsr", "--nf", "4", "--nb", "1")
    assert "best.pth" in container.ctsr("train", *small, *net, "--epochs", "1", "--num_workers", "1", "--device", "cpu")
    assert "written: " in container.ctsr("quantize", *small, "--steps", "1", "--lr", "1e-6")
    assert "shot.png" in container.ctsr("view", str(exams / "Мария"), "--snapshot", "shot.png", "--device", "cpu")
    said = container.ctsr("export", "model.onnx")
    assert "written: model.onnx" in said
    assert "telemetry" not in said
    assert (container.place / "shot.png").stat().st_size > 10_000


def test_a_folder_that_cannot_be_written_is_one_line_with_a_remedy(container: Container, exams: Path) -> None:
    said = container.ctsr("split", "--root", str(exams), "--out_dir", str(exams / "splits"), status=1)
    assert "name another folder, or change its permissions" in said
    assert ".part" not in said
