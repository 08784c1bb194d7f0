"""The slices between the slices of a series or a volume: which model makes them, and how they get into a result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.checkpoint import Meta, Model, of_kind
from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL, SLICE_MODELS
from ctsr.documents import as_type
from ctsr.errors import MissingInputError, UsageError
from ctsr.infer import SliceSuperResolver
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Engine, Tiled, plan_tiles
from ctsr.padding import SlicePixels, plane_of, slice_of
from ctsr.quality.noise import measure_noise
from ctsr.reporting import SILENT, Progress
from ctsr.series_quality import spread_indices
from ctsr.through_plane import SliceGrid, SliceProfile, interpolation, parse_profile
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.upscale import DEFAULT_MODEL, UpscaleOptions
from ctsr.upscale.plan import Job
from ctsr.upscale.tuning import Tuning, beyond_range, noise_told_between, tune, unmeasured
from ctsr.upscale.writers import Sink, uncertainty_writer
from ctsr.volume import PaddingMask, Plane, Volume, VoxelsHU, at_spacing, finer_plane, resample

ROUNDING = 0.05
"""Share by which thickness and distance may lie beyond those of the training and still be like them."""


@dataclass(frozen=True, eq=False)
class Models:
    """What makes a result finer."""

    model: Model
    """In plane; where only slices between slices are wanted, `between` itself."""
    between: Model | None
    """Between slices, where those are wanted."""


def pick_models(
    named: Model | None, slice_model: Model | None, options: UpscaleOptions, load: Callable[[str], Model]
) -> Models:
    """The models that are meant. Slices between slices are made alone, unless a model in plane is named as well.

    Args:
        named: a model that was named; of either kind where slices between slices are wanted.
        slice_model: a network between slices that was named.
        options: say whether slices between slices are wanted.
        load: a model by its name.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: it is of the wrong kind.
    """
    if options.wanted_slice_spacing is None:
        if slice_model is not None:
            raise UsageError("`slice_model` goes with `slice_spacing` or `isotropic`")
        return Models(of_kind(named or load(DEFAULT_MODEL), "in plane"), None)
    if named is not None and named.architecture.is_through_plane:
        return Models(named, named)
    if slice_model is None and DEFAULT_SLICE_MODEL not in SLICE_MODELS:
        raise MissingInputError(
            "no model between slices comes with ctsr; `ctsr train --through_plane` makes one, `slice_model` names it"
        )
    between = of_kind(slice_model or load(DEFAULT_SLICE_MODEL), "between slices")
    return Models(named or between, between)


@dataclass
class Coronal:
    """The middle coronal plane, before and after, HU: what a picture shows."""

    row: int = -1
    source: list[npt.NDArray[np.float32]] = field(default_factory=list[npt.NDArray[np.float32]])
    result: list[npt.NDArray[np.float32]] = field(default_factory=list[npt.NDArray[np.float32]])

    def strips(self, grid: SliceGrid) -> dict[str, npt.NDArray[np.float32]]:
        """Source slices as thick as they lie apart, cubic interpolation, and the result: (slices, columns) each."""
        source = np.stack(self.source)
        nearest = [grid.nearest(index) for index in range(grid.num_wanted)]
        positions = grid.source_positions(0, grid.count)
        weights = interpolation("cubic", positions, grid.wanted_positions(0, grid.num_wanted))
        cubic = np.asarray(weights @ source, np.float32)
        return {"before": source[nearest], "cubic": cubic, "super-resolution": np.stack(self.result)}


@dataclass
class BetweenMade:
    """What came of the slices between slices."""

    coronal: Coronal = field(default_factory=Coronal)
    disagreement_hu: float | None = None
    """Mean absolute difference of the answers in coronal and sagittal planes."""
    seconds_read: float = 0.0
    seconds_write: float = 0.0


def make_slices_between(
    job: Job,
    source: Callable[[int], SlicePixels],
    engine: Engine,
    noise_hu: float,
    sink: Sink,
    folder: Path,
    progress: Progress = SILENT,
) -> BetweenMade:
    """Make every slice of a result and give it to `sink`.

    Args:
        job: the series.
        source: gives slices of the series, made finer in plane where that is wanted.
        engine: runs the network between slices.
        noise_hu: what the network is told of the noise of these slices.
        sink: takes the slices.
        folder: receives the map of uncertainty, where one is wanted.
        progress: receives the progress of the work.
    """
    assert job.between is not None, "the job makes slices between slices"
    made, grid = BetweenMade(), job.between.grid

    def read(index: int) -> SlicePixels:
        started = time.perf_counter()
        pixels = source(index)
        made.coronal.row = pixels.hu.shape[0] // 2
        made.coronal.source.append(pixels.hu[made.coronal.row].copy())
        made.seconds_read += time.perf_counter() - started
        return pixels

    resolver = ThroughPlaneSuperResolver(
        engine, job.between.model.hu_range, job.options.skip_air, keep_maps=job.options.uncertainty
    )
    steps, total = resolver.steps(read, grid, noise_hu), resolver.num_steps(grid, *job.plane(0).shape)
    tracked = progress.track(steps, total=total, what=f"Planes across the slices of {job.series.patient_id}")
    with uncertainty_writer(job, folder) as add:
        for index, pixels in enumerate(step for step in tracked if step is not None):
            started = time.perf_counter()
            made.coronal.result.append(pixels.hu[made.coronal.row].copy())
            sink.write(index, pixels)
            add(resolver.disagreement.slice_hu)
            made.seconds_write += time.perf_counter() - started
    made.disagreement_hu = resolver.disagreement.mean_hu
    return made


THICKNESS, DISTANCE = "thickness over the wanted distance", "distance over thickness"
REMEDY = {
    THICKNESS: "choose another `{option}`, or pass `slice_profile` if the header's thickness is wrong",
    DISTANCE: "pass `slice_profile` if the header's thickness is wrong, and compare coronal images with the source's",
}
"""What to do where a series lies outside of what the model between slices has seen."""


def unlike_training(grid: SliceGrid, meta: Meta | None, *, option: str = "slice_spacing") -> list[str]:
    """One line for each thing about slices and their distance that the model between slices has not seen.

    Args:
        grid: where slices lie and are wanted.
        meta: of the model.
        option: what the slices were asked for with.
    """
    if meta is None:
        return [
            "the model between slices does not say what it was trained on: compare coronal images with the source's"
        ]
    lines: list[str] = []
    thickness, share = grid.profile.width / grid.spacing, grid.distance / grid.profile.width
    trained = {
        name: as_type(meta.degradation.get(name), tuple[float, float], f"meta.degradation.{name}")
        for name in ("thickness_range", "distance_range")
    }
    for what, value, (low, high) in (
        (THICKNESS, thickness, trained["thickness_range"]),
        (DISTANCE, share, trained["distance_range"]),
    ):
        if not low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING):
            remedy = REMEDY[what].format(option=option)
            lines.append(f"{what} is {value:.3g}: the model between slices was trained on {low:g} … {high:g}; {remedy}")
    return lines


def volume_of(slices: list[SlicePixels], plane: Plane, like: Volume) -> Volume:
    """Slices as a volume.

    Args:
        slices: (rows, columns) each, as many as `like` has.
        plane: raster of the first slice.
        like: gives the distance and the direction from slice to slice, and what network made it.
    """
    hu: VoxelsHU = np.stack([pixels.hu for pixels in slices])
    padding: PaddingMask | None = None
    if any(pixels.padding is not None for pixels in slices):
        padding = np.zeros(hu.shape, np.bool_)
        for index, pixels in enumerate(slices):
            if pixels.padding is not None:
                padding[index] = pixels.padding
    grid = replace(
        like.grid,
        shape=(len(slices), *plane.shape),
        spacing=(like.grid.spacing[0], *plane.spacing),
        origin=plane.origin,
    )
    return Volume(hu, grid, padding, like.made_by)


def _beyond_range(volume: Volume, model: Model) -> list[str]:
    high = model.hu_range.high
    return beyond_range(sum(bool((plane > high).any()) for plane in volume.hu), high)


@dataclass(frozen=True, eq=False)
class UpscaledVolume:
    """A super-resolved volume, and how it was made."""

    volume: Volume
    tuning: Tuning


def upscale_volume(
    volume: Volume, model: Model, engine: Engine, options: UpscaleOptions, progress: Progress = SILENT
) -> UpscaledVolume:
    """Super-resolve every slice of a volume in plane.

    Args:
        volume: HU, axes (slice, row, column).
        model: the network's description: scale, HU range, whether it is conditional.
        engine: runs the network.
        options: strength, noise limit, consistency, target spacing, air, memory; the others are of files.
        progress: told how many slices are done, and of bounds that the result does not keep.

    Returns:
        The volume on the same field of view, `model.scale` times finer in plane, or at `options.target_spacing`.
    """
    tiling = plan_tiles(model.architecture, volume.grid.shape[1:], options.memory_bytes)
    resolver = SliceSuperResolver(
        engine if tiling is None else Tiled(engine, model.scale, tiling),
        model.scale,
        model.hu_range,
        conditional=model.architecture.conditional,
        skip_air=options.skip_air,
        consistent=options.consistent,
    )
    count = volume.grid.shape[0]
    samples = [slice_of(volume, index) for index in spread_indices(count, SAMPLE_SLICES)]
    tuning = tune(samples, resolver, volume.grid.spacing[1:], options)
    for warning in [*tuning.warnings(model.meta), *_beyond_range(volume, model)]:
        progress.note(f"warning: {warning}")

    tuned = tuning.apply_to(resolver)
    source = plane_of(volume)
    fine = finer_plane(source, model.scale)
    target = fine if options.wanted_pixel_spacing is None else at_spacing(fine, options.wanted_pixel_spacing)
    slices: list[SlicePixels] = []
    for index in progress.track(range(count), total=count, what="Upscaling"):
        pixels = tuned(slice_of(volume, index), tuning.conditions)
        if target is not fine:
            resampled = resample(pixels.hu, pixels.padding, fine, target)
            pixels = SlicePixels.from_padded(resampled.hu, resampled.padding)
        slices.append(pixels)
    return UpscaledVolume(volume_of(slices, target, volume), tuning)


def slices_between(
    volume: Volume, model: Model, engine: Engine, options: UpscaleOptions, progress: Progress = SILENT
) -> Volume:
    """Make the slices between the slices of a volume.

    Args:
        volume: HU, axes (slice, row, column).
        model: a network between slices.
        engine: runs it.
        options: distance between slices, slice profile (as thick as they lie apart when left out), strength, air.
        progress: told how many slices are done.

    Returns:
        The volume from its first slice to its last, at the distance that `options` ask for.

    Raises:
        DomainError: a single slice, or slices that lie as near already.
    """
    spacing = options.wanted_slice_spacing
    assert spacing is not None, "the caller has checked that slices are wanted"
    distance = volume.grid.spacing[0]
    profile = SliceProfile(distance) if options.slice_profile is None else parse_profile(options.slice_profile)
    grid = SliceGrid(volume.grid.shape[0], distance, profile, spacing)
    samples = [slice_of(volume, index) for index in spread_indices(grid.count, SAMPLE_SLICES)]
    noise = measure_noise([s.hu for s in samples], volume.grid.spacing[1:], [s.padding for s in samples])
    warnings = unlike_training(grid, model.meta, option=options.slice_option)
    warnings += [*_beyond_range(volume, model), *unmeasured(noise, options.denoise or 0.0)]
    for line in warnings:
        progress.note(f"warning: {line}")
    resolver = ThroughPlaneSuperResolver(engine, model.hu_range, options.skip_air)
    told = noise_told_between(noise, options.denoise)
    steps = resolver.steps(lambda index: slice_of(volume, index), grid, told)
    total = resolver.num_steps(grid, *volume.grid.shape[1:])
    tracked = progress.track(steps, total=total, what="Planes across the slices")
    slices = [pixels for pixels in tracked if pixels is not None]
    made = volume_of(slices, plane_of(volume), volume)
    return replace(made, grid=replace(made.grid, spacing=(spacing, *made.grid.spacing[1:])))
