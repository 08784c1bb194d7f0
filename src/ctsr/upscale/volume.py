"""Super-resolution of a volume in memory, with the voxels that a series on disk would get."""

from dataclasses import dataclass, replace

from ctsr.checkpoint import Model
from ctsr.infer.conditions import MOST_NOISE, SAMPLE_SLICES
from ctsr.infer.engine import Engine, Tiled, plan_tiles
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.padding import SlicePixels, finer_plane, plane_of, slice_of, volume_of
from ctsr.progress import SILENT, Progress
from ctsr.quality.noise import measure_noise
from ctsr.resample import at_spacing, resample
from ctsr.series_quality import spread_indices
from ctsr.through_plane.slice_grid import SliceGrid, parse_profile
from ctsr.through_plane.slice_profile import SliceProfile
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.tuning import Tuning, tune
from ctsr.volume import Volume


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
    for warning in tuning.warnings():
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
    pixel_spacing = volume.grid.spacing[1:]
    noise = measure_noise([s.hu for s in samples], pixel_spacing, [s.padding for s in samples]).sigma_hu or 0.0
    told = noise * (options.denoise or 0.0) * MOST_NOISE
    resolver = ThroughPlaneSuperResolver(engine, model.hu_range, options.skip_air)
    thin = resolver(lambda index: slice_of(volume, index), grid, told)
    slices = list(progress.track(thin, total=grid.num_wanted, what="Slices between slices"))
    made = volume_of(slices, plane_of(volume), volume)
    return replace(made, grid=replace(made.grid, spacing=(spacing, *made.grid.spacing[1:])))
