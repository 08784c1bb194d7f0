"""What a training can be told. The command line shows these fields as flags, their docstrings as help."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_type_hints

from ctsr.errors import UsageError

__all__ = ["TrainOptions", "continued", "from_plain"]

FREE_ON_RESUME = frozenset(
    {
        "epochs",
        "patience",
        "num_workers",
        "device",
        "devices",
        "precision",
        "micro_batch",
        "resume",
        "store",
        "runs",
        "splits",
    }
)
"""What may differ from the run that is continued: it changes how long and where, not what is computed."""

HERE_AND_NOW = frozenset({"device", "resume", "store"})
"""What belongs to this machine and this call, never to the run."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything about a training but the degradation."""

    data_root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, each with one folder per patient."""
    scale: Literal[2, 4] = 2
    """How many times finer SR is than LR."""
    epochs: int = 50
    """At most; early stopping may end sooner."""
    batch_size: int = 10
    """Patches a step, over all devices."""
    patch_size: int = 192
    """Side of an HR patch in pixels; divisible by the scale."""
    patience: int = 5
    """Epochs without a better validation L1 before stopping; 0 never stops early."""
    lr: float = 1e-4
    """Adam's learning rate."""
    clip_grad: float = 0.0
    """Largest norm of a step's gradient; 0 does not clip."""
    num_workers: int = 4
    """Processes that prepare batches."""
    resume: str | None = None
    """A run folder or its last.pth to continue; flags left at their default take that run's values."""
    seed: int = 42
    """Of the order, the patches and the initial weights; the split has a seed of its own."""
    nf: int = 64
    """Feature channels of the network."""
    nb: int = 23
    """Residual-in-residual dense blocks."""
    gc: int = 32
    """Channels that each convolution of a dense block adds."""
    init: Literal["bilinear", "random"] = "bilinear"
    """Let a fresh network begin as bilinear interpolation, or as ESRGAN's random weights."""
    patches_per_slice: int = 1
    """Patches drawn from each slice an epoch."""
    augment: bool = False
    """Flip and turn patches by quarters."""
    val_slices: int = 0
    """Validate on at most this many slices of each series, evenly spread; 0 takes all."""
    split_json: Path | None = None
    """Split file to use instead of splits/patient_split_seed42.json."""
    assume_hu: bool = False
    """Read series without a rescale as if their stored values were HU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    devices: int = 1
    """GPUs (or CPU processes) to train on together."""
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """auto is 16-mixed on CUDA and 32-true elsewhere."""
    micro_batch: int = 0
    """Patches computed at once; a batch is their sum. 0 takes as many as fit into memory."""
    runs: Path = Path("runs")
    """Receives the run folder."""
    splits: Path = Path("splits")
    """Where the split is kept and looked for."""
    store: Path | None = None
    """Where decoded series are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patch_size", "patches_per_slice", "devices", "nf", "nb", "gc"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, got {getattr(self, name)}")
        for name in ("patience", "num_workers", "clip_grad", "seed", "val_slices", "micro_batch"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name} must not be negative, got {getattr(self, name)}")
        if not self.lr > 0:
            raise UsageError(f"--lr must be above 0, got {self.lr:g}")
        if self.patch_size % self.scale:
            fits = self.patch_size - self.patch_size % self.scale
            raise UsageError(f"--patch_size {self.patch_size} is not divisible by --scale {self.scale}; {fits} is")
        if self.batch_size % self.devices:
            raise UsageError(f"--batch_size {self.batch_size} cannot be shared evenly by {self.devices} devices")


def continued(asked: TrainOptions, stored: Mapping[str, object], given: Container[str] | None = None) -> TrainOptions:
    """The options of a run that is continued: its own, but for those that the user has given.

    Args:
        asked: what the user says.
        stored: what the run was made with, as its checkpoint holds it.
        given: the names of the options he has named; left out, those that differ from their default.

    Raises:
        UsageError: one that was given does not fit the run.
    """
    run = TrainOptions(**from_plain(stored))  # type: ignore[arg-type]  # the values come from these very fields
    default = TrainOptions()
    values: dict[str, object] = {}
    for name in (field.name for field in fields(TrainOptions)):
        wanted, before = getattr(asked, name), getattr(run, name)
        named = wanted != getattr(default, name) if given is None else name in given
        if named and wanted != before and name not in FREE_ON_RESUME:
            raise UsageError(f"--{name} {wanted} does not fit the run to be continued, which has {before}")
        values[name] = wanted if named or name in HERE_AND_NOW else before
    return TrainOptions(**values)  # type: ignore[arg-type]  # as above


def from_plain(plain: Mapping[str, object]) -> dict[str, object]:
    """Values as `TrainOptions` types them, from what config.json holds; what it does not hold is left out."""
    hints = get_type_hints(TrainOptions)
    return {name: _typed(hints[name], value) for name, value in plain.items() if name in hints}


def _typed(hint: object, value: object) -> object:
    if isinstance(value, list):
        return tuple(Path(str(item)) for item in cast("list[object]", value))
    return Path(value) if isinstance(value, str) and hint in {Path, Path | None} else value
