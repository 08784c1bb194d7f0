"""A small checkpoint with something in every part, as training writes it."""

import torch

from ctsr.checkpoint import Checkpoint, Meta, TrainingCard, current_versions
from ctsr.hu import HURange
from ctsr.models import Architecture, build

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
    """Weights, EMA and Adam's state after one step, random states and plain values."""
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
