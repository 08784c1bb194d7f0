"""What the viewer can be told. The command line shows these fields as flags, their docstrings as help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ctsr.errors import UsageError

__all__ = ["DEFAULT_SCALE", "LOOPBACK", "PlaneName", "ViewOptions"]

PlaneName: TypeAlias = Literal["axial", "coronal", "sagittal"]

DEFAULT_SCALE = 2
"""Of LR where there is no model to tell."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Addresses that only this computer reaches."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """Everything about a view but the data, the model and its degradation."""

    preset: str | None = None
    """Window by name: soft_tissue (default), lung, bone, brain, liver, abdomen, global, default."""
    window_center: float | None = None
    """Window, HU; wins over the preset's."""
    window_width: float | None = None
    """Window, HU; wins over the preset's."""
    plane: PlaneName = "axial"
    """Plane to begin with, or to write with --snapshot."""
    index: int | None = None
    """Slice to begin with, or to write with --snapshot, counted from 0; the middle one when left out."""
    degradation_sampling: Literal["volume", "slice", "det-slice"] = "volume"
    """One draw for a series, one for each slice, or one for each slice from deg_seed + slice index."""
    deg_seed: int = 42
    """Seed of the degradation's draws and of its noise."""
    deg_seed_mode: Literal["per_patient", "global"] = "per_patient"
    """Draw for each patient by himself, or the same for all."""
    eval_summary: Path | None = None
    """summary.json of an evaluation: shows the LR images that it measured, to the bit."""
    snapshot: Path | None = None
    """Write one picture (PNG) of this slice instead of opening the viewer."""
    no_browser: bool = False
    """Print the address and open nothing."""
    port: int = 0
    """Port to listen on; a free one when left out."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but this computer's own lets others on the network in."""
    cache_mb: int = 1024
    """Most memory for computed slices, MiB."""
    engine: Literal["auto", "torch", "openvino"] = "torch"
    """What runs the network; the evaluation's own gives its numbers to the last digit."""
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    """What it computes in; int8 is OpenVINO's, fp16 a GPU's."""
    assume_hu: bool = False
    """Read series without a rescale as if their stored values were HU."""
    store: Path | None = None
    """Where decoded series are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port {self.port}: a port is a number from 1 to 65535, or 0 for a free one")
        if self.cache_mb < 16:
            raise UsageError(f"--cache_mb {self.cache_mb}: a few slices need at least 16 MiB")
        if self.index is not None and self.index < 0:
            raise UsageError(f"--index {self.index}: slices are counted from 0")
