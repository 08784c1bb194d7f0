"""The slices of one series, each read, made finer and handed on, several at once."""

import time
from dataclasses import dataclass, field

from ctsr.dicom.reading import quiet
from ctsr.exams import SlicePixels, read_slice
from ctsr.infer.super_resolver import SliceSuperResolver
from ctsr.models.conditioning import Conditions
from ctsr.progress import SILENT, Progress
from ctsr.resample import resample
from ctsr.upscale.picture import LookedAt
from ctsr.upscale.pipeline import pipelined
from ctsr.upscale.plan import Job
from ctsr.upscale.sinks import Sink


@dataclass
class Timing:
    """Seconds spent in each stage; they overlap, so that the whole takes less than their sum."""

    tune: float = 0.0
    """Before the others: a few slices, to choose what the network is told."""
    read: float = 0.0
    enlarge: float = 0.0
    network: float = 0.0
    """Of `enlarge`."""
    write: float = 0.0
    wall: float = 0.0


@dataclass
class Made:
    """What came of the slices of a series."""

    timing: Timing = field(default_factory=Timing)
    beyond_range: int = 0
    """Slices with values above the model's range."""
    middle: LookedAt | None = None
    """The middle slice, to look at."""


@dataclass(frozen=True, eq=False)
class _Slice:
    """A slice on its way."""

    index: int
    pixels: SlicePixels
    beyond_range: bool = False


def make_slices(
    job: Job,
    sink: Sink,
    super_resolver: SliceSuperResolver,
    conditions: Conditions | None,
    progress: Progress = SILENT,
) -> Made:
    """Make every slice of a series and give it to `sink`.

    Args:
        job: the series.
        sink: takes the slices.
        super_resolver: makes them.
        conditions: what a conditional network is told of the series.
        progress: hears how far the work is.

    Raises:
        ReadError: a slice cannot be read, written or read again.
    """
    made = Made()
    stages = _Stages(job, sink, super_resolver, conditions, made)
    count = len(job.series.slices)
    started = time.perf_counter()
    with quiet():
        work = pipelined(count, stages.read, stages.enlarge, stages.write)
        for _ in progress.track(work, total=count, what=f"Upscaling {job.series.patient_id}"):
            pass
    made.timing.wall = time.perf_counter() - started
    return made


@dataclass(frozen=True, eq=False)
class _Stages:
    """What happens to each slice; `made` is kept up to date, each part by one stage alone."""

    job: Job
    sink: Sink
    super_resolver: SliceSuperResolver
    conditions: Conditions | None
    made: Made

    def read(self, index: int) -> _Slice:
        """Decode a slice of the source."""
        started = time.perf_counter()
        pixels = read_slice(self.job.series, index, assume_hu=self.job.options.assume_hu)
        self.made.timing.read += time.perf_counter() - started
        return _Slice(index, pixels, bool((pixels.hu > self.job.model.hu_range.high).any()))

    def enlarge(self, source: _Slice) -> _Slice:
        """Make it finer, and resample it where another spacing was asked for."""
        started = time.perf_counter()
        pixels = self.super_resolver(source.pixels, self.conditions)
        if self.job.options.target_spacing is not None:
            fine, plane = self.job.network_plane(source.index), self.job.plane(source.index)
            resampled = resample(pixels.hu, pixels.padding, fine, plane)
            pixels = SlicePixels.from_padded(resampled.hu, resampled.padding)
        if source.index == len(self.job.series.slices) // 2:
            self.made.middle = LookedAt(source.index, source.pixels.hu, pixels.hu)
        self.made.timing.enlarge += time.perf_counter() - started
        return _Slice(source.index, pixels, source.beyond_range)

    def write(self, index: int, result: _Slice) -> None:
        """Hand it to the files of the result."""
        started = time.perf_counter()
        self.sink.write(index, result.pixels)
        self.made.beyond_range += result.beyond_range
        self.made.timing.write += time.perf_counter() - started
