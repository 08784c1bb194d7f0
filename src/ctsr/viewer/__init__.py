"""The viewer: a loopback server of slices and one plain page. It computes nothing that another package computes.

This module holds its options; the command line shows the fields as flags and their docstrings as help.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ctsr.documents import check_words
from ctsr.errors import UsageError
from ctsr.evaluate import BaselineName, ConditionsSource
from ctsr.hu import HUOptions
from ctsr.upscale import DEFAULT_MODEL, UpscaleOptions

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.checkpoint import ModelKind

PlaneName: TypeAlias = Literal["axial", "coronal", "sagittal"]

DEFAULT_SCALE = 2
"""Scale of LR where there is no model."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Addresses that only this computer can reach."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions(HUOptions):
    """Options of a viewer except data, model and degradation."""

    preset: str | None = None
    """Window by name: soft_tissue (default), lung, bone, brain, liver, abdomen, global, default."""
    window_center: float | None = None
    """Window centre in HU; overrides the preset's."""
    window_width: float | None = None
    """Window width in HU; overrides the preset's."""
    plane: PlaneName = "axial"
    """Initial plane, or plane of `snapshot`."""
    index: int | None = None
    """Initial slice, or slice of `snapshot`, counted from 0; by default the middle one."""
    degradation_sampling: Literal["volume", "slice", "det-slice"] = "volume"
    """Draw once for a series, for each slice, or for each slice with the seed deg_seed + slice index."""
    deg_seed: int = 42
    """Seed of degradation parameters and noise."""
    deg_seed_mode: Literal["per_patient", "global"] = "per_patient"
    """Draw separately for each patient, or the same for all."""
    native: bool = False
    """Show the images as they are, without degradation: source, bicubic and super-resolution as `ctsr upscale` makes
    it, at a strength that is chosen on the page."""
    strength: Literal["faithful", "standard", "strong"] = "standard"
    """With `native`, the initial strength; see `ctsr upscale`."""
    denoise: float | None = None
    """With `native`, instead of the strength's: 0 to 1."""
    sharpen: float | None = None
    """With `native`, instead of the strength's: 0 to 1."""
    slice_spacing: float | None = None
    """With `native`, mm between slices: source, cubic interpolation and the slices between slices that `ctsr upscale
    --slice_spacing` makes, in every plane."""
    isotropic: float | None = None
    """With `native`, mm between slices and between pixels: as `slice_spacing`, and every image on such pixels, as of
    `ctsr upscale --isotropic`."""
    slice_profile: str | None = None
    """With `slice_spacing` or `isotropic`: thickness of the source's slices in mm; see `ctsr upscale`."""
    limit_noise: bool = True
    """With `native`, mix in interpolation where the result would be noisier than its source."""
    baselines: tuple[BaselineName, ...] | None = None
    """What SR is shown beside: interpolations, and linear, the filter with the least squared error on training patients
    that lie beside the one shown. Left out: those of `eval_summary`, else bilinear and bicubic."""
    conditions: str = "drawn"
    """What a conditional model is told of LR: drawn, what LR was made with; estimated, noise and sharpness measured in
    LR; faithful, standard or strong, as `ctsr upscale`
    at that strength; or fixed values σ,HU such as 0.8,5: blur in HR pixels, noise."""
    eval_summary: Path | None = None
    """summary.json of an evaluation whose LR images are reproduced bit for bit."""
    snapshot: Path | None = None
    """Write this slice as a PNG file instead of opening the viewer."""
    no_names: bool = False
    """Show hashes in place of patients' names and UIDs on the page, in pictures and in CSV files: those that
    `ctsr evaluate --no_names` writes."""
    no_browser: bool = False
    """Print the address without opening a browser."""
    port: int = 0
    """Port to listen on; by default a free one."""
    host: str = "127.0.0.1"
    """Address to listen on; any but the loopback address lets other computers in."""
    cache_mb: int = 1024
    """Memory for computed slices in MiB."""
    engine: Literal["auto", "torch", "openvino"] | None = None
    """Inference engine; the one of an evaluation reproduces its numbers to the last digit. Left out: torch, and auto
    with `native`, as of `ctsr upscale`."""
    precision: Literal["fp32", "bf16", "int8", "fp16"] = "fp32"
    """Numeric precision; bf16 and int8 need OpenVINO, fp16 a GPU."""
    store: Path | None = None
    """Folder of decoded series; by default the user's cache folder."""

    @property
    def conditions_source(self) -> ConditionsSource:
        """`conditions`, read."""
        return ConditionsSource.parse(self.conditions)

    @property
    def chosen_engine(self) -> Literal["auto", "torch", "openvino"]:
        """`engine`, or its default."""
        return self.engine or ("auto" if self.native else "torch")

    @property
    def default_model(self) -> str | None:
        """Model where none is named; None for the newest run. Real series get what `ctsr upscale` gives them."""
        if self.wants_slices_between:
            from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL

            return DEFAULT_SLICE_MODEL
        return DEFAULT_MODEL if self.native else None

    @property
    def model_kind(self) -> "ModelKind":
        """What the model makes finer."""
        return "between slices" if self.wants_slices_between else "in plane"

    @property
    def wants_slices_between(self) -> bool:
        """Whether slices between slices are shown."""
        return self.slice_spacing is not None or self.isotropic is not None

    @property
    def upscale_options(self) -> UpscaleOptions | None:
        """What `ctsr upscale` would be told; None without `native`."""
        if not self.native:
            return None
        return UpscaleOptions(
            strength=self.strength,
            denoise=self.denoise,
            sharpen=self.sharpen,
            limit_noise=self.limit_noise,
            slice_spacing=self.slice_spacing,
            isotropic=self.isotropic,
            slice_profile=self.slice_profile,
            assume_hu=self.assume_hu,
        )

    def __post_init__(self) -> None:
        check_words(self)
        ConditionsSource.parse(self.conditions)
        if self.native and self.eval_summary is not None:
            raise UsageError("`native` shows images as they are, `eval_summary` degraded ones; leave one of them out")
        if self.native and self.baselines is not None:
            raise UsageError("`baselines` are made from degraded images; leave it out with `native`")
        if self.wants_slices_between and not self.native:
            name = "isotropic" if self.slice_spacing is None else "slice_spacing"
            raise UsageError(f"`{name}` goes with `native`, which shows images as they are")
        if self.wants_slices_between and self.sharpen is not None:
            raise UsageError("`sharpen` is for models in plane; leave it out between slices")
        if not 0 <= self.port < 65536:
            raise UsageError(f"`port` {self.port}: a port is a number from 1 to 65535, or 0 for a free one")
        if self.cache_mb < 16:
            raise UsageError(f"`cache_mb` {self.cache_mb}: a few slices need at least 16 MiB")
        if self.index is not None and self.index < 0:
            raise UsageError(f"`index` {self.index}: slices are counted from 0")
