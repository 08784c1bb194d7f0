"""The model under test: its network on a device, and what its checkpoint says about how to test it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ctsr.checkpoint.generator import Generator, find_generator
from ctsr.checkpoint.reference import BEST, LAST, STAMPED
from ctsr.degrade import Degradation
from ctsr.device import pick_device
from ctsr.errors import UsageError
from ctsr.hu import HURange
from ctsr.infer import Engine, TorchEngine
from ctsr.infer.choose import AskedFor, EngineCheck, EngineSpec, choose_engine, open_engine
from ctsr.progress import SILENT, Progress
from ctsr.text import safe_name

__all__ = ["ModelUnderTest", "load_model"]


@dataclass(frozen=True, eq=False)
class ModelUnderTest:
    """A generator that is to be evaluated."""

    generator: Generator
    device: torch.device
    """Where the network is."""
    engine: Engine | None = None
    """What runs the network; PyTorch where it is when None."""
    spec: EngineSpec | None = None
    """How another process opens the same engine; None where there is none."""

    @property
    def network(self) -> nn.Module | Engine:
        """What `ctsr.infer.super_resolve` takes."""
        return self.engine or self.generator.net

    @property
    def engine_name(self) -> str:
        """`torch fp32`, `openvino int8`."""
        return (self.engine or TorchEngine(self.generator.net)).name

    def on_engine(self, asked: AskedFor, check: EngineCheck | None, progress: Progress = SILENT) -> "ModelUnderTest":
        """The model run by what was asked for, see `ctsr.infer.choose.choose_engine`; torch in fp32 is what it has."""
        if (asked.engine, asked.precision) == ("torch", "fp32"):
            return self
        spec = choose_engine(self.generator, asked, check, progress)
        engine = open_engine(spec, self.generator)
        progress.note(f"engine: {engine.name}")
        return replace(self, engine=engine, spec=spec)

    @property
    def scale(self) -> int:
        """The network's."""
        return self.generator.scale

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]; the default where the file does not tell."""
        return self.generator.hu_range

    @property
    def split(self) -> Mapping[str, Sequence[str]] | None:
        """Part → patient ids, as it was trained; None where the file does not tell."""
        return self.generator.meta.split if self.generator.meta else None

    @property
    def also_trained_on(self) -> Sequence[str]:
        """Patients beside the train part whom an earlier stage of it was trained on."""
        return self.generator.meta.also_trained_on if self.generator.meta else ()

    @property
    def degradation(self) -> Degradation:
        """What it was trained on; the default where the file does not tell."""
        return self.generator.degradation

    @property
    def name(self) -> str:
        """The file's name without its suffix: `best`."""
        return safe_name(self.generator.path.stem)

    @property
    def run_name(self) -> str:
        """A name that tells models apart: the run's folder, or the file's name where it stands by itself."""
        path = self.generator.path
        return safe_name(path.parent.name if path.name in {BEST, LAST} and path.parent.name else path.stem)

    @property
    def experiment_name(self) -> str:
        """`run_name` without the time that a run's folder ends in."""
        stamped = STAMPED.fullmatch(self.run_name)
        return stamped["experiment"] if stamped else self.run_name

    def experiment(self, mode: str) -> str:
        """A name that tells models apart that are all called `best`: `rrdb_x2_blurnoise_best`."""
        meta = self.generator.meta
        experiment = meta.experiment if meta else f"{self.generator.architecture.name}_x{self.scale}_{mode}"
        return self.name if self.name.startswith(experiment) else safe_name(f"{experiment}_{self.name}")


def load_model(
    reference: str | None, *, device: str = "auto", scale: int | None = None, progress: Progress = SILENT
) -> ModelUnderTest:
    """The model that `reference` means, ready on a device.

    Args:
        reference: see `ctsr.checkpoint.reference.resolve_model`; None takes the newest run.
        device: see `ctsr.device.pick_device`.
        scale: what the user takes it for, if anything.
        progress: hears which file was chosen.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: the file holds none that can be loaded.
        UsageError: its scale is another one, or there is no such device.
    """
    generator = find_generator(reference, scale=scale, progress=progress)
    if scale is not None and scale != generator.scale:
        raise UsageError(
            f"--scale {scale} does not fit {generator.path}, a network for ×{generator.scale}; "
            "leave --scale out or name another --model_path"
        )
    if generator.meta is None:
        progress.note(f"warning: {generator.path} does not say how it was trained; default degradation, split unknown")
    where = pick_device(device, progress=progress)
    generator.net.to(where)
    return ModelUnderTest(generator, where)
