"""Runs the slices of a plan through every method and the metrics: in threads of this process or in worker processes.

While the metrics of one slice are computed, the next slice is super-resolved. Worker processes compute chunks of slices
to the same digits as this process would.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.checkpoint import Blend, Model, blend, load_model
from ctsr.data.pairs import slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.errors import CheckpointError, CtsrError, MissingInputError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import LinearBaseline, ModelUnderTest, reconstruct
from ctsr.evaluate.output_folder import Columns, OutputFolder, Row, RowWriter, SliceRef, Told, read_rows, to_csv
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.slice_metrics import Domain
from ctsr.evaluate.slices import PlannedSlice
from ctsr.files import write_atomically
from ctsr.infer import EngineConfig, open_engine
from ctsr.metrics.perceptual import choose_perceptual
from ctsr.pool import LostError, available_cores, each_in_order
from ctsr.reporting import Progress, one_line

AHEAD = 2
"""Slices that may wait for a thread: enough to keep it busy, few enough to bound the memory."""
CHUNK = 4
"""Slices that a worker process takes at once: few enough to keep all busy to the end, and to lose little with one."""
FAILURES = (CtsrError, OSError, MemoryError, RuntimeError)
"""Errors that lose one slice and not the others; PyTorch raises RuntimeError where memory does not suffice."""

NumberedSlice: TypeAlias = tuple[int, PlannedSlice]
"""A slice and its number in the plan."""
Chunk: TypeAlias = tuple[NumberedSlice, ...]
"""Slices of one series."""


@dataclass(frozen=True)
class LostSlice:
    """A slice without rows."""

    planned: PlannedSlice
    reason: str


@dataclass(frozen=True)
class WorkerPool:
    """Processes that share the slices of an evaluation."""

    executor: Executor
    """From `ctsr.pool.executor_for`."""
    threads: int | None = None
    """CPU threads of each process; the libraries' default when None."""


@dataclass(frozen=True)
class EvaluatedRows:
    """The rows of an evaluation."""

    by_slice: dict[int, list[Row]]
    """Number of a slice in the plan → its rows, in the plan's order."""
    failures: tuple[str, ...]
    """A line for each series and reason with slices that have no rows."""

    @property
    def all(self) -> list[Row]:
        """In the order of the plan."""
        return [row for own in self.by_slice.values() for row in own]


def evaluate_slices(
    plan: EvaluationPlan, folder: OutputFolder, workers: WorkerPool | None, progress: Progress
) -> EvaluatedRows:
    """Compute the rows that an interrupted evaluation has left open, and write them slice by slice.

    Args:
        plan: of the evaluation.
        folder: whose `metrics.csv` is written.
        workers: processes that share the slices; this process alone when None.
        progress: receives the number of slices done.

    Raises:
        CtsrError: not one slice could be evaluated.
    """
    columns = columns_of(plan)
    kept = _kept_rows(plan, folder.metrics_csv) if folder.continued else {}
    if folder.continued:
        progress.note(f"continuing {folder.path}: {len(kept)} of {len(plan.slices)} slices are done")
    todo = [(number, planned) for number, planned in enumerate(plan.slices) if number not in kept]
    results = rows_of_slices(plan, todo) if workers is None else _rows_by_workers(workers, plan, todo)
    found, lost = dict(kept), list[LostSlice]()
    with RowWriter(folder.metrics_csv, columns, [row for own in kept.values() for row in own]) as writer:
        tracked = progress.track(results, total=len(todo), what="Evaluating slices")
        for (number, _), own in zip(todo, tracked, strict=True):
            if isinstance(own, LostSlice):
                lost.append(own)
                continue
            writer.add(own)
            found[number] = own
    rows = EvaluatedRows(dict(sorted(found.items())), tuple(_failure_lines(lost)))
    if not found:
        raise CtsrError(f"no slice could be measured: {rows.failures[0]}")
    if list(found) != list(rows.by_slice):  # slices that an earlier run had lost stand at the end of the file
        write_atomically(folder.metrics_csv, to_csv(rows.all, columns))
    return rows


def columns_of(plan: EvaluationPlan) -> Columns:
    """The columns of its `metrics.csv`."""
    told = bool(plan.conditional_methods)
    return Columns(plan.metrics, plan.domains, plan.model.hu_range, plan.perceptual.pi_kind, told)


def _kept_rows(plan: EvaluationPlan, metrics_csv: Path) -> dict[int, list[Row]]:
    """Rows of the slices of the plan that have all of theirs, by the slice's number."""
    by_ref: dict[SliceRef, list[Row]] = {}
    for row in read_rows(metrics_csv):
        by_ref.setdefault(row.slice, []).append(row)
    expected = [(domain.window.tag, domain.mask, method) for domain in plan.domains for method in plan.methods]
    kept: dict[int, list[Row]] = {}
    for number, planned in enumerate(plan.slices):
        rows = by_ref.get(planned.ref, [])
        if [(row.window, row.mask, row.method) for row in rows] == expected:
            kept[number] = rows
    return kept


def _failure_lines(lost: Sequence[LostSlice]) -> Iterator[str]:
    """A line for each series and reason, by the patient's name even where files show hashes."""
    for (patient, series, reason), group in groupby(
        lost, key=lambda item: (item.planned.stored.patient_id, item.planned.ref.series_uid, item.reason)
    ):
        count = len(list(group))
        yield f"{patient}: {count} slices of series {series} not measured, the same command tries again: {reason}"


# In this process


def rows_of_slices(plan: EvaluationPlan, slices: Iterable[NumberedSlice]) -> Iterator[list[Row] | LostSlice]:
    """Compute the rows of each slice, in the order of `slices`, whatever the number of threads."""
    evaluator, methods, conditional = plan.metric_evaluator, plan.methods, plan.conditional_methods

    def rows(number: int, planned: PlannedSlice, images: Tensor, hr_hu: npt.NDArray[np.floating]) -> list[Row]:
        by_domain = evaluator(images, hr_hu, plan.left_out(number))
        told = told_in_hu(plan, planned)
        return [
            Row(planned.ref, method, values, domain.window.tag, domain.mask, told if method in conditional else None)
            for domain, by_method in by_domain.items()
            for method, values in zip(methods, by_method, strict=True)
        ]

    def submitted(number: int, planned: PlannedSlice) -> Future[list[Row]]:
        try:
            images, hr_hu = reconstruct_slice(plan, planned)
        except FAILURES as error:
            failed = Future[list[Row]]()
            failed.set_exception(error)
            return failed
        return executor.submit(rows, number, planned, images, hr_hu)

    threads = plan.options.workers or available_cores()
    waiting: deque[tuple[PlannedSlice, Future[list[Row]]]] = deque()
    with _metric_threads(threads) as executor:
        for number, planned in slices:
            waiting.append((planned, submitted(number, planned)))
            if len(waiting) > threads + AHEAD:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def reconstruct_slice(plan: EvaluationPlan, planned: PlannedSlice) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Super-resolve one slice by every method, all from the same LR.

    Returns:
        ``(methods, 1, H, W)`` in [-1, 1], and the reference, (H, W) in HU.
    """
    pair = slice_pair(planned.stored, planned.index, plan.sampler, plan.model.hu_range)
    return reconstruct(plan.models, pair, plan.baseline_methods, plan.told(planned)), pair.hr_hu


def told_in_hu(plan: EvaluationPlan, planned: PlannedSlice) -> Told | None:
    """What conditional models are told of a slice, as files hold it."""
    told = plan.told(planned)
    return told and Told(told.blur_sigma, told.noise_sigma * plan.model.hu_range.hu_per_unit)


@contextmanager
def _metric_threads(threads: int) -> Generator[Executor]:
    """Threads for the metrics, each on one core: on several, AlexNet's convolutions round differently."""
    before = torch.get_num_threads()
    try:
        executor = ThreadPoolExecutor(threads, "metrics", torch.set_num_threads, (1,))
        try:
            yield executor
        finally:
            # On an early exit, wait for what has begun and drop the rest.
            executor.shutdown(cancel_futures=True)
    finally:
        # PyTorch applies the number to the thread that sets it and to those that start later.
        torch.set_num_threads(before)


def _result(planned: PlannedSlice, future: Future[list[Row]]) -> list[Row] | LostSlice:
    try:
        return future.result()
    except FAILURES as error:
        return LostSlice(planned, one_line(error) or type(error).__name__)


# In worker processes


def _rows_by_workers(
    workers: WorkerPool, plan: EvaluationPlan, slices: Sequence[NumberedSlice]
) -> Iterator[list[Row] | LostSlice]:
    """As `rows_of_slices`; the workers see the models' files and the store under the same absolute paths.

    A slice that ends a worker process is lost alone.
    """
    chunks = list(_chunks(slices))
    work = partial(_rows_of_chunk, recipe=PlanRecipe.of(plan, workers.threads))
    for chunk, found in zip(chunks, each_in_order(work, chunks, workers.executor), strict=True):
        yield from _all_lost(chunk, found) if isinstance(found, LostError) else found


def _chunks(slices: Iterable[NumberedSlice]) -> Iterator[Chunk]:
    for _, group in groupby(slices, key=lambda numbered: numbered[1].stored.folder):
        own = tuple(group)
        yield from (own[start : start + CHUNK] for start in range(0, len(own), CHUNK))


def _rows_of_chunk(chunk: Chunk, recipe: "PlanRecipe") -> list[list[Row] | LostSlice]:
    """The work of a process."""
    try:
        plan = _plan_of(recipe)
    except FAILURES as error:
        return _all_lost(chunk, error)
    return list(rows_of_slices(plan, chunk))


def _all_lost(chunk: Chunk, error: Exception) -> list[list[Row] | LostSlice]:
    reason = one_line(error) or type(error).__name__
    return [LostSlice(planned, reason) for _, planned in chunk]


@dataclass(frozen=True, eq=False)
class ModelRecipe:
    """A model as another process opens it; networks are too large to send with every chunk."""

    path: Path
    """Names the model in rows and tables; not a file where it is a blend."""
    sha256: str
    blend: Blend | None
    device: str
    spec: EngineConfig | None

    @classmethod
    def of(cls, model: ModelUnderTest, threads: int | None) -> "ModelRecipe":
        """The recipe of a model, for processes with this many threads."""
        opened = model.model
        spec = model.spec and replace(model.spec, threads=threads)
        return cls(opened.path, opened.sha256, opened.blend, str(model.device), spec)

    def opened(self, folder: Path) -> ModelUnderTest:
        """Open the model; relative paths begin at `folder`.

        Raises:
            CheckpointError: the file has changed since the evaluation began.
        """
        opened = replace(self._model(folder), path=self.path)
        if opened.sha256 != self.sha256:
            raise CheckpointError(f"{self.path} has changed since the evaluation began")
        device = torch.device(self.device)
        if self.spec is not None:
            return ModelUnderTest(opened, device, open_engine(self.spec, opened), self.spec)
        opened.net.to(device)
        return ModelUnderTest(opened, device)

    def _model(self, folder: Path) -> Model:
        if self.blend is None:
            return load_model(folder / self.path)
        first = load_model(folder / self.blend.first)
        second = load_model(folder / self.blend.second)
        return blend(first, second, self.blend.alpha)


@dataclass(frozen=True)
class PlanRecipe:
    """A plan without slices, networks and metric functions: each process opens these itself, once."""

    key: str
    """The plan's fingerprint, which identifies all the rest."""
    folder: Path = field(compare=False)
    """Start of relative paths: the process may have another working directory."""
    models: tuple[ModelRecipe, ...] = field(compare=False)
    options: EvaluateOptions = field(compare=False)
    domains: tuple[Domain, ...] = field(compare=False)
    metrics: tuple[str, ...] = field(compare=False)
    sampler: DegradationSampler = field(compare=False)
    provenance: Mapping[str, Mapping[str, Any]] = field(compare=False)
    """Provenance of the perceptual metrics."""
    split_source: str = field(compare=False)
    numbers_with_ma: frozenset[int] = field(compare=False)
    linear: LinearBaseline | None = field(compare=False)
    threads: int | None = field(compare=False)

    @classmethod
    def of(cls, plan: EvaluationPlan, threads: int | None) -> "PlanRecipe":
        """The recipe of a plan, for processes with this many threads."""
        options = replace(
            plan.options,
            cache=plan.options.cache and plan.options.cache.absolute(),
            workers=plan.options.workers or threads or 0,
        )
        return cls(
            key=plan.fingerprint,
            folder=Path.cwd(),
            models=tuple(ModelRecipe.of(model, threads) for model in plan.models),
            options=options,
            domains=plan.domains,
            metrics=plan.metrics,
            sampler=plan.sampler,
            provenance={name: dict(found) for name, found in plan.perceptual.provenance.items()},
            split_source=plan.split_source,
            numbers_with_ma=plan.numbers_with_ma,
            linear=plan.linear,
            threads=threads,
        )


@lru_cache(maxsize=1)
def _plan_of(recipe: PlanRecipe) -> EvaluationPlan:
    """Open the plan, without slices.

    Raises:
        CheckpointError: a model's file has changed.
        MissingInputError: it is not there, or another backend would compute the perceptual metrics.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    options = recipe.options
    perceptual = choose_perceptual(recipe.metrics, options.lpips, options.cache, backend=options.perceptual_backend)
    if perceptual.provenance != recipe.provenance:
        names = ", ".join(sorted(set(perceptual.provenance) ^ set(recipe.provenance))) or "the perceptual metrics"
        raise MissingInputError(f"a worker has other weights or packages for {names}; install the same versions there")
    return EvaluationPlan(
        models=tuple(model.opened(recipe.folder) for model in recipe.models),
        options=options,
        domains=recipe.domains,
        metrics=recipe.metrics,
        sampler=recipe.sampler,
        perceptual=perceptual,
        split_source=recipe.split_source,
        slices=(),
        failures=(),
        numbers_with_ma=recipe.numbers_with_ma,
        linear=recipe.linear,
    )
