"""Training with L1 and fine-tuning: a resumable loop over patches.

`run.train` and `finetune.finetune` are the entry points. This module holds their options; the command line shows the
fields as flags and their docstrings as help.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_type_hints

from ctsr.errors import UsageError
from ctsr.hu import HUOptions

LARGEST_SEED = 2**63 - 1
"""What PyTorch's generators take."""

FREE_ON_RESUME = frozenset(
    {
        "cache",
        "compile",
        "device",
        "devices",
        "epochs",
        "micro_batch",
        "no_plots",
        "num_workers",
        "patience",
        "precision",
        "resume",
        "runs",
        "splits",
        "store",
    }
)
"""What may differ from the run that is continued: how long and where, and in what precision."""

PLACES = frozenset({"cache", "data_root", "split_json", "splits", "store"})
"""Paths that a run without names does not remember: a root may be a patient's folder."""

STARTED_FROM = frozenset({"pretrained_g"})
"""What a run has begun with, and no longer asks for when it is continued."""

HERE_AND_NOW = frozenset({"cache", "compile", "device", "resume", "store"})
"""What belongs to this machine and this call, never to the run."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(HUOptions):
    """What training with L1 and fine-tuning have in common."""

    data_root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, each with one folder per patient."""
    epochs: int = 50
    """At most; early stopping may end sooner."""
    batch_size: int = 10
    """Patches computed together, over all devices."""
    accumulate: int = 1
    """Batches for each step of the optimiser; the result is that of a batch this many times as large."""
    patience: int | Literal["none"] = 5
    """Epochs without progress before stopping; 0 or none never stops early."""
    lr: float = 1e-4
    """Adam's learning rate."""
    lr_schedule: Literal["constant", "multistep", "cosine"] = "constant"
    """How it falls: never, by half after 60 and again after 80 % of the epochs, or along a cosine that would reach a
    hundredth after the last."""
    clip_grad: float = 0.0
    """Largest norm of a step's gradient; 0 does not clip."""
    ema: float = 0.0
    """Decay of the weights' exponential moving average, which is then what is judged and used; 0 keeps none."""
    num_workers: int = 4
    """Processes that prepare batches."""
    resume: str | None = None
    """A run folder or its last.pth to continue; flags left at their default take that run's values."""
    seed: int = 42
    """Seed of the order, the patches and the initial weights; the split has a seed of its own."""
    patches_per_slice: int = 1
    """Patches drawn from each slice an epoch."""
    augment: bool = False
    """Flip and turn patches by quarters."""
    val_slices: int = 0
    """Validate on at most this many slices of each series, evenly spread; 0 takes all."""
    split_json: Path | None = None
    """Split file to use instead of splits/patient_split_seed42.json."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    devices: int = 1
    """GPUs (or CPU processes) to train on together; torchrun sets them itself."""
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed", "32-true"] = "auto"
    """auto is 16-mixed on CUDA and 32 elsewhere; 32-true is another name for 32."""
    micro_batch: int = 0
    """Patches that the generator computes at once; a step is their sum. 0 takes as many as fit into memory; a run that
    is continued keeps its number."""
    compile: bool = False
    """Compile the generator with torch.compile: slow to start, then faster on a GPU."""
    runs: Path = Path("runs")
    """Receives the run folder."""
    no_plots: bool = False
    """Write numbers only: no curves, no sample pictures."""
    no_names: bool = False
    """Write hashes in place of names of patients' folders into the run folder, and no paths of the data: a run that is
    continued must be given `data_root` again."""
    splits: Path = Path("splits")
    """Where the split is kept and looked for."""
    store: Path | None = None
    """Where decoded series are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "epochs", "batch_size", "accumulate", "patches_per_slice", "devices")
        _at_least(self, 0, "num_workers", "clip_grad", "seed", "val_slices", "micro_batch")
        if self.epochs_of_patience < 0:
            raise UsageError(f"`patience` must not be negative, got {self.patience}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"`lr` must be above 0 and finite, got {self.lr:g}")
        if self.seed > LARGEST_SEED:
            raise UsageError(f"`seed` must be at most {LARGEST_SEED}, got {self.seed}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"`ema` must be in [0, 1), got {self.ema:g}")
        if self.batch_size % self.devices:
            raise UsageError(f"`batch_size` {self.batch_size} cannot be shared evenly by {self.devices} devices")

    @property
    def epochs_of_patience(self) -> int:
        """`patience` as a number: 0 never stops early."""
        return 0 if self.patience == "none" else self.patience


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Everything about a training with L1 but the degradation."""

    scale: Literal[2, 4] = 2
    """How many times finer SR is than LR."""
    patch_size: int = 192
    """Side of an HR patch in pixels; divisible by the scale."""
    arch: Literal["rrdb", "rrdb_skip", "edsr", "plain"] = "rrdb"
    """ESRGAN's generator; or one of the small networks that add detail to a bilinear enlargement: with dense blocks,
    with EDSR's residual blocks, or with plain convolutions."""
    nf: int = 64
    """Feature channels of the network."""
    nb: int = 23
    """Blocks of its trunk: residual-in-residual dense blocks, residual blocks or convolutions."""
    gc: int = 32
    """Channels that each convolution of a dense block adds; without dense blocks it means nothing."""
    conditional: bool = False
    """Tell the network the blur and the noise of its input: it then learns to undo any of a wide range."""
    hr_reduction: tuple[float, float] = (1.0, 1.0)
    """Make HR patches of means over a number of source pixels along each side, drawn from this range: quieter targets
    and pixels of many sizes. 1 2 for conditional networks."""
    through_plane: bool = False
    """Train a network that makes slices between slices, on axial images seen from the side: of EDSR's kind with `nf`
    channels and `nb` blocks, told thickness, distance and noise. Takes no `scale` and no `arch`."""
    thickness_range: tuple[float, float] = (1.5, 6.0)
    """Between slices: thickness of the thick slices in units of the distance that is wanted."""
    distance_range: tuple[float, float] = (0.5, 1.2)
    """Between slices: from one thick slice to the next, in units of their thickness."""
    init: Literal["bilinear", "random"] = "bilinear"
    """Let a fresh network begin as bilinear interpolation, or as random weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "nf", "nb", "gc")
        check_patch("patch_size", self.patch_size, self.scale)
        for name in ("thickness_range", "distance_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 20:
                raise UsageError(f"`{name}` needs 0 < low ≤ high ≤ 20, got {low:g} {high:g}")
        low, high = self.hr_reduction
        if not 1 <= low <= high <= 8:
            raise UsageError(f"`hr_reduction` needs 1 ≤ low ≤ high ≤ 8, got {low:g} {high:g}")


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(RunOptions):
    """Everything about a fine-tuning but the degradation."""

    pretrained_g: str | None = None
    """Generator to start from: a file, a run folder or a name; the newest L1 run when left out."""
    scale: Literal[2, 4] | None = None
    """The generator's; a check, nothing to choose."""
    patch: int = 192
    """Side of an HR patch in pixels; divisible by the scale."""
    out_dir: Path | None = None
    """Receives best.pth and the rest of the run itself; a run that is there already moves into a folder in it."""
    epochs: int = 10
    """At most; early stopping may end sooner."""
    lr_schedule: Literal["constant", "multistep", "cosine"] = "multistep"
    """How it falls: never, by half after 60 and again after 80 % of the epochs, or along a cosine that would reach a
    hundredth after the last."""
    clip_grad: float = 1.0
    """Largest norm of a step's gradient, for generator and discriminator; 0 does not clip."""
    ema: float = 0.999
    """Decay of the generator's exponential moving average, which is then what is judged and used; 0 keeps none."""
    lambda_l1: float = 1.0
    """Weight of L1."""
    lambda_perc: float = 0.08
    """Weight of the perceptual loss."""
    lambda_gan: float = 0.003
    """Weight of the generator's adversarial loss."""
    lambda_consistency: float = 0.0
    """Weight of LR-consistency: SR degraded again, without noise, against the noise-free LR."""
    lambda_artifact: float = 0.0
    """Weight of the artifact loss (LDL), which needs `ema`."""
    warmup_g_only: int = 100
    """Steps in which the generator alone is trained, without adversarial loss."""
    perceptual: Literal["vgg16", "vgg19", "none"] = "vgg16"
    """Network whose features the perceptual loss compares; `ctsr weights fetch` brings it."""
    perc_layers: tuple[str, ...] = ()
    """Convolutions whose features are compared, before the activation; the last (conv5_3, conv5_4) when left out."""
    perc_weights: tuple[float, ...] = ()
    """Weight of each of these layers; 1 when left out."""
    gan_type: Literal["ragan", "vanilla", "lsgan", "hinge"] = "ragan"
    """Relativistic average as in ESRGAN, or one of the classic games."""
    discriminator: Literal["patch", "unet"] = "patch"
    """A score for each 16×16 pixels, or a U-Net's for each pixel; both spectrally normalised."""
    early_metric: Literal["total_no_gan", "mae", "psnr"] = "total_no_gan"
    """What decides which epoch is the best, on whole validation slices."""
    val_compute_gan: bool = False
    """Compute the adversarial loss in validation, too."""
    allow_train_patients: bool = False
    """Validate on patients that the generator was trained on, although the result will be biased."""
    cache: Path | None = None
    """Where fetched weights are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "patch")
        _at_least(self, 0, "warmup_g_only")
        _at_least(self, 0, "lambda_l1", "lambda_perc", "lambda_gan", "lambda_consistency", "lambda_artifact")
        if self.perc_weights and len(self.perc_weights) != len(self.perc_layers):
            raise UsageError(
                f"`perc_weights` has {len(self.perc_weights)} values for {len(self.perc_layers)} `perc_layers`"
            )
        weights = [self.lambda_l1, self.lambda_gan, self.lambda_consistency, self.lambda_artifact]
        if not any(weights) and (self.perceptual == "none" or not self.lambda_perc):
            raise UsageError("every loss has weight 0: nothing would be learned; give one of them a weight above 0")
        if self.lambda_artifact and not self.ema:
            raise UsageError("`lambda_artifact` compares with the averaged generator; it needs `ema` above 0")

    def check_judged(self) -> None:
        """Refuse to begin a run of which no epoch would be better than the first.

        Raises:
            UsageError: nothing that `early_metric` sums has a weight.
        """
        judged = self.lambda_l1 or self.lambda_consistency or (self.perceptual != "none" and self.lambda_perc)
        if self.early_metric == "total_no_gan" and not judged:
            raise UsageError(
                "validation computes neither the adversarial nor the artifact loss: without another one "
                "`early_metric` total_no_gan is 0 in every epoch, and the first would stay the best; choose mae or psnr"
            )


def _at_least(options: RunOptions, least: int, *names: str) -> None:
    for name in names:
        if not least <= getattr(options, name) < math.inf:
            words = "must not be negative" if least == 0 else f"must be at least {least}"
            raise UsageError(f"`{name}` {words}, got {getattr(options, name)}")


def check_patch(name: str, size: int, scale: int) -> None:
    """See that a patch can be downsampled.

    Raises:
        UsageError: the scale does not divide it.
    """
    if size < scale or size % scale:
        fits = max(scale, size - size % scale)
        raise UsageError(f"`{name}` {size} is not divisible by `scale` {scale}; {fits} is")


Options = TypeVar("Options", bound=RunOptions)


def continued(asked: Options, stored: Mapping[str, object], given: Container[str] | None = None) -> Options:
    """The options of a run that is continued: its own, but for those that the user has given.

    Args:
        asked: what the user says.
        stored: what the run was made with, as its checkpoint holds it.
        given: the names of the options that were named; left out, those that differ from their default.

    Raises:
        UsageError: one that was given does not fit the run.
    """
    kind = type(asked)
    run, default = kind(**from_plain(kind, stored)), kind()
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(kind)):
        wanted, before = getattr(asked, name), getattr(run, name)
        if run.no_names and name in PLACES:
            values[name] = wanted
            continue
        named = wanted != getattr(default, name) if given is None else name in given
        named = named and name not in STARTED_FROM
        if named and wanted != before and name not in FREE_ON_RESUME:
            raise UsageError(f"`{name}` {wanted} does not fit the run to be continued, which has {before}")
        values[name] = wanted if named or name in HERE_AND_NOW else before
    return kind(**values)


def plain_options(options: RunOptions) -> dict[str, Any]:
    """The options as plain values; `from_plain` reads them back."""
    return {name: _plain(value) for name, value in asdict(options).items()}


def remembered_options(options: RunOptions) -> dict[str, Any]:
    """The options as in config.json and in the checkpoint; with `no_names`, those that hold paths are left out."""
    plain = plain_options(options)
    return {name: plain[name] for name in plain if not (options.no_names and name in PLACES)}


def from_plain(kind: type[RunOptions], plain: Mapping[str, object]) -> dict[str, Any]:
    """Values as the options type them, from what config.json holds; what it does not hold is left out."""
    hints = get_type_hints(kind)
    return {name: _typed(hints[name], value) for name, value in plain.items() if name in hints}


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return str(value) if isinstance(value, Path) else value


def _typed(hint: object, value: object) -> object:
    if isinstance(value, list):
        items = cast("list[object]", value)
        return tuple(Path(str(item)) for item in items) if hint == tuple[Path, ...] else tuple(items)
    return Path(value) if isinstance(value, str) and hint in {Path, Path | None} else value
