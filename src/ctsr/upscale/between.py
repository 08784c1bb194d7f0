"""The slices between the slices of a series: which model makes them, and how they get into a result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.checkpoint import Meta, Model, of_kind
from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL, SLICE_MODELS
from ctsr.dicom.attributes import Attributes
from ctsr.dicom.frames import slice_header
from ctsr.documents import as_type
from ctsr.errors import MissingInputError, UsageError
from ctsr.infer import Engine
from ctsr.padding import SlicePixels
from ctsr.progress import SILENT, Progress
from ctsr.series import Series, is_volume
from ctsr.through_plane.slice_grid import SAME_WITHIN, SliceGrid
from ctsr.through_plane.slice_profile import interpolation
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.upscale.options import DEFAULT_MODEL, UpscaleOptions
from ctsr.upscale.plan import Job
from ctsr.upscale.writers import Sink, uncertainty_writer

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
        progress: hears how far the work is.
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
    thin = resolver(read, grid, noise_hu)
    what = f"Slices between slices of {job.series.patient_id}"
    with uncertainty_writer(job, folder) as add:
        for index, pixels in enumerate(progress.track(thin, total=grid.num_wanted, what=what)):
            started = time.perf_counter()
            made.coronal.result.append(pixels.hu[made.coronal.row].copy())
            sink.write(index, pixels)
            add(resolver.disagreement.slice_hu)
            made.seconds_write += time.perf_counter() - started
    made.disagreement_hu = resolver.disagreement.mean_hu
    return made


def unusual_slices(series: Series, grid: SliceGrid, notes: Sequence[str], meta: Meta | None) -> list[str]:
    """One line for each thing about the slices that headers contradict, or that the model has not seen.

    Args:
        series: the source.
        grid: where its slices lie and are wanted.
        notes: what had to be assumed for the grid, which come first.
        meta: of the model between slices.
    """
    lines = list(notes)
    if not is_volume(series.path):
        stated = Attributes(slice_header(series.slices[0])).number("SpacingBetweenSlices")
        if stated is not None and abs(abs(stated) - grid.distance) > SAME_WITHIN * grid.distance:
            lines.append(
                f"SpacingBetweenSlices says {abs(stated):g} mm, positions say {grid.distance:.4g} mm and are believed"
            )
    if meta is None:
        return [*lines, "the model between slices does not say what it was trained on"]
    thickness, share = grid.profile.thickness / grid.spacing, grid.distance / grid.profile.thickness
    trained = {
        name: as_type(meta.degradation.get(name), tuple[float, float], f"meta.degradation.{name}")
        for name in ("thickness_range", "distance_range")
    }
    for what, value, (low, high) in (
        ("thickness over the wanted distance", thickness, trained["thickness_range"]),
        ("distance over thickness", share, trained["distance_range"]),
    ):
        if not low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING):
            lines.append(f"{what} is {value:.3g}: the model between slices was trained on {low:g} … {high:g}")
    return lines
