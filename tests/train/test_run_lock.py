"""Two trainings never write into one folder at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from ctsr.errors import UsageError
from ctsr.train.run_folder import L1Row, RunWriter, TrainingState

HOLDER = """
import sys
from pathlib import Path
from ctsr.train.run_folder import L1Row, RunWriter, TrainingState
writer = RunWriter(Path(sys.argv[1]), TrainingState[L1Row](), None)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_a_running_training_writes_into_is_refused_until_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another training writes into it now"):
            RunWriter(tmp_path, TrainingState[L1Row](), None)
        holder.kill()
    for _ in range(2):
        RunWriter(tmp_path, TrainingState[L1Row](), None).close()
