"""Checkpoints of networks with a few weights, as training writes them."""

from pathlib import Path

import torch

from ctsr.checkpoint import Checkpoint, Meta, TrainingCard, current_versions, save_checkpoint
from ctsr.degrade import Degradation
from ctsr.hu import HURange
from ctsr.models import THROUGH_PLANE, Architecture, build
from ctsr.train.through_plane import ThroughPlaneDegradation

SPLIT = {"train": ("anna", "bert", "cleo"), "val": ("dora", "emil"), "test": ("fred",)}

ARCHITECTURE = Architecture("rrdb", 2, nf=8, nb=1, gc=4)

META = Meta(
    experiment="rrdb_x2_blurnoise",
    architecture=ARCHITECTURE,
    seed=42,
    degradation={"mode": "blurnoise", "blur_sigma_range": (0.7, 0.9), "blur_kernel": None, "antialias_clean": False},
    split={"train": ("a", "b"), "val": ("c",), "test": ("d",)},
    hu_range=HURange(-1024, 3071),
    card=TrainingCard((0.6, 0.9), (1.25, 5.0), {"STANDARD": 48, "B30f": 44}, {"train": 92, "val": 18, "test": 35}),
    versions=current_versions(),
)


def example(seed: int = 0) -> Checkpoint:
    """Something in every part: weights, EMA and Adam's state after one step, random states and plain values."""
    torch.manual_seed(seed)
    net = build(ARCHITECTURE)
    averaged = {key: value * 0.5 for key, value in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    net(torch.rand(1, 1, 8, 8)).abs().mean().backward()
    optimizer.step()
    training = {
        "optimizer": optimizer.state_dict(),
        "rng": {"cpu": torch.get_rng_state(), "cuda": []},
        "standing": {"epoch": 3, "best": 0.0125, "history": [[1, 0.5], [2, None]], "note": "ok", "stopped": False},
    }
    return Checkpoint(META, net.state_dict(), averaged, training)


def save_model(
    path: Path,
    degradation: Degradation | None = None,
    split: dict[str, tuple[str, ...]] | None = None,
    *,
    seed: int = 3,
    nf: int = 4,
) -> Path:
    """Weights alone, of a model that was trained on some of the patients of `tests.made.exams`."""
    degradation = degradation or Degradation()
    architecture = Architecture("rrdb", degradation.scale, nf=nf, nb=1, gc=2)
    torch.manual_seed(seed)
    meta = Meta(
        experiment=f"rrdb_x{degradation.scale}_{degradation.mode}",
        architecture=architecture,
        seed=42,
        degradation=degradation.as_dict(),
        split=SPLIT if split is None else split,
        versions=current_versions(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(meta, build(architecture).state_dict()))
    return path


def save_slice_model(
    path: Path, split: dict[str, tuple[str, ...]] | None = None, card: TrainingCard | None = None
) -> Path:
    """A network between slices with a few random weights."""
    architecture = Architecture(THROUGH_PLANE, 1, nf=4, nb=1, gc=0)
    torch.manual_seed(0)
    meta = Meta(
        experiment=THROUGH_PLANE,
        architecture=architecture,
        seed=0,
        degradation=ThroughPlaneDegradation().as_dict(),
        split=split or {"train": ("x",), "val": ("y",), "test": ("z",)},
        card=card or META.card,
        versions=current_versions(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(meta, build(architecture).state_dict()))
    return path
