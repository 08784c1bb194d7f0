"""Trainings that are cut off, and checkpoints compared to the bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ctsr.checkpoint import Checkpoint, load_checkpoint
from ctsr.train import RunOptions, plain_options
from ctsr.train.session import TrainResult

KILLERS = {
    # In the second epoch, after the first of its steps.
    "in the middle of an epoch": """
update = learner.TrainableModel.update
def counted(self, fabric, loss):
    count['steps'] += 1
    if count['steps'] == int(sys.argv[2]):
        die()
    return update(self, fabric, loss)
learner.TrainableModel.update = counted
""",
    # While the second epoch's last.pth is being written: half of it is in the temporary file.
    "in the middle of a save": """
save = files.torch.save
def half(content, file, **keywords):
    save(content, file, **keywords)
    if content['training']['standing']['epochs_done'] == 2:
        file.truncate(file.tell() // 2)
        file.flush()
        die()
files.torch.save = half
""",
}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of nested containers by its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}/{i}").items()}
    return {name: value}


def assert_same_state(one: Checkpoint, other: Checkpoint) -> None:
    """Equal to the bit but for the clock and for how long the runs were meant to be."""
    theirs = [flat({"weights": dict(c.weights), "ema": c.ema, "training": c.training}) for c in (one, other)]
    assert theirs[0].keys() == theirs[1].keys()
    for name, value in theirs[0].items():
        if name.endswith("time_sec") or "/config/" in name:
            continue
        same = torch.equal(value, theirs[1][name]) if isinstance(value, torch.Tensor) else value == theirs[1][name]
        assert same, name


def gradients(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What moved each parameter in the only step of a run, a tenth of it: Adam's first moment.

    The weights themselves tell less: Adam's first step is the gradient's sign, whatever its size.
    """
    optimizers = {"generator": checkpoint.training["optimizer"]} | {
        name: learner["optimizer"] for name, learner in checkpoint.training.get("others", {}).items()
    }
    return {
        f"{name}/{index}": moments["exp_avg"]
        for name, optimizer in optimizers.items()
        for index, moments in optimizer["state"].items()
    }


def assert_same_gradients(one: Checkpoint, other: Checkpoint) -> None:
    """Equal within the rounding of sums in another order, which is that of the network's larger gradients.

    The gradient of the last bias of a relativistic discriminator is 0 but for rounding: 1.3e-4 with AVX-512.
    """
    ours, theirs = gradients(one), gradients(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        network = name.partition("/")[0]
        largest = max(float(other.abs().max()) for key, other in ours.items() if key.startswith(network))
        assert float((value - theirs[name]).abs().max()) <= 5e-4 * largest, name


def last(result: TrainResult) -> Checkpoint:
    return load_checkpoint(result.folder / "last.pth")


def killed(options: RunOptions, tmp_path: Path, *, command: str, when: str, updates: int) -> Path:
    """The run folder of a training in a process of its own, which was killed at a moment of its choosing.

    `updates`: in the middle of an epoch, the update of a network that never came, counted from 1.
    """
    kind = type(options).__name__
    program = tmp_path / "victim.py"
    program.write_text(
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "import ctsr.checkpoint.files as files, ctsr.train.loop as learner\n"
        f"from ctsr.train import {kind}, from_plain\n"
        f"from ctsr.train.{'run' if command == 'train' else command} import {command}\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "count = {'steps': 0}\n"
        f"{KILLERS[when]}\n"
        "if __name__ == '__main__':\n"
        f"    {command}({kind}(**from_plain({kind}, json.loads(sys.argv[1]))))\n"
    )
    words = [sys.executable, str(program), json.dumps(plain_options(options)), str(updates)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = options.runs.iterdir()
    return folder
