"""Options of quantization. The command line shows these fields as flags, their docstrings as help."""

from dataclasses import dataclass
from pathlib import Path

from ctsr.errors import UsageError
from ctsr.hu import HUCorrection


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
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
    assume_hu: bool = False
    """Read series without a rescale as if their stored values were HU."""
    hu_offset: float = 0.0
    """HU to add to what the headers make of stored values, as -1024 for an intercept that was lost."""
    hu_scale: float = 1.0
    """Factor before `hu_offset`, as 1000 for values that were scaled to -1 … 1."""
    store: Path | None = None
    """Folder for decoded series; default: the user's cache folder."""

    @property
    def hu_correction(self) -> HUCorrection:
        """Correction of all values that are read."""
        return HUCorrection(self.hu_scale, self.hu_offset)

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.seed < 0:
            raise UsageError("`steps` and `seed` must not be negative, and `batch_size` must be at least 1")
        if not self.lr > 0:
            raise UsageError(f"`lr` must be above 0, got {self.lr:g}")
