"""One series from its source to its result: made under a temporary name, checked, then moved into place.

Three stages at once: while one slice is computed, the next is read and the one before is written.
"""

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from ctsr.checkpoint import Meta, current_versions, load_model, unusual
from ctsr.dicom import quiet
from ctsr.documents import as_type, parse_json
from ctsr.errors import CtsrError, DiskFullError, ReadError, SeriesError, UsageError
from ctsr.exams import SlicePixels, read_slice
from ctsr.files import atomic_folder, clear_leftovers, temporary_folder, write_json
from ctsr.infer import Clocked, Engine, EngineConfig, SliceSuperResolver, open_engine
from ctsr.infer.conditions import SAMPLE_SLICES
from ctsr.infer.engine import Tiled, seam_error
from ctsr.models.conditioning import Conditions, with_conditions
from ctsr.pool import pipelined
from ctsr.quality.noise import NoiseEstimate, measure_noise
from ctsr.reporting import SILENT, Progress, listed, one_line
from ctsr.series import check
from ctsr.series_quality import SliceJudge, spread_indices
from ctsr.upscale.between import BetweenMade, make_slices_between, unlike_training
from ctsr.upscale.plan import ENHANCED, PREVIEW, RUN_JSON, UNCERTAINTY, Job
from ctsr.upscale.tuning import Tuning, beyond_range, noise_told_between, tune, unheard, unmeasured
from ctsr.upscale.writers import LookedAt, Sink, draw, draw_coronal, sink_for
from ctsr.volume import resample

SLICE = re.compile(r"\d{4,}\.dcm")  # what the files of a DICOM result are called

MOST_DOUBTS = 5
"""Slices with doubtful values that are named before it is said how many more there are."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one series."""

    output: Path
    num_slices: int = 0
    seconds: float = 0.0
    noise_ratio: float | None = None
    """Noise of the result over that of the source; None where it cannot be measured."""
    warnings: tuple[str, ...] = ()
    error: str = ""
    """Why there is no result; empty where there is one."""
    is_disk_full: bool = False
    """Whether that is for want of room, which may be there later."""
    kept: bool = False
    """It was there already."""


@dataclass(frozen=True, eq=False)
class Network:
    """A model that runs."""

    engine: Engine
    meta: Meta | None
    conditional: bool
    """Whether it is told blur and noise of its input."""
    between: Engine | None = None
    """What makes the slices between slices."""
    between_meta: Meta | None = None


@lru_cache(maxsize=1)
def open_network(spec: EngineConfig, between: EngineConfig | None = None) -> Network:
    """Models in a process that was told of them only: opened once for all their series."""
    model = load_model(spec.model_path)
    engine = open_engine(spec, model)
    if between is None:
        return Network(engine, model.meta, model.architecture.conditional)
    other = load_model(between.model_path)
    return Network(engine, model.meta, model.architecture.conditional, open_engine(between, other), other.meta)


def is_done(job: Job) -> bool:
    """Whether the result is there, whole, and made of the same source with the same settings."""
    record = _read_record(job)
    there = not job.options.uncertainty or job.beside(UNCERTAINTY).is_file()
    return there and record.get("made_from") == job.made_from and record.get("files") == job.files_in(job.record.parent)


def check_output(job: Job) -> None:
    """Refuse to write where something else is.

    Raises:
        UsageError: there is a result that is not to be replaced, or something that is not a result.
    """
    if job.output.is_file() and not job.is_file:
        raise UsageError(f"{job.output}: is a file; name a folder for the result")
    there = job.output.exists() if job.is_file else job.output.is_dir() and any(job.output.iterdir())
    if not there:
        return
    if "made_from" not in _read_record(job):
        raise UsageError(f"{job.output}: exists and is not a result of `ctsr upscale`; choose another folder")
    if not job.is_file and (foreign := _foreign(job)):
        raise UsageError(
            f"{job.output}: holds {listed(foreign, 3)} beside a result; move them, or choose another folder"
        )
    if not job.options.overwrite:
        raise UsageError(
            f"{job.output}: already exists and was created from different input or settings; "
            "`overwrite=True` replaces it"
        )


def attempt(job: Job, network: Callable[[], Network], progress: Progress = SILENT) -> Outcome:
    """Make one series, whatever process this is; what goes wrong is told in the outcome, in `network` too."""
    try:
        if job.refused:
            return Outcome(output=job.output, error=job.refused)
        if not job.options.overwrite and is_done(job):
            # By a worker that died before it could say so.
            return Outcome(output=job.output, kept=True)
        check_output(job)
        return _make(job, network(), progress)
    except (CtsrError, OSError, MemoryError, RuntimeError) as error:  # RuntimeError: PyTorch's, of a full GPU
        reason = one_line(error) or type(error).__name__
        return Outcome(output=job.output, error=reason, is_disk_full=isinstance(error, DiskFullError))


@dataclass
class Timing:
    """Seconds spent in each stage; they overlap, so that the whole takes less than their sum."""

    tune: float = 0.0
    """Before the others: a few slices, to choose what the network is told."""
    read: float = 0.0
    enlarge: float = 0.0
    network: float = 0.0
    """Seconds of `enlarge` that the network took."""
    write: float = 0.0
    wall: float = 0.0


@dataclass
class Made:
    """What came of the slices of a series."""

    timing: Timing = field(default_factory=Timing)
    beyond_range: int = 0
    """Slices of the source with values above the range of a model."""
    middle: LookedAt | None = None
    """The middle slice, to look at."""
    between: BetweenMade | None = None
    """The slices between slices, where those were made."""
    doubts: list[str] = field(default_factory=list[str])
    """A warning for each slice whose values are unlike those of the slices beside it."""
    untold: list[str] = field(default_factory=list[str])
    """A warning where the network between slices is to remove noise that cannot be measured."""


@dataclass(frozen=True, eq=False)
class _Slice:
    """A slice on its way."""

    index: int
    pixels: SlicePixels


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
        progress: receives the progress of the work.

    Raises:
        ReadError: a slice cannot be read, written or read again.
    """
    made = Made()
    stages = _Stages(job, sink, super_resolver, conditions, made, _judge(job))
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
    super_resolver: SliceSuperResolver | None
    """None where slices are made between slices only."""
    conditions: Conditions | None
    made: Made
    judge: SliceJudge

    def finer(self, index: int) -> SlicePixels:
        """A slice of the source made finer in plane, as far as that is wanted."""
        return self.enlarge(self.read(index)).pixels

    def read(self, index: int) -> _Slice:
        """Decode a slice of the source."""
        started = time.perf_counter()
        pixels = read_slice(self.job.series, index, assume_hu=self.job.options.assume_hu)
        self.made.doubts += self.judge(index, pixels)
        # Here, where every slice comes by, whichever way it is made finer.
        self.made.beyond_range += bool((pixels.hu > self.job.highest_hu).any())
        self.made.timing.read += time.perf_counter() - started
        return _Slice(index, pixels)

    def enlarge(self, source: _Slice) -> _Slice:
        """Make it finer, and resample it where another spacing was asked for."""
        started = time.perf_counter()
        pixels = source.pixels if self.super_resolver is None else self.super_resolver(source.pixels, self.conditions)
        if self.job.options.wanted_pixel_spacing is not None:
            fine, plane = self.job.network_plane(source.index), self.job.finer_plane(source.index)
            resampled = resample(pixels.hu, pixels.padding, fine, plane)
            pixels = SlicePixels.from_padded(resampled.hu, resampled.padding)
        if source.index == len(self.job.series.slices) // 2:
            self.made.middle = LookedAt(source.index, source.pixels.hu, pixels.hu)
        self.made.timing.enlarge += time.perf_counter() - started
        return _Slice(source.index, pixels)

    def write(self, index: int, result: _Slice) -> None:
        """Hand it to the files of the result."""
        started = time.perf_counter()
        self.sink.write(index, result.pixels)
        self.made.timing.write += time.perf_counter() - started


def _read_record(job: Job) -> dict[str, object]:
    """What run.json says; nothing where there is none, or where it is another program's."""
    try:
        return as_type(parse_json(job.record.read_bytes()), dict[str, object])
    except (OSError, ReadError):
        return {}


def _foreign(job: Job) -> list[str]:
    """What lies in the folder of a result and is not part of it."""
    ours = {RUN_JSON, PREVIEW, UNCERTAINTY, ENHANCED, job.volume_name}
    names = {path.name for path in job.output.iterdir()}
    return sorted(name for name in names - ours if not SLICE.fullmatch(name))


def _make(job: Job, network: Network, progress: Progress) -> Outcome:
    warnings = check(job.series, "upscale", assume_hu=job.options.assume_hu)
    warnings += job.reference_notes
    if job.format == "nifti":
        check(job.series, "volume", assume_hu=job.options.assume_hu)
        of_dicom = {"compress": job.options.compress != "none", "enhanced": job.options.enhanced}
        warnings += [f"`{name}`: no effect on a result in NIfTI" for name, given in of_dicom.items() if given]
    warnings += unheard(job.options, conditional=network.conditional if job.is_in_plane else None)
    clocked = Clocked(network.engine)
    resolver, tuning, seconds = None, None, 0.0
    if job.is_in_plane:
        warnings += unusual(job.series, network.meta)
        if job.tiling is not None:
            tiled = Tiled(network.engine, job.model.scale, job.tiling)
            warnings.append(_seams(job, tiled, conditional=network.conditional))
            clocked = Clocked(tiled)
        resolver = _resolver(job, network, clocked)
        started = time.perf_counter()
        tuning = tune(_samples(job), resolver, job.series.pixel_spacing, job.options)
        seconds, clocked.seconds = time.perf_counter() - started, 0.0
        warnings += tuning.warnings(network.meta)
        resolver = tuning.apply_to(resolver)
    with _folder_for(job) as folder:
        with sink_for(job, folder) as sink:
            conditions = None if tuning is None else tuning.conditions
            if job.between is None and resolver is not None:
                made = make_slices(job, sink, resolver, conditions, progress)
            else:
                assert job.between is not None, "made between slices"
                option = job.options.slice_option
                warnings += job.between.notes
                warnings += unlike_training(job.between.grid, network.between_meta, option=option)
                made = _make_between(job, network, sink, resolver, tuning, folder, progress)
        made.timing.tune, made.timing.network = seconds, clocked.seconds
        # Once each: what is said of a series is said of it as a volume, too.
        warnings = list(dict.fromkeys([*warnings, *_remarks(job, sink, made)]))
        files = job.files_in(folder)
        if files["count"] != job.num_files:
            raise SeriesError(f"{job.output}: files vanished while they were written; run the same command again")
        write_json(folder / RUN_JSON, _record(job, made, tuning, warnings) | {"files": files})
        if job.options.picture:
            _picture(job, made, tuning, folder / PREVIEW)
    return Outcome(
        output=job.output,
        num_slices=job.num_slices,
        seconds=made.timing.wall,
        noise_ratio=None if tuning is None else tuning.before_after.noise_ratio,
        warnings=tuple(warnings),
    )


def _resolver(job: Job, network: Network, engine: Engine) -> SliceSuperResolver:
    return SliceSuperResolver(
        engine,
        job.model.scale,
        job.model.hu_range,
        conditional=network.conditional,
        skip_air=job.options.skip_air,
        consistent=job.options.consistent,
    )


def _make_between(
    job: Job,
    network: Network,
    sink: Sink,
    resolver: SliceSuperResolver | None,
    tuning: Tuning | None,
    folder: Path,
    progress: Progress,
) -> Made:
    assert network.between is not None, "a job between slices comes with an engine for them"
    made = Made()
    conditions = None if tuning is None else tuning.conditions
    stages = _Stages(job, sink, resolver, conditions, made, _judge(job))
    started = time.perf_counter()
    told = 0.0
    if job.options.denoise:
        noise = _noise_in_plane(job, tuning)
        made.untold = unmeasured(noise, job.options.denoise)
        told = noise_told_between(noise, job.options.denoise)
    with quiet():
        made.between = make_slices_between(job, stages.finer, network.between, told, sink, folder, progress)
    made.timing.write = made.between.seconds_write
    made.timing.wall = time.perf_counter() - started
    return made


def _judge(job: Job) -> SliceJudge:
    return SliceJudge(job.series, "upscale", assume_hu=job.options.assume_hu)


def _noise_in_plane(job: Job, tuning: Tuning | None) -> NoiseEstimate:
    """Noise of the slices that the network between slices gets."""
    if tuning is None:
        slices = _samples(job)
        return measure_noise([s.hu for s in slices], job.series.pixel_spacing, [s.padding for s in slices])
    source_hu, ratio = tuning.noise.sigma_hu, tuning.before_after.noise_ratio
    return replace(tuning.noise, sigma_hu=None if source_hu is None else source_hu * (ratio or 1.0))


def _picture(job: Job, made: Made, tuning: Tuning | None, path: Path) -> None:
    if job.between is not None and made.between is not None:
        draw_coronal(job, made.between.coronal.strips(job.between.grid), path)
    elif made.middle is not None and tuning is not None:
        draw(job, made.middle, tuning, path)


def _samples(job: Job) -> list[SlicePixels]:
    """A few slices of the series, evenly spread."""
    indices = spread_indices(len(job.series.slices), SAMPLE_SLICES)
    with quiet():
        return [read_slice(job.series, index, assume_hu=job.options.assume_hu) for index in indices]


def _seams(job: Job, tiled: Tiled, *, conditional: bool) -> str:
    """What tiles change, measured on the middle slice."""
    pixels = read_slice(job.series, len(job.series.slices) // 2, assume_hu=job.options.assume_hu)
    lr = torch.from_numpy(job.model.hu_range.to_unit(pixels.hu))[None, None]
    if conditional:
        lr = with_conditions(lr, [Conditions(blur_sigma=0.0, noise_sigma=0.0)])
    error = seam_error(tiled.engine, job.model.scale, tiled.tiling, lr) * job.model.hu_range.hu_per_unit
    return (
        f"too large for the memory: {tiled.tiling.text}; at a seam it differs by at most {error:.2g} HU from the whole"
    )


@contextmanager
def _folder_for(job: Job) -> Generator[Path]:
    """A folder to make the result in; it becomes the result, or gives its files, when the block ends well."""
    clear_leftovers(job.output.parent, job.output.name)
    if not job.is_file:
        with atomic_folder(job.output, replace=True) as part:
            yield part
        return
    with temporary_folder(job.output) as part:
        yield part
        # The record last: it must not speak of a volume that is not there yet.
        for name in (PREVIEW, UNCERTAINTY):
            job.beside(name).unlink(missing_ok=True)
            if (part / name).exists():
                (part / name).replace(job.beside(name))
        (part / job.volume_name).replace(job.output)
        (part / RUN_JSON).replace(job.record)


def _remarks(job: Job, sink: Sink, made: Made) -> list[str]:
    remarks = made.doubts[:MOST_DOUBTS]
    if len(made.doubts) > MOST_DOUBTS:
        remarks.append(f"{len(made.doubts) - MOST_DOUBTS} more slices are unlike those beside them")
    remarks += made.untold
    remarks += beyond_range(made.beyond_range, job.highest_hu)
    if sink.left_out:
        remarks.append(f"header elements with unusable values were left out: {', '.join(sorted(sink.left_out))}")
    remarks += sink.remarks
    return remarks


def _record(job: Job, made: Made, tuning: Tuning | None, warnings: list[str]) -> dict[str, object]:
    plane = job.plane(0)
    return {
        "made_from": job.made_from,
        **job.described(),
        "result": {
            "series_uid": job.result_uid,
            "num_slices": job.num_slices,
            "rows": plane.shape[0],
            "columns": plane.shape[1],
            "pixel_spacing_mm": plane.spacing,
        },
        "tuning": None if tuning is None else tuning.plain(job.model.hu_range.hu_per_unit),
        "disagreement_hu": None if made.between is None else made.between.disagreement_hu,
        "seconds": {name: round(value, 3) for name, value in asdict(made.timing).items()},
        "warnings": [job.shown(warning) for warning in warnings],
        "versions": current_versions()
        | ({"openvino": version("openvino")} if job.engine.startswith("openvino") else {}),
    }
