"""Slices shared between processes: each measures chunks of them as this one would, to the last digit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ctsr.checkpoint import Generator, load_generator
from ctsr.checkpoint.blend import blend
from ctsr.checkpoint.generator import Blend
from ctsr.cluster import LostError, each_in_order
from ctsr.degrade import DegradationSampler
from ctsr.errors import CheckpointError, MissingInputError
from ctsr.evaluate.judge import Domain
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.perceptual import choose_learned
from ctsr.evaluate.pipeline import FAILURES, Lost, measured
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.evaluate.rows import Row
from ctsr.infer.choose import EngineSpec, open_engine
from ctsr.text import one_line

__all__ = ["Crew", "measured_by"]

CHUNK = 4
"""Slices that a process takes at once: few enough that all are busy to the end, and little is lost with one of them."""

Chunk: TypeAlias = tuple[tuple[int, PlannedSlice], ...]
"""Slices of one series, each with its number in the plan."""


@dataclass(frozen=True)
class Crew:
    """Processes that share the slices of an evaluation."""

    executor: Executor
    """From `ctsr.cluster.executor_for`."""
    threads: int | None = None
    """Of the CPU, for each of the processes; as many as its libraries like when None."""


@dataclass(frozen=True, eq=False)
class _Source:
    """A model as another process finds it again; networks themselves are too large to send with every chunk."""

    path: Path
    """What rows and tables name the model by; not a file where it is a blend."""
    sha256: str
    blend: Blend | None
    device: str
    spec: EngineSpec | None

    @classmethod
    def of(cls, model: ModelUnderTest, threads: int | None) -> "_Source":
        generator = model.generator
        spec = model.spec and replace(model.spec, threads=threads)
        return cls(generator.path, generator.sha256, generator.blend, str(model.device), spec)

    def opened(self, folder: Path) -> ModelUnderTest:
        """The model, ready to run; relative paths begin at `folder`."""
        generator = replace(self._generator(folder), path=self.path)
        if generator.sha256 != self.sha256:
            raise CheckpointError(f"{self.path} is not the file any more that it was when the evaluation began")
        device = torch.device(self.device)
        if self.spec is not None:
            return ModelUnderTest(generator, device, open_engine(self.spec, generator), self.spec)
        generator.net.to(device)
        return ModelUnderTest(generator, device)

    def _generator(self, folder: Path) -> Generator:
        if self.blend is None:
            return load_generator(folder / self.path)
        first, second = (load_generator(folder / end) for end in (self.blend.first, self.blend.second))
        return blend(first, second, self.blend.alpha)


@dataclass(frozen=True)
class _Recipe:
    """A plan without its slices, and without networks and metrics: each process makes these anew, once."""

    key: str
    """Stands for all the rest."""
    folder: Path = field(compare=False)
    """Where relative paths begin: the process may be somewhere else."""
    models: tuple[_Source, ...] = field(compare=False)
    options: EvaluateOptions = field(compare=False)
    domains: tuple[Domain, ...] = field(compare=False)
    metrics: tuple[str, ...] = field(compare=False)
    sampler: DegradationSampler = field(compare=False)
    said: Mapping[str, Mapping[str, Any]] = field(compare=False)
    """Who computes the learned metrics."""
    split_source: str = field(compare=False)
    threads: int | None = field(compare=False)

    @classmethod
    def of(cls, plan: EvaluationPlan, key: str, threads: int | None) -> "_Recipe":
        options = replace(
            plan.options,
            cache=plan.options.cache and plan.options.cache.absolute(),
            workers=plan.options.workers or threads or 0,
        )
        return cls(
            key=key,
            folder=Path.cwd(),
            models=tuple(_Source.of(model, threads) for model in plan.models),
            options=options,
            domains=plan.domains,
            metrics=plan.metrics,
            sampler=plan.sampler,
            said={name: dict(said) for name, said in plan.learned.said.items()},
            split_source=plan.split_source,
            threads=threads,
        )


def measured_by(
    crew: Crew, plan: EvaluationPlan, key: str, wanted: Sequence[tuple[int, PlannedSlice]]
) -> Iterator[list[Row] | Lost]:
    """As `ctsr.evaluate.pipeline.measured`, by the processes of a crew; what takes them down is lost alone.

    Args:
        crew: sees the models' files and the store under the same absolute paths.
        plan: settles everything.
        key: changes with everything that a row depends on.
        wanted: slices with their number in the plan.
    """
    chunks = list(_chunks(wanted))
    work = partial(_measure, recipe=_Recipe.of(plan, key, crew.threads))
    for chunk, found in zip(chunks, each_in_order(work, chunks, crew.executor), strict=True):
        yield from _all_lost(chunk, found) if isinstance(found, LostError) else found


def _chunks(wanted: Iterable[tuple[int, PlannedSlice]]) -> Iterator[Chunk]:
    for _, several in groupby(wanted, key=lambda one: one[1].stored.folder):
        own = tuple(several)
        yield from (own[start : start + CHUNK] for start in range(0, len(own), CHUNK))


def _measure(chunk: Chunk, recipe: _Recipe) -> list[list[Row] | Lost]:
    """The rows of each slice of a chunk, whatever process this is."""
    try:
        plan = _opened(recipe)
    except FAILURES as error:
        return _all_lost(chunk, error)
    return list(measured(plan, chunk))


def _all_lost(chunk: Chunk, error: Exception) -> list[list[Row] | Lost]:
    reason = one_line(error) or type(error).__name__
    return [Lost(planned.ref, reason) for _, planned in chunk]


@lru_cache(maxsize=1)
def _opened(recipe: _Recipe) -> EvaluationPlan:
    """The plan again, without slices.

    Raises:
        CheckpointError: a model's file is another one now.
        MissingInputError: it is not there, or learned metrics would be computed by something else.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    options = recipe.options
    learned = choose_learned(recipe.metrics, options.lpips, options.cache, backend=options.perceptual_backend)
    if learned.said != recipe.said:
        names = ", ".join(sorted(set(learned.said) ^ set(recipe.said))) or "the learned metrics"
        raise MissingInputError(f"a worker has other weights or packages for {names}; install there what is here")
    return EvaluationPlan(
        models=tuple(model.opened(recipe.folder) for model in recipe.models),
        options=options,
        domains=recipe.domains,
        metrics=recipe.metrics,
        sampler=recipe.sampler,
        learned=learned,
        split_source=recipe.split_source,
        slices=(),
        failures=(),
    )
