"""A small root of exams that trainings are tried on."""

from pathlib import Path

import pytest

from ctsr.train.options import TrainOptions
from tests.made.exams import save_patients


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 4 slices of 48² pixels: 4 to train on, 1 to validate, 1 to test."""
    return save_patients(tmp_path_factory.mktemp("exams"), slices=4, size=48)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def options(root: Path, store: Path, tmp_path: Path) -> TrainOptions:
    """Three epochs of a net with a few weights; everything it writes goes below `tmp_path`."""
    return TrainOptions(
        data_root=(root,),
        epochs=3,
        batch_size=4,
        patch_size=24,
        lr=1e-3,
        num_workers=0,
        nf=4,
        nb=1,
        gc=2,
        device="cpu",
        runs=tmp_path / "runs",
        splits=tmp_path / "splits",
        store=store,
    )
