"""Quantization: networks whose trunk computes in 8-bit integers, how they are made, stored and accepted.

This module holds the options of making one; the command line shows the fields as flags, their docstrings as help.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from ctsr.errors import UsageError
from ctsr.hu import HUOptions


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions(HUOptions):
    """Options of quantization, apart from the model."""

    data_root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, each with one folder per patient: those that the model was trained on."""
    steps: int = 300
    """Training steps after calibration; 0 for calibration only."""
    batch_size: int = 8
    """Patches per step."""
    patch_size: int = 96
    """Side of an HR patch in pixels; divisible by the scale."""
    lr: float = 1e-4
    """Learning rate of Adam, decreased along a cosine."""
    seed: int = 42
    """Seed of the patches and their order."""
    split_json: Path | None = None
    """Split file to use instead of the model's own split."""
    store: Path | None = None
    """Folder for decoded series; default: the user's cache folder."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.seed < 0:
            raise UsageError("`steps` and `seed` must not be negative, and `batch_size` must be at least 1")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"`lr` must be above 0 and finite, got {self.lr:g}")
