"""Super-resolution, degradation and resampling of volumes, arrays and folders; arrays as arguments and results."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np

from ctsr.api import ArrayHU, Spacing, given, only_where
from ctsr.api.models import ModelLike, asked_for, load_model, open_for
from ctsr.data.pairs import centered_crop, image_pair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.degrade.degradation import Mode
from ctsr.errors import DomainError, UsageError
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.infer import EngineRequest
from ctsr.infer.conditions import StrengthName
from ctsr.infer.engine import EngineName, Precision
from ctsr.padding import SlicePixels, plane_of, slice_of
from ctsr.preprocess import PreprocessReport
from ctsr.preprocess import preprocess as preprocess_folder
from ctsr.reporting import WARN, Progress
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.between import Models, pick_models, slices_between, upscale_volume, volume_of
from ctsr.upscale.plan import ModelName
from ctsr.upscale.run import Report as UpscaleReport
from ctsr.upscale.run import upscale as upscale_folder
from ctsr.upscale.tuning import unheard
from ctsr.volume import Plane, Volume, VoxelsHU, at_spacing, resample

PathLike: TypeAlias = str | os.PathLike[str]


@overload
def upscale(
    source: Volume,
    *,
    model: ModelLike | None = ...,
    strength: StrengthName = ...,
    denoise: float | None = ...,
    sharpen: float | None = ...,
    limit_noise: bool = ...,
    consistent: bool = ...,
    target_spacing: float | None = ...,
    slice_spacing: float | None = ...,
    isotropic: float | None = ...,
    slice_profile: str | None = ...,
    slice_model: ModelLike | None = ...,
    engine: EngineName = ...,
    precision: Precision = ...,
    device: str = ...,
    progress: Progress = ...,
) -> Volume: ...


@overload
def upscale(
    source: ArrayHU,
    *,
    spacing: Spacing,
    model: ModelLike | None = ...,
    strength: StrengthName = ...,
    denoise: float | None = ...,
    sharpen: float | None = ...,
    limit_noise: bool = ...,
    consistent: bool = ...,
    target_spacing: float | None = ...,
    slice_spacing: float | None = ...,
    isotropic: float | None = ...,
    slice_profile: str | None = ...,
    slice_model: ModelLike | None = ...,
    engine: EngineName = ...,
    precision: Precision = ...,
    device: str = ...,
    progress: Progress = ...,
) -> VoxelsHU: ...


@overload
def upscale(
    source: PathLike,
    out: PathLike,
    *,
    model: ModelLike | None = ...,
    strength: StrengthName = ...,
    denoise: float | None = ...,
    sharpen: float | None = ...,
    limit_noise: bool = ...,
    consistent: bool = ...,
    target_spacing: float | None = ...,
    slice_spacing: float | None = ...,
    isotropic: float | None = ...,
    slice_profile: str | None = ...,
    slice_model: ModelLike | None = ...,
    overwrite: bool = ...,
    engine: EngineName = ...,
    precision: Precision = ...,
    device: str = ...,
    progress: Progress = ...,
) -> UpscaleReport: ...


def upscale(
    source: Volume | ArrayHU | PathLike,
    out: PathLike | None = None,
    *,
    spacing: Spacing | None = None,
    model: ModelLike | None = None,
    strength: StrengthName = "standard",
    denoise: float | None = None,
    sharpen: float | None = None,
    limit_noise: bool = True,
    consistent: bool = False,
    target_spacing: float | None = None,
    slice_spacing: float | None = None,
    isotropic: float | None = None,
    slice_profile: str | None = None,
    slice_model: ModelLike | None = None,
    overwrite: bool = False,
    engine: EngineName = "auto",
    precision: Precision = "fp32",
    device: str = "auto",
    progress: Progress = WARN,
) -> Volume | VoxelsHU | UpscaleReport:
    """Super-resolve CT in plane or between slices: what `ctsr upscale` writes, before it is rounded to whole HU.

    The noise of the source is measured on up to three of its slices, and a conditional model is told of it according
    to `strength`. HU beyond the model's range, padding and the air around the body are interpolated. Not for diagnosis.

    Args:
        source: a volume; an array in HU with the axes (row, column) or (slice, row, column); or a series, a patient, a
            folder of patients or a NIfTI file.
        out: where `source` is a path: receives the result of a single series, else ``<patient>/<series>`` for each.
        spacing: where `source` is an array: mm along each of its axes.
        model: name, path, or a model of `ctsr.load_model`; left out, ctsr-x2, and with `slice_spacing` or `isotropic`
            none in plane.
        strength: what a conditional model is told: `faithful` no noise and no blur, `standard` 1.5 times the measured
            noise and a little blur, `strong` that noise and more blur; both give back what is coarse of the source,
            `strong` less of it. Other models have no strength.
        denoise: in place of the strength's, 0 to 1: how much noise goes, and of faint contrasts with it.
        sharpen: in place of the strength's, 0 to 1.
        limit_noise: mix in interpolation where the result would be noisier than its source.
        consistent: make the mean of the result over each source pixel that pixel's value.
        target_spacing: mm between pixels of the result; by default the source's divided by the scale.
        slice_spacing: mm between slices of the result: makes the slices between thick ones, after those in plane.
        isotropic: `slice_spacing` and `target_spacing` in one.
        slice_profile: thickness of the source's slices in mm, such as "5"; left out, what headers say, and for a volume
            or an array the distance between slices.
        slice_model: the model between slices; left out, ctsr-z.
        overwrite: where `source` is a path: replace results that exist.
        engine: `auto` takes OpenVINO on a CPU where it is installed, else PyTorch.
        precision: `fp32`, or `fp16` on a GPU.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        progress: receives the progress of the work, and a note on everything unusual; left out, what is wrong is a
            Python warning.

    Returns:
        For a volume or an array the same kind, ``(…, scale·rows, scale·columns)`` in HU, float32, on the same field
        of view. For a path a report: `jobs`, `outcomes` (one for each series) and `failed`.

    Raises:
        DomainError: `spacing` is missing or does not fit, or a number lies outside of its range.
        MissingInputError: there is no such model or source.
        UsageError: `out` is missing, exists or lies in the source; an engine or device that does not exist; an argument
            that has no effect on such a `source`.

    Examples:
        >>> fine = ctsr.upscale(volume)
        >>> fine.hu.shape, fine.grid.spacing
        ((3, 256, 256), (2.5, 0.4, 0.4))
        >>> array = ctsr.upscale(volume.hu[0], spacing=(0.8, 0.8), strength="strong")
        >>> report = ctsr.upscale("EXAMS/patient1", "sharper")
    """
    options = UpscaleOptions(
        strength=strength,
        denoise=denoise,
        sharpen=sharpen,
        limit_noise=limit_noise,
        consistent=consistent,
        target_spacing=target_spacing,
        slice_spacing=slice_spacing,
        isotropic=isotropic,
        slice_profile=slice_profile,
        overwrite=overwrite,
    )
    asked = asked_for(engine, precision, device)
    named = None if model is None else load_model(model)
    models = pick_models(named, None if slice_model is None else load_model(slice_model), options, load_model)
    if isinstance(source, str | os.PathLike):
        if out is None:
            raise UsageError("a folder as `source` needs `out`, the folder that receives the result")
        only_where("`source` is an array", spacing=spacing)
        return upscale_folder(
            Path(source), Path(out), models.model, asked, options, between=models.between, progress=progress
        )
    image = given(source, spacing, needs_spacing=True)
    if out is not None:
        raise UsageError("`out` goes with a folder as `source`; write the result of a volume with ctsr.write_series")
    only_where("`source` is a folder", overwrite=overwrite)
    return image.like(_upscaled(image.volume, models, asked, options, progress))


def _upscaled(
    volume: Volume, models: Models, asked: EngineRequest, options: UpscaleOptions, progress: Progress
) -> Volume:
    architecture = models.model.architecture
    conditional = None if architecture.is_through_plane else architecture.conditional
    for line in unheard(options, conditional=conditional):
        progress.note(f"warning: {line}")
    if not architecture.is_through_plane:
        volume = upscale_volume(volume, models.model, open_for(models.model, asked), options, progress).volume
    elif options.wanted_pixel_spacing is not None:
        volume = preprocess(volume, target_spacing=options.wanted_pixel_spacing)
    if models.between is not None:
        volume = slices_between(volume, models.between, open_for(models.between, asked), options, progress)
    return replace(volume, made_by=ModelName.of(models.model).label)


@overload
def degrade(
    source: Volume,
    *,
    scale: int | None = ...,
    degradation: Mode | Degradation = ...,
    seed: int = ...,
    hu_range: HURange = ...,
) -> Volume: ...


@overload
def degrade(
    source: ArrayHU,
    *,
    spacing: Spacing | None = ...,
    scale: int | None = ...,
    degradation: Mode | Degradation = ...,
    seed: int = ...,
    hu_range: HURange = ...,
) -> VoxelsHU: ...


def degrade(
    source: Volume | ArrayHU,
    *,
    spacing: Spacing | None = None,
    scale: int | None = None,
    degradation: Mode | Degradation = "blurnoise",
    seed: int = 42,
    hu_range: HURange = DEFAULT_RANGE,
) -> Volume | VoxelsHU:
    """Make a low-resolution, noisy image of a high-resolution one: blur, downsample, add noise.

    One draw of blur, noise and dose for all slices, and noise of its own for each slice. Rows and columns that `scale`
    does not divide are cropped about the centre.

    Args:
        source: a volume, or an array in HU with the axes (row, column) or (slice, row, column).
        spacing: mm along each axis of an array; only noise of projections depends on it.
        scale: 2 or 4; left out, that of `degradation`, or 2.
        degradation: `clean` only downsamples, `blur` blurs before, `blurnoise` adds noise as well; or ranges of one's
            own, which have a scale of their own.
        seed: the same seed gives the same image, and images of one seed share their draw and their noise: give each
            volume its own where several are compared.
        hu_range: HU are clipped to it.

    Returns:
        The same kind as `source`, ``(…, rows/scale, columns/scale)`` in HU, float32, on the same field of view.

    Raises:
        DomainError: an unknown degradation or scale, or an array with other axes.
        UsageError: `scale` is not that of `degradation`.

    Examples:
        >>> lr = ctsr.degrade(volume, scale=2, degradation="blurnoise", seed=1)
        >>> lr.grid.spacing
        (2.5, 1.6, 1.6)
    """
    image = given(source, spacing, needs_spacing=False)
    ranges = (
        degradation
        if isinstance(degradation, Degradation)
        else Degradation(mode=degradation, scale=2 if scale is None else scale)
    )
    if scale not in {None, ranges.scale}:
        raise UsageError(f"`scale` {scale} is not that of `degradation`, {ranges.scale}; leave one of the two out")
    sampler = DegradationSampler(ranges, deg_seed=seed, seed_mode="global")
    volume = image.volume
    slices: list[SlicePixels] = []
    for index, hu in enumerate(volume.hu):
        lr = image_pair(hu, index, sampler, volume.grid.spacing[1], hu_range).lr
        slices.append(SlicePixels(np.asarray(hu_range.to_hu(lr[0, 0].numpy()), np.float32), None))
    plane = _cropped(plane_of(volume), ranges.scale)
    coarse = plane.recentred(slices[0].hu.shape, (plane.spacing[0] * ranges.scale, plane.spacing[1] * ranges.scale))
    return image.like(volume_of(slices, coarse, volume))


def _cropped(plane: Plane, scale: int) -> Plane:
    """The raster of what is left where `scale` does not divide rows or columns; its centre may move by half a pixel."""
    rows, columns = centered_crop(plane.shape[0], scale), centered_crop(plane.shape[1], scale)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return Plane(shape, plane.spacing, plane.position(rows.start, columns.start), plane.directions)


@overload
def preprocess(source: Volume, *, target_spacing: float = ..., antialias: bool = ...) -> Volume: ...


@overload
def preprocess(
    source: ArrayHU, *, spacing: Spacing, target_spacing: float = ..., antialias: bool = ...
) -> VoxelsHU: ...


@overload
def preprocess(
    source: PathLike,
    out: PathLike,
    *,
    target_spacing: float = ...,
    antialias: bool = ...,
    workers: int | None = ...,
    progress: Progress = ...,
) -> PreprocessReport: ...


def preprocess(
    source: Volume | ArrayHU | PathLike,
    out: PathLike | None = None,
    *,
    spacing: Spacing | None = None,
    target_spacing: float = 0.8,
    antialias: bool = True,
    workers: int | None = None,
    progress: Progress = WARN,
) -> Volume | VoxelsHU | PreprocessReport:
    """Resample CT in plane to one pixel spacing, linearly; padding is never mixed into tissue.

    Args:
        source: a volume; an array in HU with the axes (row, column) or (slice, row, column); or a folder with one
            folder for each patient.
        out: where `source` is a folder: receives valid DICOM below ``<patient>pp`` and the two logs.
        spacing: where `source` is an array: mm along each of its axes.
        target_spacing: mm between pixels of the result, 0.05 to 50.
        antialias: low-pass where pixels get coarser.
        workers: where `source` is a folder: number of processes; by default one for each core.
        progress: told what is done, and of defects; left out, what is wrong is a Python warning.

    Returns:
        For a volume or an array the same kind, in HU, float32, around the same centre. For a folder a report: `rows`
        (one for each series), `written`, `kept` and `failed`.

    Raises:
        DomainError: a spacing outside of its range.
        MissingInputError: there is no such folder, or no CT in it.
        UsageError: `out` is missing, or lies in the source; an argument that has no effect on such a `source`.

    Examples:
        >>> ctsr.preprocess(volume, target_spacing=1.0).grid.spacing
        (2.5, 1.0, 1.0)
        >>> report = ctsr.preprocess("EXAMS", "preprocessed_data", target_spacing=0.8)
    """
    if isinstance(source, str | os.PathLike):
        if out is None:
            raise UsageError("a folder as `source` needs `out`, the folder that receives the result")
        only_where("`source` is an array", spacing=spacing)
        return preprocess_folder(
            Path(source),
            Path(out),
            target_spacing=target_spacing,
            antialias=antialias,
            workers=workers,
            progress=progress,
        )
    only_where("`source` is a folder", out=out, workers=workers)
    if not 0.05 <= target_spacing <= 50:
        raise DomainError(f"`target_spacing` must lie between 0.05 and 50 mm, got {target_spacing:g}")
    image = given(source, spacing, needs_spacing=True)
    before = plane_of(image.volume)
    after = at_spacing(before, target_spacing)
    slices: list[SlicePixels] = []
    for index in range(image.volume.grid.shape[0]):
        pixels = slice_of(image.volume, index)
        resampled = resample(pixels.hu, pixels.padding, before, after, antialias=antialias)
        slices.append(SlicePixels.from_padded(resampled.hu, resampled.padding))
    return image.like(volume_of(slices, after, image.volume))
