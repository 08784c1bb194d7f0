"""The synthetic exam set as tests use it: made once a session, whatever the number of pytest processes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctsr.phantom import make_exams
from ctsr.phantom.truth import ExamTruth, read_truth

PATIENTS = 6
SLICES = 5


@dataclass(frozen=True)
class DemoExams:
    """A root with one folder per patient, and what is known of every axial series below it."""

    root: Path
    truths: tuple[ExamTruth, ...]

    def truth(self, patient_id: str) -> ExamTruth:
        """The first series of a patient."""
        return next(truth for truth in self.truths if truth.patient_id == patient_id)


def shared_demo_exams(factory: pytest.TempPathFactory) -> DemoExams:
    """Six patients of a few slices; under pytest-xdist one process makes them and the others wait."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo_exams"
    truth = root / "truth.json"
    try:
        root.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not truth.exists():
            assert time.monotonic() < deadline, f"{root} was begun by another pytest process and never finished"
            time.sleep(0.1)
    else:
        make_exams(root, patients=PATIENTS, slices=SLICES, workers=1)
    return DemoExams(root, read_truth(truth))
