"""A small root of exams that trainings are tried on, and a generator to fine-tune."""

from dataclasses import replace
from pathlib import Path

import pytest

from ctsr.train import FinetuneOptions, TrainOptions
from ctsr.train.run import train
from tests.made.exams import save_patients


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of 4 slices of 48² pixels: 4 to train on, 1 to validate, 1 to test."""
    return save_patients(tmp_path_factory.mktemp("exams"), slices=4, size=48)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def small(root: Path, store: Path) -> TrainOptions:
    """Three epochs of a net with a few weights; what it writes is still to be told."""
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
        store=store,
        no_plots=True,
    )


@pytest.fixture
def options(small: TrainOptions, tmp_path: Path) -> TrainOptions:
    """The same, everything it writes below `tmp_path`."""
    return replace(small, runs=tmp_path / "runs", splits=tmp_path / "splits")


@pytest.fixture(scope="session")
def pretrained(small: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a generator trained with L1."""
    folder = tmp_path_factory.mktemp("l1")
    return train(replace(small, epochs=1, runs=folder / "runs", splits=folder / "splits")).folder


@pytest.fixture
def finetuning(small: TrainOptions, pretrained: Path, tmp_path: Path) -> FinetuneOptions:
    """Three epochs of four steps, of which the generator is alone in two; no perceptual loss, which needs weights."""
    return FinetuneOptions(
        data_root=small.data_root,
        pretrained_g=str(pretrained),
        epochs=3,
        batch_size=4,
        patch=24,
        lr=1e-3,
        ema=0.9,
        warmup_g_only=2,
        perceptual="none",
        num_workers=0,
        device="cpu",
        store=small.store,
        runs=tmp_path / "runs",
        splits=tmp_path / "splits",
        no_plots=True,
    )
