"""A model that interpolates, so that what comes out is known, and a series to put in."""

from pathlib import Path

import pytest
import torch

from ctsr.checkpoint import Checkpoint, Meta, Model, TrainingCard, current_versions, load_model, save_checkpoint
from ctsr.degrade import Degradation
from ctsr.models import Architecture, build
from ctsr.models.networks import RRDBNet, start_as_bilinear
from tests.made.model import save_slice_model

CARD = TrainingCard((0.3, 0.5), (1.0, 5.0), {"STANDARD": 48}, {"train": 48})
"""Of a model at home in slices of 0.6 … 1.0 mm at ×2."""


def save_bilinear(path: Path, *, scale: int = 2, nf: int = 4) -> Path:
    """A network that has learned nothing yet: it enlarges bilinearly, up to rounding."""
    architecture = Architecture("rrdb", scale, nf=nf, nb=1, gc=2)
    torch.manual_seed(0)
    net = build(architecture)
    assert isinstance(net, RRDBNet)
    start_as_bilinear(net)
    meta = Meta(
        experiment=f"rrdb_x{scale}_blurnoise",
        architecture=architecture,
        seed=0,
        degradation=Degradation(scale=scale).as_dict(),
        split={"train": ("x",), "val": ("y",), "test": ("z",)},
        card=CARD,
        versions=current_versions(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(meta, net.state_dict()))
    return path


@pytest.fixture(scope="session")
def bilinear_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bilinear(tmp_path_factory.mktemp("model") / "best.pth")


@pytest.fixture(scope="session")
def bilinear(bilinear_path: Path) -> Model:
    return load_model(bilinear_path)


@pytest.fixture(scope="session")
def between(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network between slices with a few random weights."""
    return load_model(save_slice_model(tmp_path_factory.mktemp("between") / "best.pth", card=CARD))
