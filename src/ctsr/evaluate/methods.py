"""The methods that an evaluation compares: interpolations as baselines, and models under test.

All of an evaluation's contact with networks and engines is in this module.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ctsr.checkpoint.model import Model, find_model
from ctsr.checkpoint.model_lookup import BEST, LAST, STAMPED
from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, DegradationParams
from ctsr.errors import UsageError
from ctsr.hu import HURange
from ctsr.infer import Engine, SuperResolver, TorchEngine, by_interpolation, by_network, telling
from ctsr.infer.engine import pick_device
from ctsr.infer.selection import AskedFor, EngineCheck, EngineSpec, choose_engine, open_engine
from ctsr.infer.super_resolver import NetworkMethod
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import Interpolation, LinearFilter, interpolate
from ctsr.progress import SILENT, Progress
from ctsr.text import safe_name

BILINEAR = "Interpolation (Bilinear)"
BICUBIC = "Interpolation (Bicubic)"
LANCZOS = "Interpolation (Lanczos)"
MODEL = "Model (RRDB)"
"""Name of a single model of this family."""
LINEAR = "Filter (Linear)"
"""Name of the least-squares filter, see `ctsr.evaluate.linear_baseline`."""
Baseline: TypeAlias = Interpolation | LinearFilter
BASELINES: Mapping[Interpolation, str] = {"bilinear": BILINEAR, "bicubic": BICUBIC, "lanczos": LANCZOS}
"""Names of the interpolations in rows, tables and plots."""
FAMILIES = {"rrdb": "RRDB", "real_esrgan": "RRDB", "rrdb_skip": "RRDB"}
"""Display names of network families; others are written in capitals."""


@dataclass(frozen=True, eq=False)
class ModelUnderTest:
    """A generator that is to be evaluated."""

    generator: Model
    device: torch.device
    """Where the network is."""
    engine: Engine | None = None
    """Runs the network; when None, PyTorch does."""
    spec: EngineSpec | None = None
    """How another process opens the same engine; None where there is none."""

    @property
    def network(self) -> nn.Module | Engine:
        """What runs: the engine, or the network itself."""
        return self.engine or self.generator.net

    @property
    def conditional(self) -> bool:
        """Whether it is told the blur and the noise of its input."""
        return self.generator.architecture.conditional

    @property
    def method(self) -> NetworkMethod:
        """The model as `ctsr upscale` applies it to slices in HU."""
        return by_network(self.network, self.scale, self.hu_range, conditional=self.conditional)

    def super_resolve(self, lr: Tensor, made_with: DegradationParams | Conditions) -> Tensor:
        """Super-resolve one slice as `ctsr upscale` does, where no value lies beyond the model's range.

        Args:
            lr: ``(1, 1, h, w)`` in [-1, 1].
            made_with: what it was made with, or what a conditional model is to take it for.

        Returns:
            ``(1, 1, scale·h, scale·w)`` in [-1, 1], on the CPU.
        """
        sr_hu = telling(self.method, made_with)(self.hu_range.to_hu(lr[0, 0].cpu().numpy()))
        return torch.from_numpy(self.hu_range.to_unit(sr_hu))[None, None]

    @property
    def engine_name(self) -> str:
        """`torch fp32`, `openvino int8`."""
        return (self.engine or TorchEngine(self.generator.net)).name

    def on_engine(self, asked: AskedFor, check: EngineCheck | None, progress: Progress = SILENT) -> "ModelUnderTest":
        """The model on another engine, see `ctsr.infer.selection.choose_engine`; unchanged for torch in fp32."""
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
        """HU range that the network sees as [-1, 1]; the default where the file does not hold it."""
        return self.generator.hu_range

    @property
    def split(self) -> Mapping[str, Sequence[str]] | None:
        """Part → patient ids of its training; None where the file does not hold them."""
        return self.generator.meta.split if self.generator.meta else None

    @property
    def also_trained_on(self) -> Sequence[str]:
        """Patients beside the train part on whom an earlier stage was trained."""
        return self.generator.meta.also_trained_on if self.generator.meta else ()

    @property
    def trained_identities(self) -> Sequence[str]:
        """Hashes of the studies and patients it was trained on; see `ctsr.identity`."""
        return self.generator.meta.trained_identities if self.generator.meta else ()

    @property
    def degradation(self) -> Degradation:
        """What it was trained on; the default where the file does not hold it."""
        return self.generator.degradation

    @property
    def name(self) -> str:
        """The file's name without its suffix: `best`."""
        return safe_name(self.generator.path.stem)

    @property
    def run_name(self) -> str:
        """A name that distinguishes models: the run folder, or the name of a file outside of a run folder."""
        path = self.generator.path
        return safe_name(path.parent.name if path.name in {BEST, LAST} and path.parent.name else path.stem)

    @property
    def experiment_name(self) -> str:
        """`run_name` without the time at the end of a run folder's name."""
        stamped = STAMPED.fullmatch(self.run_name)
        return stamped["experiment"] if stamped else self.run_name

    def experiment(self, mode: str) -> str:
        """A name that distinguishes files that are all called `best`: `rrdb_x2_blurnoise_best`."""
        meta = self.generator.meta
        experiment = meta.experiment if meta else f"{self.generator.architecture.name}_x{self.scale}_{mode}"
        return self.name if self.name.startswith(experiment) else safe_name(f"{experiment}_{self.name}")


def load_model_under_test(
    reference: str | None, *, device: str = "auto", scale: int | None = None, progress: Progress = SILENT
) -> ModelUnderTest:
    """Load the model that `reference` names onto a device.

    Args:
        reference: see `ctsr.checkpoint.model_lookup.resolve_model`; None takes the newest run.
        device: see `ctsr.infer.engine.pick_device`.
        scale: the scale that the user expects, if any.
        progress: receives a note of the file that was chosen.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: the file holds none that can be loaded.
        UsageError: its scale is another one, or there is no such device.
    """
    generator = find_model(reference, scale=scale, progress=progress)
    if scale is not None and scale != generator.scale:
        raise UsageError(
            f"`scale` {scale} does not fit {generator.path}, a network for ×{generator.scale}; "
            "leave `scale` out or name another `model_path`"
        )
    if generator.meta is None:
        progress.note(f"warning: {generator.path} does not say how it was trained; default degradation, split unknown")
    torch_device = pick_device(device, progress=progress)
    generator.net.to(torch_device)
    return ModelUnderTest(generator, torch_device)


def method_names(models: Sequence[ModelUnderTest]) -> tuple[str, ...]:
    """Names of the models in rows: the family of a single model, the runs or files of several."""
    if len(models) == 1:
        family = models[0].generator.architecture.name
        return (f"Model ({FAMILIES.get(family, family.upper())})",)
    names = [model.experiment_name for model in models]
    if len(set(names)) < len(names):
        names = [model.run_name for model in models]
    count = Counter(names)
    numbers = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return tuple(
        f"Model ({name})" if count[name] == 1 else f"Model ({name} {number})"
        for name, number in zip(names, numbers, strict=True)
    )


def short_name(method: str) -> str:
    """Name for axes and captions: `Bicubic`, `RRDB`, the run's name."""
    return method.partition("(")[2].rpartition(")")[0]


def reconstruct(
    models: Sequence[ModelUnderTest],
    pair: SlicePair,
    baselines: Sequence[Baseline],
    told: Conditions | None = None,
) -> Tensor:
    """Super-resolve one LR slice by every method: the baselines, then the models.

    Args:
        models: of one scale and HU range, at least one.
        pair: the slice.
        baselines: in the order of the rows.
        told: what conditional models are told of it; how it was made when None.

    Returns:
        ``(methods, 1, scale·h, scale·w)`` in [-1, 1], on the CPU.
    """
    scale = models[0].scale
    interpolated = [_by_baseline(pair.lr, scale, baseline) for baseline in baselines]
    super_resolved = [model.super_resolve(pair.lr, told or pair.draw.params) for model in models]
    return torch.cat([*interpolated, *super_resolved])


def _by_baseline(lr: Tensor, scale: int, baseline: Baseline) -> Tensor:
    """``(1, 1, h, w)`` → ``(1, 1, scale·h, scale·w)``, both in [-1, 1]."""
    if isinstance(baseline, LinearFilter):
        return torch.from_numpy(baseline(lr[0, 0].numpy()))[None, None].clamp(-1, 1)
    return interpolate(lr, scale, baseline)


def super_resolvers(
    models: Sequence[ModelUnderTest], baselines: Sequence[Baseline], fixed: Conditions | None = None
) -> tuple[SuperResolver, ...]:
    """The same methods, in the same order, as functions from LR in HU to SR in HU.

    Args:
        models: of one scale and HU range, at least one.
        baselines: in the order of the rows.
        fixed: what conditional models are told of every image; how it was made when None.
    """
    scale, hu_range = models[0].scale, models[0].hu_range
    return (
        *(_baseline_resolver(baseline, scale, hu_range) for baseline in baselines),
        *(replace(model.method, fixed=fixed) for model in models),
    )


def _baseline_resolver(baseline: Baseline, scale: int, hu_range: HURange) -> SuperResolver:
    if not isinstance(baseline, LinearFilter):
        return by_interpolation(baseline, scale, hu_range)
    return lambda lr_hu: np.clip(baseline(lr_hu), hu_range.low, hu_range.high)
