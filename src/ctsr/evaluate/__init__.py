"""Evaluation: models against interpolation on held-out patients, as rows, statistics, plots and a report.

`evaluation.evaluate` is the entry point. `plan` decides what is computed, `runner` computes the rows of each slice
(`methods`, `slice_metrics`) into the `output_folder`, `statistics` and `summary` compute the tables, and `plots`,
`studies` and `report` show them. This module holds the options; the command line shows the fields as flags and their
docstrings as help.
"""

import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ctsr import make_callable
from ctsr.documents import check_words
from ctsr.errors import UsageError
from ctsr.hashing import pseudonym
from ctsr.hu import HUOptions


@dataclass(frozen=True)
class ConditionsSource:
    """What a conditional network is told of LR images whose degradation is known.

    `drawn`: what the degradation drew. `estimated`: noise and sharpness as measured in LR. `fixed`: two values.
    `faithful`, `standard`, `strong`: what `ctsr upscale` tells it at that strength, by the noise measured in LR.
    """

    kind: Literal["drawn", "estimated", "fixed", "faithful", "standard", "strong"] = "drawn"
    blur_sigma: float = 0.0
    """HR pixels, where `fixed`."""
    noise_hu: float = 0.0
    """Standard deviation, where `fixed`."""

    @classmethod
    def parse(cls, text: str) -> "ConditionsSource":
        """Read `drawn`, `estimated`, the name of a strength, or blur and noise as in `0.8,5`.

        Raises:
            UsageError: it is neither, or a value is negative or not finite.
        """
        match text:
            case "drawn" | "estimated" | "faithful" | "standard" | "strong":
                return cls(text)
            case _:
                return cls._parse_fixed(text)

    @classmethod
    def _parse_fixed(cls, text: str) -> "ConditionsSource":
        try:
            blur_sigma, noise_hu = map(float, text.split(","))
        except ValueError as error:
            raise UsageError(
                f"`conditions` {text}: expected drawn, estimated, faithful, standard, strong, or blur in HR pixels and "
                "noise in HU, such as 0.8,5"
            ) from error
        if not (0 <= blur_sigma < math.inf and 0 <= noise_hu < math.inf):
            raise UsageError(f"`conditions` {text}: blur and noise must be finite and not negative")
        return cls("fixed", blur_sigma, noise_hu)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.blur_sigma},{self.noise_hu}" if self.kind == "fixed" else self.kind

    @property
    def sentence(self) -> str:
        """For readers of results."""
        match self.kind:
            case "drawn":
                return "the blur and noise that LR was made with (non-blind)"
            case "estimated":
                return "the blur and noise that were measured in LR"
            case "fixed":
                return f"a blur of σ {self.blur_sigma:g} HR pixels and noise of {self.noise_hu:g} HU, whatever LR has"
            case strength:
                return f"what `ctsr upscale --strength {strength}` tells it, by the noise that was measured in LR"


PLACES = frozenset({"root", "split_json", "output_dir", "cache", "store"})
"""Options whose values are paths: a root may be a patient's folder."""
BaselineName: TypeAlias = Literal["bilinear", "bicubic", "lanczos", "linear"]
DEFAULT_BASELINES: tuple[BaselineName, ...] = ("bilinear", "bicubic")
DRAWN = ConditionsSource()
"""What LR was made with: non-blind super-resolution."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(HUOptions):
    """Options of an evaluation other than the model and its degradation."""

    root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, preprocessed or raw, each with one folder per patient."""
    split: Literal["train", "val", "test"] = "val"
    """Part of the split to evaluate; final figures come from test."""
    split_json: Path | None = None
    """Split file to use instead of the checkpoint's split."""
    allow_train_patients: bool = False
    """Evaluate patients that the model was trained on, although the result will be biased."""
    output_dir: Path = Path("eval_results")
    """Receives one folder for each evaluation."""
    hu_clip: tuple[float, float] = (-1000.0, 2000.0)
    """HU range of the metrics where no window is given; the model keeps its own."""
    preset: str | None = None
    """Window of the metrics by name: soft_tissue, lung, bone, brain, liver, abdomen, global, default."""
    window_center: float | None = None
    """Centre of the metrics' window, HU; overrides the preset's."""
    window_width: float | None = None
    """Width of the metrics' window, HU; overrides the preset's."""
    windows: tuple[str, ...] = ()
    """Several windows in one run, by preset; global is the whole `hu_clip`. The first is the one that is printed."""
    mask: tuple[Literal["none", "body"], ...] = ("none",)
    """Where metrics on a window and in HU are computed: the whole image, the body, or (none body) both; those of a
    tissue are always computed on the whole image."""
    metrics: tuple[str, ...] = ("default",)
    """What to compute: names such as PSNR LPIPS, groups (fidelity perceptual hu tissue structure), default, or all."""
    baselines: tuple[BaselineName, ...] = DEFAULT_BASELINES
    """What to compare with: interpolations, and linear, the filter with the least squared error on patients of the
    train part."""
    max_patients: int | None = None
    """Number of patients, the first of the part, where folders of one person count once; by default all."""
    max_slices_per_patient: int | None = None
    """Number of slices of each patient; by default all."""
    slice_sampling: Literal["first", "random"] = "random"
    """How max_slices_per_patient chooses slices."""
    seed: int = 42
    """Seed of the random choice of slices."""
    lpips: Literal["alex", "vgg", "none"] = "alex"
    """Trunk of LPIPS; without its weights (`ctsr weights fetch`) LPIPS is left out."""
    perceptual_backend: Literal["auto", "builtin", "pyiqa", "lpips"] = "auto"
    """Implementation of LPIPS and NIQE; auto takes the first that is available."""
    ma_every: int = 1
    """Compute MA, and so PI, on every n-th slice of each series only: it takes half a minute a slice."""
    cache: Path | None = None
    """Folder of fetched weights; by default the user's cache folder."""
    degradation_sampling: Literal["volume", "slice", "det-slice"] = "volume"
    """One draw for a series, one for each slice, or one for each slice from deg_seed + slice index."""
    deg_seed: int = 42
    """Seed of the degradation's draws and of its noise."""
    deg_seed_mode: Literal["per_patient", "global"] = "per_patient"
    """Draw for each patient separately, or the same for all."""
    conditions: str = "drawn"
    """What a conditional model is told of LR: drawn, what LR was made with; estimated, noise and sharpness measured in
    LR as in a real series; faithful, standard or strong, as `ctsr upscale`
    at that strength; or fixed values σ,HU such as 0.8,5: blur in HR pixels, noise."""
    flat_names: bool = False
    """Also write metrics_<split>_<experiment>__<tag>.csv and summary_….json into output_dir."""
    no_plots: bool = False
    """Write numbers only."""
    no_names: bool = False
    """Write hashes in place of patients' names and UIDs into tables, pictures and report, the same hash everywhere, and
    no paths of the data."""
    engine: Literal["auto", "torch", "openvino"] = "torch"
    """Engine of the network; only torch gives the same bits on every run and machine."""
    precision: Literal["fp32", "bf16", "int8", "fp16"] = "fp32"
    """Number format of the engine: bf16 and int8 need OpenVINO, fp16 a GPU."""
    physics: bool = False
    """Also measure resolution, noise and detectability of every method, on phantoms and slices."""
    hallucination: bool = False
    """Also check for invented and lost detail: LR-consistency, Fourier ring correlation, inserted lesions."""
    study_slices: int = 3
    """Number of slices of each series for physics and hallucination, evenly along it."""
    through_plane: bool = False
    """Measure a model between slices instead: every thin series of patients it was not trained on is made thick and
    brought back; with `split_json`, those of the part. Degradation, `baselines`, `conditions` and `split` have no
    meaning then."""
    thickness: tuple[float, ...] = (5.0,)
    """With `through_plane`: thickness in mm of the slices that are made thick, one for each of `distance`."""
    distance: tuple[float, ...] = (5.0,)
    """With `through_plane`: mm from one of these slices to the next; 5 with a thickness of 5 touches, 3 overlaps."""
    planes: int = 24
    """With `through_plane`: axial, coronal and sagittal planes of each series that are compared, evenly over the body;
    this many of each."""
    workers: int = 0
    """Threads that compute metrics while the model runs; 0 takes as many as there are cores."""
    store: Path | None = None
    """Folder of decoded series; by default the user's cache folder."""

    def __post_init__(self) -> None:
        check_words(self)
        ConditionsSource.parse(self.conditions)  # refused here, not when slices are read
        if self.workers < 0:
            raise UsageError(f"`workers` must not be negative, got {self.workers}")
        for name in ("mask", "metrics", "baselines"):
            if not getattr(self, name):
                raise UsageError(f"`{name}` needs at least one word")
        if len(set(self.baselines)) < len(self.baselines):
            raise UsageError(f"`baselines` names one twice: {' '.join(self.baselines)}")
        if len(self.thickness) != len(self.distance) or not self.thickness:
            raise UsageError(
                f"`thickness` and `distance` go in pairs, as in `thickness` 5 5 `distance` 5 3; "
                f"got {len(self.thickness)} and {len(self.distance)}"
            )
        for name in ("thickness", "distance"):
            if not all(0.1 <= mm <= 50 for mm in getattr(self, name)):
                raise UsageError(f"`{name}` must lie between 0.1 and 50 mm")
        for name in ("max_patients", "max_slices_per_patient", "ma_every", "study_slices", "planes"):
            value: int | None = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"`{name}` must be at least 1, got {value}")

    @property
    def conditions_source(self) -> ConditionsSource:
        """`conditions`, read."""
        return ConditionsSource.parse(self.conditions)

    def shown(self, name: str) -> str:
        """A patient's name or a UID as files show it."""
        return pseudonym(name) if self.no_names else name

    def shown_config(self) -> dict[str, Any]:
        """Every flag with its value, as files show it; with `no_names`, flags that hold paths are left out."""
        return {name: value for name, value in asdict(self).items() if not (self.no_names and name in PLACES)}

    def shown_path(self, path: Path) -> str:
        """A file of the evaluation's folder; by its name alone without names."""
        return path.name if self.no_names else str(path)

    def shown_command(self, config_json: Path) -> str:
        """What repeats the evaluation."""
        if self.no_names:
            return f"ctsr evaluate --config {config_json.name} --root ROOT"
        return f"ctsr evaluate --config {shlex.quote(str(config_json))}"

    def shown_failures(self, failures: tuple[str, ...]) -> tuple[str, ...]:
        """Lines about what was left out as files show them: each names a patient or a path."""
        if not self.no_names or not failures:
            return failures
        return (f"{len(failures)} patients or series, wholly or in part; the terminal has named them",)

    @property
    def is_limited(self) -> bool:
        """Whether only some of the part's slices are evaluated."""
        return self.max_patients is not None or self.max_slices_per_patient is not None


make_callable(__name__, "ctsr.api.evaluation:evaluate")
