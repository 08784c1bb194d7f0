"""The whole job: scan, plan, make each series, and say what came of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ctsr.checkpoint import Model
from ctsr.data.datasets import patient_names
from ctsr.dicom.enhanced import check_installed
from ctsr.errors import SeriesError, UsageError
from ctsr.exams import scan
from ctsr.files import check_disk_space
from ctsr.infer.selection import EngineCheck, EngineConfig, EngineRequest, choose_engine, open_engine
from ctsr.paths import check_apart
from ctsr.pool import LostError, each_in_order
from ctsr.progress import SILENT, Progress
from ctsr.series import Inventory
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.plan import Job, plan_series
from ctsr.upscale.series import Network, Outcome, attempt, check_output, is_done, open_network
from ctsr.upscale.sources import chosen, read_reference


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
    between: Model | None = None,
    reference: Path | None = None,
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
        between: the model between slices, where `options` want slices there; `model` may be the same one, and then
            nothing is done in plane.
        reference: a DICOM series of the same examination, whose headers make DICOM of a NIfTI `source`.
        executor: from `ctsr.pool.executor_for`: processes that each take whole series; None works here.
        progress: told how far the work is, and of everything unusual.

    Raises:
        MissingInputError: nothing there fits what was asked for.
        UsageError: the result cannot have the form that was asked for, or lie where it was to.
        CtsrError: the disk has no room.
    """
    if options.wanted_slice_spacing is not None and between is None:
        raise UsageError("`slice_spacing` needs a model between slices; name one with `between`")
    if options.enhanced:
        check_installed()
    check_apart(source, out)
    source, out = source.absolute(), out.absolute()  # other processes may be somewhere else
    names = patient_names(source) if source.is_dir() else {}
    inventory = scan(source, patient_ids=names, correction=options.hu_correction, progress=progress, executor=executor)
    wanted = chosen(inventory, options)
    lender = None if reference is None else read_reference(reference.absolute(), wanted)

    check: EngineCheck | None = None
    if asked.int8 is not None:
        all_series = [candidate.series for candidate in wanted]
        check = asked.int8.check_on_series(model, all_series, assume_hu=options.assume_hu)
    spec = choose_engine(model, asked, check, progress)
    engine = open_engine(spec, model)
    progress.note(f"engine: {engine.name}")
    network, between_spec = Network(engine, model.meta, model.architecture.conditional), None
    if between is not None:
        between_spec, network = with_between(network, between, asked, progress)
    name = network.between.name if network.between else ""
    planned = plan_series(
        inventory, wanted, model, engine.name, options, out, between=between, between_engine=name, reference=lender
    )
    jobs = tuple(planned)
    todo = [job for job in jobs if options.overwrite or not is_done(job)]
    if len(jobs) == 1:
        for job in todo:
            if job.refused:
                raise SeriesError(job.refused)
            check_output(job)
    if todo:
        check_disk_space(out, sum(job.num_slices for job in todo), sum(job.num_bytes for job in todo), progress)
    opener = partial(open_network, spec, between_spec)
    made = dict(zip(todo, _outcomes(todo, network, opener, executor, progress), strict=True))
    outcomes = tuple(made.get(job) or Outcome(output=job.output, kept=True) for job in jobs)
    return Report(jobs, outcomes, tuple(_unusable(inventory)))


def with_between(
    network: Network, model: Model, asked: EngineRequest, progress: Progress
) -> tuple[EngineConfig, Network]:
    """The same network with what runs a model between slices, in fp32 or a GPU's fp16; and how others open that."""
    precision = asked.precision
    if precision == "int8":
        progress.note("between slices: fp32, as INT8 is for models in plane")
        precision = "fp32"
    spec = choose_engine(model, replace(asked, precision=precision, int8=None), None, progress)
    return spec, replace(network, between=open_engine(spec, model), between_meta=model.meta)


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


def _unusable(inventory: Inventory) -> Iterator[str]:
    of_patients = (excluded for patient in inventory.patients for excluded in patient.excluded)
    for excluded in (*inventory.excluded, *of_patients):
        if excluded.failed:
            yield f"{excluded.path}: {excluded.reason}"
