"""What an evaluation can be told. The command line shows these fields as flags, their docstrings as help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctsr.errors import UsageError

__all__ = ["EvaluateOptions"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Everything about an evaluation but the model and its degradation."""

    root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, preprocessed or raw, each with one folder per patient."""
    split: Literal["train", "val", "test"] = "val"
    """Part of the split to evaluate; final figures come from test."""
    split_json: Path | None = None
    """Split file to use instead of the checkpoint's split."""
    allow_train_patients: bool = False
    """Evaluate patients that the model was trained on, against better knowledge."""
    output_dir: Path = Path("eval_results")
    """Receives one folder for each evaluation."""
    hu_clip: tuple[float, float] = (-1000.0, 2000.0)
    """HU range of the metrics where no window is asked for; the model keeps its own."""
    preset: str | None = None
    """Window of the metrics by name: soft_tissue, lung, bone, brain, liver, abdomen, global, default."""
    window_center: float | None = None
    """Window of the metrics, HU; wins over the preset's."""
    window_width: float | None = None
    """Window of the metrics, HU; wins over the preset's."""
    windows: tuple[str, ...] = ()
    """Several windows in one run, by preset; global is the whole --hu_clip. The first is the one that is printed."""
    mask: tuple[Literal["none", "body"], ...] = ("none",)
    """Where metrics on a window and in HU are taken: the whole image, the body, or (none body) both; those of a tissue
    are always taken on all of it."""
    metrics: tuple[str, ...] = ("default",)
    """What to compute: names such as PSNR LPIPS, groups (fidelity perceptual hu tissue structure), default, or all."""
    baselines: tuple[Literal["bilinear", "bicubic", "lanczos"], ...] = ("bilinear", "bicubic")
    """Interpolations to compare with."""
    max_patients: int | None = None
    """Only the first so many patients of the part."""
    max_slices_per_patient: int | None = None
    """Only so many slices of each patient."""
    slice_sampling: Literal["first", "random"] = "random"
    """Which slices, where they are limited."""
    seed: int = 42
    """Chooses slices, nothing else."""
    lpips: Literal["alex", "vgg", "none"] = "alex"
    """Trunk of the learned perceptual distance; without its weights (`ctsr weights fetch`) it is left out."""
    perceptual_backend: Literal["auto", "builtin", "pyiqa", "lpips"] = "auto"
    """What computes LPIPS and NIQE; auto takes the first of these that can."""
    ma_every: int = 1
    """Compute MA, and so PI, on every n-th slice of a series only: it takes half a minute a slice."""
    cache: Path | None = None
    """Where fetched weights are kept; the user's cache folder when left out."""
    degradation_sampling: Literal["volume", "slice", "det-slice"] = "volume"
    """One draw for a series, one for each slice, or one for each slice from deg_seed + slice index."""
    deg_seed: int = 42
    """Seed of the degradation's draws and of its noise."""
    deg_seed_mode: Literal["per_patient", "global"] = "per_patient"
    """Draw for each patient by himself, or the same for all."""
    flat_names: bool = False
    """Also write metrics_<split>_<experiment>__<tag>.csv and summary_….json into output_dir."""
    no_plots: bool = False
    """Write numbers only."""
    assume_hu: bool = False
    """Read series without a rescale as if their stored values were HU."""
    engine: Literal["auto", "torch", "openvino"] = "torch"
    """What runs the network; only torch gives the same bits on every run and machine."""
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    """What it computes in; int8 is OpenVINO's, fp16 a GPU's."""
    physics: bool = False
    """Also measure resolution, noise and detectability of every method, on phantoms and slices."""
    hallucination: bool = False
    """Also check for invented and lost detail: LR-consistency, Fourier ring correlation, lesions put in or left out."""
    study_slices: int = 3
    """Slices of each series that physics and hallucination look at, evenly along it."""
    workers: int = 0
    """Threads that compute metrics while the model goes on; 0 takes as many as there are cores."""
    store: Path | None = None
    """Where decoded series are kept; the user's cache folder when left out."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers must not be negative, got {self.workers}")
        for name in ("mask", "metrics", "baselines"):
            if not getattr(self, name):
                raise UsageError(f"--{name} needs at least one word")
        if len(set(self.baselines)) < len(self.baselines):
            raise UsageError(f"--baselines names one twice: {' '.join(self.baselines)}")
        for name in ("max_patients", "max_slices_per_patient", "ma_every", "study_slices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, got {value}")

    @property
    def is_limited(self) -> bool:
        """Whether only a part of the split's slices is looked at."""
        return self.max_patients is not None or self.max_slices_per_patient is not None
