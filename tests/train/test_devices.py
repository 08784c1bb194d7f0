"""Training on several devices: one run folder, and the losses of a single device. CPU processes stand in for GPUs."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from lightning_fabric import Fabric

from ctsr.checkpoint import load_checkpoint
from ctsr.errors import CtsrError
from ctsr.train import FinetuneOptions
from ctsr.train.devices import ending_in_one_line, heed_signals
from ctsr.train.finetune import finetune
from tests.made.training import assert_same_gradients, assert_same_state

CTSR = (str(Path(sys.executable).with_name("ctsr")),)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ctsr")
SMALL = shlex.split("--patch_size 24 --batch_size 4 --num_workers 0 --device cpu --epochs 2")
NET = shlex.split("--nf 4 --nb 1 --gc 2")
GAN = shlex.split("--patch 24 --num_workers 0 --device cpu --perceptual none --warmup_g_only 0 --ema 0.9 --clip_grad 0")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run(folder: Path, program: tuple[str, ...], *words: str) -> Path:
    """Train in processes of its own, as a user would; the one run folder that it makes."""
    done = subprocess.run(
        [*program, *words, "--store", str(folder / "store")],
        cwd=folder,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1
    (made,) = (folder / "runs").iterdir()
    assert {"best.pth", "last.pth", "metrics.csv", "config.json"} <= {path.name for path in made.iterdir()}
    return made


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def on_one_device(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The rows of a run to compare with."""
    return rows(run(tmp_path_factory.mktemp("one"), (*CTSR, "train"), *SMALL, *NET, "--data_root", str(root)))


def assert_as_on_one(found: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    assert [row["global_step"] for row in expected] == [row["global_step"] for row in found] == ["4", "8"]
    for name in ("train_l1", "val_l1"):
        assert [float(row[name]) for row in found] == pytest.approx([float(row[name]) for row in expected], rel=1e-4)


def test_two_devices_under_torchrun_make_one_run_with_the_losses_of_one_device(
    root: Path, tmp_path: Path, on_one_device: list[dict[str, str]]
) -> None:
    made = run(tmp_path, (*TORCHRUN, "train"), *SMALL, *NET, "--data_root", str(root))
    assert_as_on_one(rows(made), on_one_device)


def test_two_devices_make_one_run_with_the_losses_of_one_device_and_continue_it(
    root: Path, tmp_path: Path, on_one_device: list[dict[str, str]]
) -> None:
    made = run(tmp_path, (*CTSR, "train", "--devices", "2"), *SMALL, *NET, "--data_root", str(root))
    assert_as_on_one(rows(made), on_one_device)
    again = run(tmp_path, (*CTSR, "train"), "--resume", str(made), "--epochs", "3", "--device", "cpu")
    assert [row["epoch"] for row in rows(again)] == ["1", "2", "3"]


def test_fine_tuning_on_two_processes_has_the_gradients_of_one(
    root: Path, finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path
) -> None:
    words = (*GAN, "--data_root", str(root), "--pretrained_g", str(pretrained), "--epochs", "1", "--lambda_gan", "1")
    folders = []
    for name, program in (("one", CTSR), ("two", TORCHRUN)):
        (tmp_path / name).mkdir()
        folders.append(run(tmp_path / name, (*program, "finetune"), *words, "--batch_size", "16"))
    one, two = (load_checkpoint(folder / "last.pth") for folder in folders)
    assert_same_gradients(one, two)
    ours, theirs = (rows(folder)[0] for folder in folders)
    for name in ("train_gan", "train_disc", "train_l1", "val_l1", "psnr", "val_consistency_hu"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name


GAME = """
import torch
from lightning_fabric import Fabric
from ctsr.losses import discriminator_loss, generator_loss
from ctsr.train.context import TrainingContext
from ctsr.train.devices import ending_its_process_group
@ending_its_process_group  # as every training does: a thread of gloo that is left aborts the process at its end
def game():
    fabric = Fabric(accelerator='cpu', devices=2, strategy='ddp')
    fabric.launch()
    context = TrainingContext(fabric, None, None, None, 1, None)
    torch.manual_seed(0)
    scores = 5 * torch.randn(2, 8)
    mine = slice(4 * fabric.global_rank, 4 * fabric.global_rank + 4)
    for loss in (generator_loss, discriminator_loss):
        whole, half = scores.clone().requires_grad_(), scores[:, mine].clone().requires_grad_()
        expected = loss('ragan', *whole)
        found = loss('ragan', *half, mean=context.mean_over_devices)
        expected.backward()
        found.backward()
        # The mean of what the devices have, as DDP takes it, is the loss of all and its gradient.
        assert torch.allclose(context.mean({'it': found})['it'] * torch.ones(()), expected), loss
        assert torch.allclose(half.grad / 2, whole.grad[:, mine]), loss
        alone = loss('ragan', *scores[:, mine])
        assert not torch.allclose(alone, found), 'this test could not fail'
    print('equal')
game()
"""


def test_relativistic_means_are_those_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(GAME)
    done = subprocess.run(
        [*TORCHRUN[:-2], str(tmp_path / "game.py")], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == 2


RANKS_AGREE = """
import hashlib, os, sys, torch
from pathlib import Path
from ctsr.cli.main import main
from ctsr.train import loop
bare = []
class Kept(loop.TrainableModel):
    def __init__(self, *parts):
        super().__init__(*parts)
        bare.append(self.bare)
loop.TrainableModel = Kept
status = main(sys.argv[1:])
values = b''.join(value.numpy().tobytes() for net in bare for value in net.state_dict().values())
threads = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
gloo = [name for name in threads if 'gloo' in name]
said = f'networks: {len(bare)}, weights {hashlib.sha256(values).hexdigest()}, threads of gloo: {gloo}, '
said += f'group: {torch.distributed.is_initialized()}\\n'
os.write(1, said.encode())  # in one piece: two processes write here
sys.exit(status)
"""


def test_all_processes_end_with_equal_parameters(root: Path, pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "agree.py").write_text(RANKS_AGREE)
    words = (*GAN, "--data_root", str(root), "--pretrained_g", str(pretrained), "--epochs", "2", "--batch_size", "4")
    done = subprocess.run(
        [*TORCHRUN[:-2], str(tmp_path / "agree.py"), "finetune", *words, "--store", str(tmp_path / "store")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, other = [line for line in done.stdout.splitlines() if line.startswith("networks: ")]
    assert one == other
    assert one.startswith("networks: 2, ")
    # A thread of gloo that needs the interpreter while it ends aborts the process: none is left.
    assert one.endswith("threads of gloo: [], group: False")


def test_a_process_that_is_killed_ends_the_run_which_can_be_continued(
    root: Path, finetuning: FinetuneOptions, pretrained: Path, tmp_path: Path
) -> None:
    words = (*GAN, "--data_root", str(root), "--pretrained_g", str(pretrained), "--epochs", "400", "--patience", "0")
    running = subprocess.Popen(
        [*TORCHRUN, "finetune", *words, "--batch_size", "4", "--store", str(tmp_path / "store")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    _wait_for(tmp_path, "last.pth")
    victim = next(p for p in psutil.Process(running.pid).children() if "RANK=1" in _environment(p))
    victim.send_signal(signal.SIGKILL)
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    (folder,) = (tmp_path / "runs").iterdir()
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert said
    for line in said:
        assert re.fullmatch(
            "error: (another process of this training ended early"
            "|this training was told to end, or another of its processes has died); "
            f"--resume {folder.relative_to(tmp_path)} continues from the last whole epoch",
            line,
        )
    done = load_checkpoint(folder / "last.pth").training["standing"]["epochs_done"]
    resumed = finetune(
        FinetuneOptions(resume=str(folder), epochs=done + 1, store=finetuning.store, device="cpu"),
        given={"resume", "epochs", "store", "device"},
    )
    assert resumed.state.epochs_done == done + 1


def _environment(process: psutil.Process) -> list[str]:
    return [f"{name}={value}" for name, value in process.environ().items()]


def _wait_for(folder: Path, name: str) -> None:
    until = time.monotonic() + 120
    while not list(folder.rglob(name)):
        assert time.monotonic() < until, f"no {name} after two minutes"
        time.sleep(0.1)


def test_a_compiled_generator_is_the_same_generator(root: Path, tmp_path: Path) -> None:
    made = []
    for name, flags in (("plain", ()), ("compiled", ("--compile",))):
        (tmp_path / name).mkdir()
        words = (*SMALL[:-1], "1", *NET, "--data_root", str(root), "--batch_size", "16", *flags)
        made.append(load_checkpoint(run(tmp_path / name, (*CTSR, "train"), *words) / "last.pth"))
    assert made[0].weights.keys() == made[1].weights.keys()
    assert_same_gradients(*made)


def test_one_process_of_torchrun_is_a_training_by_itself(root: Path, tmp_path: Path) -> None:
    alone = tuple(word.replace("node=2", "node=1") for word in TORCHRUN)
    made = []
    for name, program in (("plain", CTSR), ("torchrun", alone)):
        (tmp_path / name).mkdir()
        folder = run(tmp_path / name, (*program, "train"), *SMALL, *NET, "--data_root", str(root))
        made.append(load_checkpoint(folder / "last.pth"))
    assert_same_state(*made)


def test_a_batch_that_the_devices_cannot_share_evenly_is_refused(tmp_path: Path) -> None:
    words = ["train", "--batch_size", "3"]
    done = subprocess.run([*CTSR, *words, "--devices", "2"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --batch_size 3 cannot be shared evenly by 2 devices\n"
    done = subprocess.run(
        [*TORCHRUN, *words], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert "error: --batch_size 3 cannot be shared evenly by 2 processes" in done.stderr


def test_bad_input_is_one_line_however_many_processes_there_are(tmp_path: Path) -> None:
    (tmp_path / "exams").mkdir()
    words = ["train", "--device", "cpu", "--data_root", "exams"]
    done = subprocess.run(
        [*TORCHRUN, *words], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "exams" in errors[0]
    assert "monitoredBarrier" not in done.stderr


class Loses:
    """What Python calls a finalizer of: errors that are raised there are printed and lost."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def train_three_steps(number: int, done: list[int], *, asks: bool) -> None:
    """The second of three steps loses the error of signal `number`."""
    with ending_in_one_line(Fabric(accelerator="cpu", devices=1), "advice"):
        for step in range(3):
            if asks:
                heed_signals()  # as before each step
            if step == 1:
                Loses(number)
            done.append(step)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, CtsrError), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("asks", [True, False])
def test_a_signal_whose_error_python_loses_ends_the_training_all_the_same(
    number: int, error: type[BaseException], asks: bool
) -> None:
    before = signal.getsignal(number)
    done: list[int] = []
    with pytest.raises(error):
        train_three_steps(number, done, asks=asks)
    assert done == ([0, 1] if asks else [0, 1, 2])
    assert signal.getsignal(number) is before
    heed_signals()
