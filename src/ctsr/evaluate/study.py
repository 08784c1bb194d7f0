"""An evaluation that is settled in every detail: which model, which slices, which window, which draws."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ctsr.degrade import Sampler
from ctsr.evaluate.model import Subject
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.plan import PlannedSlice
from ctsr.evaluate.window import MetricWindow

__all__ = ["Study"]


@dataclass(frozen=True, eq=False)
class Study:
    """What will be computed; nothing here is left to chance or to the moment."""

    subject: Subject
    options: EvaluateOptions
    window: MetricWindow
    sampler: Sampler
    split_source: str
    slices: Sequence[PlannedSlice]
    failures: tuple[str, ...]
    """A line for each series that had to be left out."""

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with slices in the plan, in its order."""
        return tuple(dict.fromkeys(planned.ref.patient_id for planned in self.slices))

    @property
    def stem(self) -> str:
        """The folder's name without its time: `test__best__globalHU_-1000_2000_on_test_set`."""
        split = self.options.split
        limited = "limited_" if self.options.is_limited else ""
        return f"{split}__{self.subject.name}__{self.window.tag}_on_{limited}{split}_set"

    @property
    def flat_stem(self) -> str:
        """What `--flat_names` puts behind ``metrics_`` and ``summary_``."""
        experiment = self.subject.experiment(self.sampler.degradation.mode)
        return f"{self.options.split}_{experiment}__{self.window.tag}"

    @property
    def title(self) -> str:
        """For people: split, model, window, how many."""
        counts = f"{len(self.patients)} patients, {len(self.slices)} slices"
        return f"{self.options.split} set, {counts}, model {self.subject.name}, metrics in {self.window.text}"

    def config(self) -> dict[str, Any]:
        """Every flag with the value in force, as `--config` reads it."""
        flags = asdict(self.options) | {
            "model_path": self.subject.generator.path,
            "device": str(self.subject.device),
            "scale": self.subject.scale,
            **self.sampler.degradation.as_flags(),
        }
        return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
