"""One file from its source to its file in the output: what each process of the pool does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ctsr.dicom.classic import slice_header
from ctsr.dicom.element import quiet
from ctsr.dicom.stored import to_stored
from ctsr.dicom.write import derive_slice, save_slice
from ctsr.errors import CtsrError
from ctsr.exams import read_slice, read_volume
from ctsr.preprocess.plan import SeriesPlan, Settings, Task
from ctsr.resample import resample
from ctsr.text import one_line
from ctsr.volume import Grid

__all__ = ["Chunk", "Outcome", "chunks_of", "run_chunk"]

CHUNK = 8
"""Files that go to a process at once: enough to hide the hand-over, few enough to share the work evenly."""


@dataclass(frozen=True)
class Chunk:
    """Some slices of one series, and all that is needed to make them in another process."""

    plan: SeriesPlan
    """Cut down to the slices concerned."""
    settings: Settings
    out_dir: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    output: str
    size: int = 0
    """Bytes; 0 where it failed."""
    error: str = ""
    left_out: tuple[str, ...] = ()
    """Header elements that could not be written again."""


def chunks_of(plan: SeriesPlan, tasks: Sequence[Task], settings: Settings, out_dir: Path) -> Iterator[Chunk]:
    """`tasks` of a series in portions; each carries only its own slices across to the process."""
    for start in range(0, len(tasks), CHUNK):
        part = tasks[start : start + CHUNK]
        taken = [index for task in part for index in task.indices]
        place = {index: i for i, index in enumerate(taken)}
        series = replace(plan.series, slices=tuple(plan.series.slices[index] for index in taken), defects=())
        renumbered = tuple(replace(task, indices=tuple(place[index] for index in task.indices)) for task in part)
        yield Chunk(replace(plan, series=series, tasks=renumbered), settings, out_dir)


def run_chunk(chunk: Chunk) -> list[Outcome]:
    """Make every slice of a chunk; one that fails does not stop the others."""
    with quiet():
        return [_attempt(chunk, task) for task in chunk.plan.tasks]


def _attempt(chunk: Chunk, task: Task) -> Outcome:
    try:
        return _make_volume(chunk, task) if chunk.plan.is_nifti else _make_slice(chunk, task)
    except (CtsrError, OSError, MemoryError) as error:
        return Outcome(task.output, error=one_line(error) or type(error).__name__)


def _make_volume(chunk: Chunk, task: Task) -> Outcome:
    # Imported here because it takes a fifth of a second to load, and most exams are DICOM.
    from ctsr.nifti import save_volume

    plan, settings = chunk.plan, chunk.settings
    volume = read_volume(plan.series)
    hu = np.empty((len(volume.hu), *plan.after.shape), np.float32)
    padding = np.zeros(hu.shape, np.bool_)
    for i, pixels in enumerate(volume.hu):
        outside = None if volume.padding is None else volume.padding[i]
        result = resample(pixels, outside, plan.before, plan.after, antialias=settings.antialias)
        hu[i] = result.hu
        padding[i] = False if result.padding is None else result.padding
    spacing = (volume.grid.spacing[0], *plan.after.spacing)
    grid = Grid(hu.shape, spacing, plan.after.origin, volume.grid.directions)
    stored = to_stored(hu, padding)
    path = chunk.out_dir / task.output
    save_volume(path, stored.values, grid, slope=stored.slope, intercept=stored.intercept)
    return Outcome(task.output, size=path.stat().st_size)


def _make_slice(chunk: Chunk, task: Task) -> Outcome:
    plan, settings = chunk.plan, chunk.settings
    (index,) = task.indices
    source = plan.series.slices[index]
    pixels = read_slice(plan.series, index, assume_hu=settings.assume_hu)
    before = plan.series.plane(index)
    after = before.recentred(plan.after.shape, plan.after.spacing)
    result = resample(pixels.hu, pixels.padding, before, after, antialias=settings.antialias)
    derived = derive_slice(
        slice_header(source),
        result.hu,
        after,
        plan.derivation,
        padding=result.padding,
        instance_number=task.instance_number,
        frame=source.frame,
    )
    path = chunk.out_dir / task.output
    left_out = save_slice(derived, path)
    return Outcome(task.output, size=path.stat().st_size, left_out=left_out)
