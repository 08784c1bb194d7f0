"""What quantising can be told. The command line shows these fields as flags, their docstrings as help."""

from dataclasses import dataclass
from pathlib import Path

from ctsr.errors import UsageError

__all__ = ["QuantizeOptions"]


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Everything about quantising but the model."""

    data_root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, each with one folder per patient: those that the model was trained on."""
    steps: int = 300
    """Of training after the ranges are set, at a low rate; 0 trains nothing."""
    batch_size: int = 8
    """Patches a step."""
    patch_size: int = 96
    """Side of an HR patch in pixels; divisible by the scale."""
    lr: float = 1e-4
    """Adam's learning rate; it falls along a cosine."""
    seed: int = 42
    """Of the order and the patches."""
    split_json: Path | None = None
    """Split file to use instead of the model's own split."""
    assume_hu: bool = False
    """Read series without a rescale as if their stored values were HU."""
    store: Path | None = None
    """Where decoded series are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.seed < 0:
            raise UsageError("--steps and --seed must not be negative, and --batch_size must be at least 1")
        if not self.lr > 0:
            raise UsageError(f"--lr must be above 0, got {self.lr:g}")
