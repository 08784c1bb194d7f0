"""Super-resolve the series of a scan, or one volume."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ctsr.checkpoint import Model
from ctsr.data.datasets import patient_names
from ctsr.exams import scan
from ctsr.files import check_disk_space
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Engine, Tiled, plan_tiles
from ctsr.infer.selection import EngineCheck, EngineConfig, EngineRequest, choose_engine, open_engine
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.padding import SlicePixels, finer_plane, plane_of, slice_of, volume_of
from ctsr.paths import check_apart
from ctsr.pool import LostError, each_in_order
from ctsr.progress import SILENT, Progress
from ctsr.resample import at_spacing, resample
from ctsr.series import Inventory
from ctsr.series_quality import spread_indices
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.plan import Job, chosen, plan_series
from ctsr.upscale.series import Network, Outcome, attempt, check_output, is_done, open_network
from ctsr.upscale.tuning import Tuning, tune
from ctsr.volume import Volume


@dataclass(frozen=True)
class Report:
    """What a run did."""

    jobs: tuple[Job, ...]
    outcomes: tuple[Outcome, ...]
    """One for each job."""
    unusable: tuple[str, ...]
    """A line for each file or folder that is CT but cannot be read."""

    @property
    def failed(self) -> int:
        """Series without a result, and files that cannot be read."""
        return sum(bool(outcome.error) for outcome in self.outcomes) + len(self.unusable)


def upscale(
    source: Path,
    out: Path,
    model: Model,
    asked: EngineRequest,
    options: UpscaleOptions,
    *,
    executor: Executor | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Make series finer with a network, as valid DICOM or as NIfTI.

    Args:
        source: a series, a patient, a root of patients, or a NIfTI file; only read.
        out: receives the result of a source that is one series, else `<patient>/<series>` for each.
        model: the model.
        asked: how it is to be run.
        options: which series, and what of.
        executor: from `ctsr.pool.executor_for`: processes that each take whole series; None works here.
        progress: told how far the work is, and of everything unusual.

    Raises:
        MissingInputError: nothing there fits what was asked for.
        UsageError: the result cannot have the form that was asked for, or lie where it was to.
        CtsrError: the disk has no room.
    """
    check_apart(source, out)
    source, out = source.absolute(), out.absolute()  # other processes may be somewhere else
    names = patient_names(source) if source.is_dir() else {}
    inventory = scan(source, patient_ids=names, correction=options.hu_correction, progress=progress, executor=executor)
    wanted = chosen(inventory, options)

    check: EngineCheck | None = None
    if asked.int8 is not None:
        all_series = [candidate.series for candidate in wanted]
        check = asked.int8.check_on_series(model, all_series, assume_hu=options.assume_hu)
    spec = choose_engine(model, asked, check, progress)
    engine = open_engine(spec, model)
    progress.note(f"engine: {engine.name}")
    jobs = tuple(plan_series(inventory, wanted, model, engine.name, options, out))
    todo = [job for job in jobs if options.overwrite or not is_done(job)]
    if len(jobs) == 1:
        for job in todo:
            check_output(job)
    if todo:
        check_disk_space(out, sum(len(job.series.slices) for job in todo), sum(job.num_bytes for job in todo), progress)
    network = Network(engine, model.meta, model.architecture.conditional)
    made = dict(zip(todo, _outcomes(todo, network, spec, executor, progress), strict=True))
    outcomes = tuple(made.get(job) or Outcome(output=job.output, kept=True) for job in jobs)
    return Report(jobs, outcomes, tuple(_unusable(inventory)))


def _outcomes(
    todo: list[Job], network: Network, spec: EngineConfig, executor: Executor | None, progress: Progress
) -> Iterator[Outcome]:
    if executor is None:
        results = (attempt(job, lambda: network, progress) for job in todo)
    else:
        results = each_in_order(partial(attempt, network=partial(open_network, spec)), todo, executor)
        results = progress.track(results, total=len(todo), what="Upscaling series")
    for job, result in zip(todo, results, strict=True):
        outcome = Outcome(output=job.output, error=str(result)) if isinstance(result, LostError) else result
        for warning in outcome.warnings:
            progress.note(f"warning: {job.series.patient_id}: {warning}")
        if outcome.error:
            progress.note(f"failed: {job.series.patient_id}: {outcome.error}")
        yield outcome


def _unusable(inventory: Inventory) -> Iterator[str]:
    of_patients = (excluded for patient in inventory.patients for excluded in patient.excluded)
    for excluded in (*inventory.excluded, *of_patients):
        if excluded.failed:
            yield f"{excluded.path}: {excluded.reason}"


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
