"""Exams and models that evaluations are tried on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ctsr.checkpoint import Checkpoint, Meta, current_versions, save_checkpoint
from ctsr.degrade import Degradation
from ctsr.models import Architecture, build
from tests.preprocess.made_ct import save_series

SPLIT = {"train": ("anna", "bert", "cleo"), "val": ("dora", "emil"), "test": ("fred",)}


def save_patient(root: Path, name: str, *, slices: int, size: int, seed: int = 0, series: str = "") -> list[Path]:
    """A patient's folder with one series of textured discs of `size`² pixels."""
    uid = series or f"1.3.{seed + 1}"
    volume = np.stack([textured_disc(size, seed=100 * seed + i) for i in range(slices)])
    return save_series(root / name / uid, volume, series=uid)


def textured_disc(size: int, seed: int) -> npt.NDArray[np.int16]:
    """Soft tissue with blobs in air, (size, size) HU."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    blobs = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 400, (size, size)), 1.2)
    return np.where(np.hypot(y, x) < 0.42 * size, 40 + blobs, -1000).astype(np.int16)


def save_model(
    path: Path, degradation: Degradation | None = None, split: dict[str, tuple[str, ...]] | None = None
) -> Path:
    """A network with a few weights, as training would save it."""
    degradation = degradation or Degradation()
    architecture = Architecture("rrdb", degradation.scale, nf=4, nb=1, gc=2)
    torch.manual_seed(3)
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
