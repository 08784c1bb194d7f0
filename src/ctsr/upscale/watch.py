"""A watched folder: series are upscaled as they arrive, each once it has stopped growing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ctsr.checkpoint import Model
from ctsr.dicom.reading import files_below
from ctsr.errors import CtsrError, MissingInputError, UsageError
from ctsr.exams import scan
from ctsr.files import file_state
from ctsr.infer.selection import EngineRequest, choose_engine, open_engine
from ctsr.paths import check_apart
from ctsr.progress import SILENT, Progress
from ctsr.series import Series, is_nifti
from ctsr.upscale.between import Models
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.plan import Job, plan_series
from ctsr.upscale.run import with_between
from ctsr.upscale.series import Network, attempt, is_done
from ctsr.upscale.sources import chosen

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
    made again; one that failed is tried again when its files change.

    Args:
        source: folder to watch; only read.
        out: receives the results.
        model: the model.
        asked: how it is to be run; not in INT8, which is checked on the series of one run.
        options: which series, and what of.
        settle_s: seconds without change after which a series is complete.
        between: the model between slices, where `options` want slices there.
        progress: told how far the work is, and of everything unusual.
        wait: sleeps for so many seconds.
        now: a clock in seconds.

    Raises:
        UsageError: `source` is no folder, or these options cannot be used here.
        KeyboardInterrupt: the end, raised by `wait` or between two slices.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: only a folder can be watched")
    if is_nifti(out):
        raise UsageError(f"{out}: results of a watched folder need a folder")
    if asked.int8 is not None:
        raise UsageError("`precision=int8` is checked on the series of one run; watch in fp32 or fp16")
    if options.wanted_slice_spacing is not None and between is None:
        raise UsageError("`slice_spacing` needs a model between slices; name one with `between`")
    check_apart(source, out)
    source, out = source.absolute(), out.absolute()
    spec = choose_engine(model, asked, None, progress)
    network = Network(open_engine(spec, model), model.meta, model.architecture.conditional)
    if between is not None:
        _, network = with_between(network, between, asked, progress)
    models = Models(model, between)
    progress.note(f"engine: {network.engine.name}; watching {source}, Ctrl-C ends it")
    folder = GrowingFolder(source, settle_s)
    failed: set[str] = set()
    while True:
        if folder.look(now()):
            for job in _jobs(source, out, models, network, options, folder, progress):
                if job.made_from in failed or is_done(job):
                    continue
                outcome = attempt(job, lambda: network, progress)
                for warning in outcome.warnings:
                    progress.note(f"warning: {job.series.patient_id}: {warning}")
                if outcome.error:
                    failed.add(job.made_from)
                    progress.note(f"failed: {job.series.path}: {outcome.error}")
                else:
                    progress.note(f"done: {outcome.output}, {outcome.num_slices} slices")
        wait(POLL_S)


def _jobs(
    source: Path,
    out: Path,
    models: Models,
    network: Network,
    options: UpscaleOptions,
    folder: GrowingFolder,
    progress: Progress,
) -> Iterator[Job]:
    """A job for each series that was asked for and has settled."""
    # A result of ours that is older than its source is replaced; anything else in its place never is.
    options = replace(options, overwrite=True)
    try:
        inventory = scan(source, correction=options.hu_correction)
        settled = [item for item in chosen(inventory, options) if folder.has_settled(item.series)]
    except MissingInputError:  # nothing that was asked for is there yet
        return
    for item in settled:
        try:
            yield from plan_series(
                inventory,
                [item],
                models.model,
                network.engine.name,
                options,
                out,
                own_folders=True,
                between=models.between,
                between_engine=network.between.name if network.between else "",
            )
        except (CtsrError, OSError) as error:
            progress.note(f"failed: {item.series.path}: {error}")
