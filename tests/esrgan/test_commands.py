"""Every command that the scripts are documented with runs as written, from inside `ESRGAN/`, with a shell's quoting."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctsr.cli.main import SCRIPTS
from tests.made.exams import save_patients
from tests.needs import needs_weights

HERE = Path(__file__).parent
SCRIPT_FOLDER = HERE.parents[1] / "ESRGAN"
PATIENTS = ("14655", "14797", "15040", "15041", "15042", "15043", "15044")
RUN = "rrdb_x2_blurnoise_20250912-114004"
SMALL = shlex.split("--epochs 1 --nf 4 --nb 1 --gc 2 --patch_size 32 --batch_size 4")
"""What makes a training a matter of seconds; nothing else is added to the commands."""

SHORT = shlex.split("--epochs 1 --patch 32 --batch_size 8")
"""The same for a fine-tuning."""

NO_PICTURES = "--no_plots"
"""Half the time of a small evaluation is its pictures."""
DRAWN = (1, 4)
"""Which evaluations draw them: one of validation patients in a window, one of test patients."""


def commands() -> list[str]:
    text = (HERE / "COMMANDS.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    # A shell joins lines that end in a backslash; `shlex` does not.
    return [block.strip().replace("\\\n", " ") for block in blocks]


def named(*verbs: str) -> list[str]:
    return [command for command in commands() if SCRIPTS[command.split()[1]] in verbs]


class Folder:
    """A copy of `ESRGAN/` to work in, with exams beside it."""

    def __init__(self, top: Path) -> None:
        self.path = top / "ESRGAN"
        shutil.copytree(SCRIPT_FOLDER, self.path)
        self.raw = top / "data" / "Spine-Mets-CT-SEG"
        save_patients(self.raw, PATIENTS, slices=3, size=40)

    def run(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        """The command as a POSIX shell reads it: outside quotes it eats the backslashes."""
        return subprocess.run(
            [*self.words(command), *more], cwd=self.path, capture_output=True, text=True, env=self.environment()
        )

    @contextmanager
    def running(self, command: str, *more: str) -> Iterator[subprocess.Popen[str]]:
        """The same, while it goes on; ended with Ctrl-C at the end of the block."""
        started = subprocess.Popen(
            [*self.words(command), *more],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )
        try:
            yield started
            started.send_signal(signal.SIGINT)
            started.wait(timeout=60)
        finally:
            started.kill()
            started.communicate()

    def words(self, command: str) -> list[str]:
        filled = command.format(
            RAW=self.raw,
            PREPROCESSED=self.path / "preprocessed_data",
            PATIENT=self.raw / "15041",
            KLEIN=self.raw,
        )
        python, *words = shlex.split(filled)
        assert python == "python"
        return [sys.executable, *words]

    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_CACHE_HOME": str(self.path.parent / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """After the first commands: preprocessed data, a run under the documented name, and a fine-tuned model's place."""
    folder = Folder(tmp_path_factory.mktemp("user"))
    for command in (*named("preprocess"), *named("split")):
        done = folder.run(command)
        assert done.returncode == 0, done.stderr
    done = folder.run(named("train")[0], *SMALL)
    assert done.returncode == 0, done.stderr
    (run,) = (folder.path / "runs").iterdir()
    run.rename(run.with_name(RUN))
    (folder.path / "finetune_outputs").mkdir()
    shutil.copy(folder.path / "runs" / RUN / "best.pth", folder.path / "finetune_outputs" / "best.pth")
    return folder


def test_the_scripts_are_those_of_the_text() -> None:
    assert {path.name for path in SCRIPT_FOLDER.glob("*.py")} == set(SCRIPTS)
    assert {command.split()[1] for command in commands()} == set(SCRIPTS)


def test_preprocessing_keeps_the_tree_and_writes_its_logs_in_the_output_folder_only(folder: Folder) -> None:
    made = folder.path / "preprocessed_data"
    assert {path.name for path in made.iterdir() if path.is_dir() and not path.name.startswith(".")} == {
        f"{name}pp" for name in PATIENTS
    }
    source = {path.relative_to(folder.raw / "15041") for path in (folder.raw / "15041").rglob("IM*")}
    assert {path.relative_to(made / "15041pp") for path in (made / "15041pp").rglob("IM*")} == source
    logs = list(folder.path.parent.rglob("preprocessing_log.*"))
    assert {path.parent for path in logs} == {made}
    assert len(json.loads((made / "preprocessing_log.json").read_text())) == len(PATIENTS)


def test_raw_and_preprocessed_data_split_alike(folder: Folder) -> None:
    kept = (folder.path / "splits" / "patient_split_seed42.json").read_text()
    done = folder.run('python dump_patient_split.py --root "preprocessed_data" --out_dir again')
    assert done.returncode == 0, done.stderr
    again = json.loads((folder.path / "again" / "patient_split_seed42.json").read_text())["splits"]
    parts = json.loads(kept)["splits"]
    assert {name: [row["patient_id"] for row in parts[name]] for name in parts} == {
        name: [row["patient_id"] for row in again[name]] for name in again
    }
    assert all(name in done.stdout for name in PATIENTS)


@pytest.mark.parametrize("command", named("train")[1:])
def test_train(folder: Folder, command: str, tmp_path: Path) -> None:
    done = folder.run(command, *SMALL, "--runs", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    mode = command.split("--degradation ")[1].split()[0] if "--degradation" in command else "blurnoise"
    assert run.name.startswith(f"rrdb_x2_{mode}_")
    assert (run / "best.pth").is_file()


@pytest.mark.parametrize("command", named("finetune"))
def test_finetune(folder: Folder, command: str, tmp_path: Path) -> None:
    """With the real VGG16: the commands ask for a perceptual loss."""
    done = folder.run(command, *SHORT, "--cache", str(needs_weights("vgg16")), "--runs", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    if "--out_dir" in command:
        run = folder.path / "finetune_outputs"
        assert "taken for splits/patient_split_seed42.json: the separators were lost" in done.stderr
        assert "finetune_outputs held an earlier run, which is now in finetune_outputs/" in done.stderr
        assert "the newest run of any degradation, trained with L1" in done.stderr
    else:
        (run,) = (tmp_path / "runs").iterdir()
        assert run.name.startswith("finetune_x2_blurnoise_")
        assert "the newest L1 run" in done.stderr
    (row,) = csv.DictReader((run / "metrics.csv").open())
    assert float(row["train_perc"]) > 0
    config = json.loads((run / "config.json").read_text())
    for flag, value in re.findall(r"--(lambda_\w+|early_metric|warmup_g_only|patience) (\S+)", command):
        assert config[flag] == (value if flag == "early_metric" else float(value))


@pytest.mark.parametrize(("number", "command"), enumerate(named("evaluate")))
def test_evaluate(folder: Folder, number: int, command: str) -> None:
    drawn = number in DRAWN
    done = folder.run(command, *([] if drawn else [NO_PICTURES]))
    assert done.returncode == 0, done.stderr
    for method in ("Interpolation (Bilinear)", "Interpolation (Bicubic)", "Model (RRDB)"):
        assert method in done.stdout
    made = max((folder.path / "eval_results").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert (made / "metrics.csv").is_file()
    assert bool(list(made.rglob("*.png"))) == drawn
    summary = json.loads((made / "summary.json").read_text())
    assert summary["split"] == command.split("--split ")[1].split()[0]
    assert ("preset-soft_tissue" in made.name) == ("--preset soft_tissue" in command)
    if "--device cuda" in command and summary["config"]["device"] == "cpu":
        assert "no GPU is available" in done.stderr
    if r"finetune_outputs\best.pth" in command:
        assert "the separators were lost" in done.stderr


def test_the_long_and_the_short_command_are_the_same(folder: Folder) -> None:
    long, short = (command for command in named("evaluate") if f"{RUN}" in command)
    tables = []
    for command in (long, short):
        done = folder.run(command, "--output_dir", f"same_{len(tables)}", NO_PICTURES)
        assert done.returncode == 0, done.stderr
        (made,) = (folder.path / f"same_{len(tables)}").iterdir()
        assert re.fullmatch(r"test__best__globalHU_-1000_2000_on_test_set__\d{8}-\d{6}", made.name)
        tables.append((made / "metrics.csv").read_bytes())
    assert tables[0] == tables[1]


def asked(address: str, question: str) -> bytes:
    with urllib.request.urlopen(f"{address}api/{question}", timeout=60) as answer:
        return answer.read()


def expected_patient(command: str) -> str:
    found = re.search(r"(\d{5})pp", command)
    return found[1] if found else "15041" if "{PATIENT}" in command else PATIENTS[0]


@pytest.fixture(scope="module")
def summary(folder: Folder) -> Path:
    """Of an evaluation by the documented run."""
    done = folder.run(next(one for one in named("evaluate") if RUN in one), "--output_dir", "to_view", NO_PICTURES)
    assert done.returncode == 0, done.stderr
    (made,) = (folder.path / "to_view").glob("*/summary.json")
    return made


@pytest.mark.parametrize("command", named("view"))
def test_view(folder: Folder, summary: Path, command: str) -> None:
    if "summary.json" in command:
        # The evaluation stands under a time of its own, and its patients are those of another split.
        patient = json.loads(summary.read_text())["patients"][0]
        command = re.sub(r"eval_results\S+summary\.json", summary.as_posix(), command).replace("14655", patient)
    with folder.running(command, "--no_browser") as viewer:
        assert viewer.stderr is not None
        said: list[str] = []
        for line in viewer.stderr:
            said.append(line)
            if line.startswith("Viewer: "):
                break
        assert said, "it ended without a word"
        assert said[-1].startswith("Viewer: http://127.0.0.1:"), "".join(said)
        address = said[-1].split()[1]
        state = json.loads(asked(address, "state"))
        assert state["series"][state["first"]]["patient"] == expected_patient(command)
        assert state["window"] == ([500, 3000] if "--preset global" in command else [40, 400])
        assert ("SR" in state["panels"]) == ("visualize_lr_sr_hr" in command)
        seen = "series=0&setting=0&slice=1&plane=axial&index=1"
        assert len(asked(address, f"image?panel=LR&{seen}")) > 0
        drawn = json.loads(asked(address, "look?page=p&turn=1&series=0&setting=0&slice=1"))
        assert drawn["departures"] == []
        assert drawn["sampling"] == ("det-slice" if "det-slice" in command else "volume")
        if "--dose_factor_range 0.25 0.5" in command:
            assert 0.25 <= drawn["dose"] <= 0.5
    assert viewer.returncode == 0
