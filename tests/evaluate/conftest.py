"""A small root of exams and a small model that was trained on some of its patients."""

from pathlib import Path

import pytest

from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from tests.made.exams import save_patient, save_patients
from tests.made.model import save_model


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 3 slices; `dora` has a second series, of 2 slices."""
    folder = tmp_path_factory.mktemp("exams")
    save_patients(folder, slices=3, size=45, grow=1)
    save_patient(folder, "dora", slices=2, size=50, seed=9, series="1.3.99")
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ×2 net; train anna, bert and cleo; val dora and emil; test fred."""
    return save_model(tmp_path_factory.mktemp("runs") / "rrdb_x2_blurnoise_20250912-114004" / "best.pth")


@pytest.fixture
def subject(model_path: Path) -> ModelUnderTest:
    return load_model_under_test(str(model_path), device="cpu")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from any `splits/` and `runs/` that may lie in the working folder."""
    monkeypatch.chdir(tmp_path)
