"""Super-resolution of a volume in memory, with the voxels that a series on disk would get."""

from dataclasses import dataclass

from ctsr.checkpoint import Model
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Engine, Tiled, plan_tiles
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.padding import SlicePixels
from ctsr.progress import SILENT, Progress
from ctsr.resample import at_spacing, resample
from ctsr.series_quality import spread_indices
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.tuning import Tuning, tune
from ctsr.volume import Volume
from ctsr.volume_slices import finer_plane, plane_of, slice_of, volume_of


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
    target = fine if options.target_spacing is None else at_spacing(fine, options.target_spacing)
    slices: list[SlicePixels] = []
    for index in progress.track(range(count), total=count, what="Upscaling"):
        pixels = tuned(slice_of(volume, index), tuning.conditions)
        if target is not fine:
            resampled = resample(pixels.hu, pixels.padding, fine, target)
            pixels = SlicePixels.from_padded(resampled.hu, resampled.padding)
        slices.append(pixels)
    return UpscaledVolume(volume_of(slices, target, volume), tuning)
