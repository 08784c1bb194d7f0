"""The whole job: scan, plan, make each series and say what came of it; once, or whenever a folder gets new series."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ctsr.checkpoint import Model
from ctsr.dicom import files_below
from ctsr.dicom.encode import check_encoder
from ctsr.dicom.variants import check_installed
from ctsr.documents import patient_names
from ctsr.errors import CtsrError, MissingInputError, SeriesError, UsageError
from ctsr.exams import scan
from ctsr.files import ROOM_PAUSE_S, check_disk_space, file_state
from ctsr.infer import EngineCheck, EngineConfig, EngineRequest, choose_engine, open_engine
from ctsr.paths import check_apart
from ctsr.pool import LostError, each_in_order
from ctsr.reporting import SILENT, Progress
from ctsr.series import Command, Series, check, is_nifti
from ctsr.upscale import UpscaleOptions, chosen, read_reference
from ctsr.upscale.between import Models
from ctsr.upscale.plan import Job, plan_series
from ctsr.upscale.series import Network, Outcome, attempt, check_output, is_done, open_network


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


def check_packages(options: UpscaleOptions) -> None:
    """Say what the asked result lacks on this machine, before anything is computed.

    Raises:
        UsageError: a package that writes, anonymizes or compresses it is not installed.
    """
    check_installed(enhanced=options.enhanced, anonymize=options.anonymize)
    check_encoder(options.compress)


def upscale(
    source: Path,
    out: Path,
    model: Model,
    asked: EngineRequest,
    options: UpscaleOptions,
    *,
    between: Model | None = None,
    reference: Path | None = None,
    executor: Executor | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Super-resolve series with a network, in plane, between slices or both; write valid DICOM or NIfTI.

    Args:
        source: a series, a patient, a root of patients, or a NIfTI file; only read.
        out: receives the result of a source that is one series, else `<patient>/<series>` for each.
        model: the model in plane.
        asked: engine, precision and device that run it.
        options: the series, their slices, and what is written.
        between: the model between slices, where `options` want slices there; `model` may be the same one, and then
            nothing is done in plane.
        reference: a DICOM series of the same examination, whose headers make DICOM of a NIfTI `source`.
        executor: from `ctsr.pool.executor_for`: processes that each take whole series; None works here.
        progress: receives the progress of the work, and a note on everything unusual.

    Raises:
        MissingInputError: nothing there fits what was asked for.
        UsageError: the result cannot be written in the requested form or place.
        CtsrError: the disk has no room.
    """
    if options.wanted_slice_spacing is not None and between is None:
        raise UsageError("`slice_spacing` needs a model between slices; name one with `between`")
    check_packages(options)
    check_apart(source, out)
    source, out = source.absolute(), out.absolute()  # other processes may be somewhere else
    names = patient_names(source) if source.is_dir() else {}
    inventory = scan(source, patient_ids=names, correction=options.hu_correction, progress=progress, executor=executor)
    wanted = chosen(inventory, options)
    lender = None if reference is None else read_reference(reference.absolute(), wanted)

    all_series = [candidate.series for candidate in wanted]
    network, opener = _open(model, between, asked, all_series, options, progress)
    engine, name = network.engine.name, network.between.name if network.between else ""
    planned = plan_series(
        inventory, wanted, model, engine, options, out, between=between, between_engine=name, reference=lender
    )
    jobs = tuple(planned)
    todo = [job for job in jobs if options.overwrite or not is_done(job)]
    if len(jobs) == 1:
        for job in todo:
            if job.refused:
                raise SeriesError(job.refused)
            check_output(job)
    if wanted_room := [job for job in todo if not _is_refused(job)]:
        num_slices = sum(job.num_slices for job in wanted_room)
        check_disk_space(out, num_slices, sum(job.num_bytes for job in wanted_room), progress)
    made = dict(zip(todo, _outcomes(todo, network, opener, executor, progress), strict=True))
    outcomes = tuple(made.get(job) or Outcome(output=job.output, kept=True) for job in jobs)
    return Report(jobs, outcomes, tuple(excluded.text for excluded in inventory.failures()))


def _is_refused(job: Job) -> bool:
    """Whether it is known before anything is read that nothing will be made of a series."""
    commands: tuple[Command, ...] = ("upscale", "volume") if job.format == "nifti" else ("upscale",)
    try:
        check(job.series, *commands, assume_hu=job.options.assume_hu)
    except SeriesError:
        return True
    return bool(job.refused)


def _open(
    model: Model,
    between: Model | None,
    asked: EngineRequest,
    series: Sequence[Series],
    options: UpscaleOptions,
    progress: Progress,
) -> tuple[Network, Callable[[], Network]]:
    """The networks on the engines that are chosen for them, and what opens them the same way in another process."""
    spec = choose_engine(model, asked, _engine_check(model, asked, series, options), progress)
    engine = open_engine(spec, model)
    progress.note(f"engine: {engine.name}")
    network = Network(engine, model.meta, model.architecture.conditional)
    if between is None:
        return network, partial(open_network, spec, None)
    if between is model:  # checked and opened once
        return replace(network, between=engine, between_meta=model.meta), partial(open_network, spec, spec)
    between_spec = choose_engine(between, asked, _engine_check(between, asked, series, options), progress)
    return with_between(network, between_spec, between), partial(open_network, spec, between_spec)


def _engine_check(
    model: Model, asked: EngineRequest, series: Sequence[Series], options: UpscaleOptions
) -> EngineCheck | None:
    """What compares a less precise engine with fp32; None where the precision asked for needs none."""
    if asked.precision not in ("int8", "bf16"):
        return None
    from ctsr.quantization.acceptance import check_on_series  # only what is checked needs it

    return check_on_series(model, asked, series, assume_hu=options.assume_hu)


def with_between(network: Network, spec: EngineConfig, model: Model) -> Network:
    """The same network with what runs a model between slices."""
    return replace(network, between=open_engine(spec, model), between_meta=model.meta)


def _outcomes(
    todo: list[Job],
    network: Network,
    opener: Callable[[], Network],
    executor: Executor | None,
    progress: Progress,
) -> Iterator[Outcome]:
    if executor is None:
        results = (attempt(job, lambda: network, progress) for job in todo)
    else:
        results = each_in_order(partial(attempt, network=opener), todo, executor)
        results = progress.track(results, total=len(todo), what="Upscaling series")
    for job, result in zip(todo, results, strict=True):
        outcome = Outcome(output=job.output, error=str(result)) if isinstance(result, LostError) else result
        for warning in outcome.warnings:
            progress.note(f"warning: {job.series.patient_id}: {warning}")
        if outcome.error:
            progress.note(f"failed: {job.series.patient_id}: {outcome.error}")
        yield outcome


POLL_S = 2.0
"""Seconds between two looks at the folder."""


class GrowingFolder:
    """Tells which files of a folder have not changed for a while.

    Times of change are those at which a change was seen: copies keep the times of their originals.

    Args:
        folder: looked at with all that lies below it; hidden files are not.
        settle_s: seconds without change after which a file is whole.
    """

    def __init__(self, folder: Path, settle_s: float) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._unreported: set[Path] = set()
        self._now = 0.0

    def look(self, now: float) -> bool:
        """Look at all files; True when some have settled that had not before."""
        self._now = now
        seen: dict[Path, tuple[tuple[int, int], float]] = {}
        for path in files_below(self._folder):
            try:
                state = file_state(path)
            except OSError:  # moved away since it was listed
                continue
            old = self._seen.get(path)
            seen[path] = old if old is not None and old[0] == state else (state, now)
            if seen[path] is not old:
                self._unreported.add(path)
        self._seen = seen
        settled = {path for path in self._unreported if path not in seen or self._is_settled(path)}
        self._unreported -= settled
        return not settled.isdisjoint(seen)

    def has_settled(self, series: Series) -> bool:
        """Whether nothing has changed lately in the folders that hold a series, its own files included."""
        folders = {header.path.parent for header in series.slices}
        return all(self._is_settled(path) for path in self._seen if path.parent in folders)

    def is_still(self, place: Path) -> bool:
        """Whether a file, or all that lie below a folder, have not changed lately."""
        return all(self._is_settled(path) for path in self._seen if path.is_relative_to(place))

    def _is_settled(self, path: Path) -> bool:
        return self._now - self._seen[path][1] >= self._settle_s


def watch(
    source: Path,
    out: Path,
    model: Model,
    asked: EngineRequest,
    options: UpscaleOptions,
    *,
    settle_s: float,
    between: Model | None = None,
    progress: Progress = SILENT,
    wait: Callable[[float], object] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Upscale series as they arrive in a folder, until interrupted.

    Each series has its own folder ``<patient>/<series>`` in `out`. One that grew after it was done is
    made again; one that failed is tried again when its files change, or after a while where the disk was full. A
    folder that is gone, as a share that is not mounted, is waited for.

    Args:
        source: folder to watch; only read.
        out: receives the results.
        model: the model.
        asked: engine, precision and device; not int8 or bf16, which are checked on the series of one run.
        options: the series, their slices, and what is written.
        settle_s: seconds without change after which a series is complete.
        between: the model between slices, where `options` want slices there.
        progress: receives the progress of the work, and a note on everything unusual.
        wait: sleeps for the seconds it is given.
        now: a clock in seconds.

    Raises:
        UsageError: `source` is not a folder, or an option does not go with watching.
        KeyboardInterrupt: the end, raised by `wait` or between two slices.
    """
    _check_watchable(source, out, asked)
    if options.wanted_slice_spacing is not None and between is None:
        raise UsageError("`slice_spacing` needs a model between slices; name one with `between`")
    source, out = source.absolute(), out.absolute()
    spec = choose_engine(model, asked, None, progress)
    network = Network(open_engine(spec, model), model.meta, model.architecture.conditional)
    if between is not None:
        network = with_between(network, choose_engine(between, asked, None, progress), between)
    models = Models(model, between)
    progress.note(f"engine: {network.engine.name}; watching {source}, Ctrl-C ends it")
    folder = GrowingFolder(source, settle_s)
    failed, told = set[str](), set[str]()
    is_there, due = True, math.inf
    while True:
        if source.is_dir() != is_there:
            is_there = not is_there
            progress.note(f"{source} is there again" if is_there else f"warning: {source} is gone; waiting for it")
        if is_there and (folder.look(now()) or now() >= due):
            due = math.inf
            for job in _jobs(source, out, models, network, options, folder, told, progress):
                if job.made_from in failed or is_done(job):
                    continue
                outcome = attempt(job, lambda: network, progress)
                _tell(job, outcome, progress)
                if outcome.is_disk_full:  # there may be room later, though no file changes
                    due = now() + ROOM_PAUSE_S
                elif outcome.error:
                    failed.add(job.made_from)
        wait(POLL_S)


def _check_watchable(source: Path, out: Path, asked: EngineRequest) -> None:
    if not source.is_dir():
        raise UsageError(f"{source}: only a folder can be watched")
    if is_nifti(out):
        raise UsageError(f"{out}: results of a watched folder need a folder")
    if asked.precision in ("int8", "bf16"):
        raise UsageError(f"`precision={asked.precision}` is checked on the series of one run; watch in fp32 or fp16")
    check_apart(source, out)


def _tell(job: Job, outcome: Outcome, progress: Progress) -> None:
    for warning in outcome.warnings:
        progress.note(f"warning: {job.series.patient_id}: {warning}")
    if outcome.error:
        where = "" if outcome.error.startswith(str(job.series.path)) else f"{job.series.path}: "
        progress.note(f"failed: {where}{outcome.error}")
    else:
        progress.note(f"done: {outcome.output}, {outcome.num_slices} slices")


def _jobs(
    source: Path,
    out: Path,
    models: Models,
    network: Network,
    options: UpscaleOptions,
    folder: GrowingFolder,
    told: set[str],
    progress: Progress,
) -> Iterator[Job]:
    """A job for each series that was asked for and has settled.

    `told` keeps what was said of files that cannot be read, each of which is named once.
    """
    # A result of ours that is older than its source is replaced; anything else in its place never is.
    options = replace(options, overwrite=True)
    try:
        inventory = scan(source, correction=options.hu_correction)
        for excluded in inventory.failures():
            if excluded.text not in told and folder.is_still(excluded.path):
                told.add(excluded.text)
                progress.note(f"failed: {excluded.text}")
        settled = [item for item in chosen(inventory, options) if folder.has_settled(item.series)]
    except MissingInputError:  # nothing that was asked for is there yet
        return
    if not settled:
        return
    try:
        # All at once: two that would have one place are told apart only side by side.
        yield from plan_series(
            inventory,
            settled,
            models.model,
            network.engine.name,
            options,
            out,
            own_folders=True,
            between=models.between,
            between_engine=network.between.name if network.between else "",
        )
    except (CtsrError, OSError) as error:
        progress.note(f"failed: {error}")
