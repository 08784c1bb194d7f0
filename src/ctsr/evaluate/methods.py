"""The methods that an evaluation compares: interpolations, the best linear filter, and models under test.

The linear filter is fitted on patients of the training part alone. Conditional networks are told what each LR slice of
an evaluation, or of the viewer, was made with.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ctsr.checkpoint import Model, ModelKind, find_model
from ctsr.checkpoint.model_lookup import BEST, LAST, STAMPED
from ctsr.data.datasets import SplitExams
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair, centered_crop, slice_pair
from ctsr.degrade import Degradation, DegradationParams, DegradationSampler
from ctsr.errors import UsageError
from ctsr.evaluate import ConditionsSource
from ctsr.hu import HURange
from ctsr.infer import (
    Engine,
    EngineCheck,
    EngineConfig,
    EngineRequest,
    NetworkMethod,
    SuperResolver,
    TorchEngine,
    by_interpolation,
    by_network,
    choose_engine,
    open_engine,
    telling,
)
from ctsr.infer.conditions import SAMPLE_SLICES, drawn_conditions, measured_conditions, measured_in
from ctsr.infer.engine import pick_device
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import Interpolation, LinearFilter, Pair, fit_linear_filter, interpolate
from ctsr.padding import SlicePixels
from ctsr.reporting import SILENT, Progress, safe_name
from ctsr.series_quality import spread_indices
from ctsr.volume import block_means

BILINEAR = "Interpolation (Bilinear)"
BICUBIC = "Interpolation (Bicubic)"
LANCZOS = "Interpolation (Lanczos)"
MODEL = "Model (RRDB)"
"""Name of a single model of this family."""
LINEAR = "Filter (Linear)"
"""Name of the least-squares filter, see `linear_baseline`."""
Baseline: TypeAlias = Interpolation | LinearFilter
BASELINES: Mapping[Interpolation, str] = {"bilinear": BILINEAR, "bicubic": BICUBIC, "lanczos": LANCZOS}
"""Names of the interpolations in rows, tables and plots."""
FAMILIES = {"rrdb": "RRDB", "real_esrgan": "RRDB", "rrdb_skip": "RRDB"}
"""Display names of network families; others are written in capitals."""


@dataclass(frozen=True, eq=False)
class ModelUnderTest:
    """A model that is to be evaluated."""

    model: Model
    device: torch.device
    """Where the network is."""
    engine: Engine | None = None
    """Runs the network; when None, PyTorch does."""
    spec: EngineConfig | None = None
    """How another process opens the same engine; None where there is none."""

    @property
    def network(self) -> nn.Module | Engine:
        """What runs: the engine, or the network itself."""
        return self.engine or self.model.net

    @property
    def conditional(self) -> bool:
        """Whether it is told the blur and the noise of its input."""
        return self.model.architecture.conditional

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
        return (self.engine or TorchEngine(self.model.net)).name

    def on_engine(self, asked: EngineRequest, check: EngineCheck | None, progress: Progress = SILENT) -> Self:
        """The model on another engine, see `ctsr.infer.choose_engine`; unchanged for torch in fp32."""
        if (asked.engine, asked.precision) == ("torch", "fp32"):
            return self
        spec = choose_engine(self.model, asked, check, progress)
        engine = open_engine(spec, self.model)
        progress.note(f"engine: {engine.name}")
        return replace(self, engine=engine, spec=spec)

    @property
    def scale(self) -> int:
        """The network's."""
        return self.model.scale

    @property
    def hu_range(self) -> HURange:
        """HU range that the network sees as [-1, 1]; the default where the file does not hold it."""
        return self.model.hu_range

    @property
    def split(self) -> Mapping[str, Sequence[str]] | None:
        """Part → patient ids of its training; None where the file does not hold them."""
        return self.model.meta.split if self.model.meta else None

    @property
    def also_trained_on(self) -> Sequence[str]:
        """Patients beside the train part on whom an earlier stage was trained."""
        return self.model.meta.also_trained_on if self.model.meta else ()

    @property
    def trained_identities(self) -> Sequence[str]:
        """Hashes of the studies and patients it was trained on; see `ctsr.hashing`."""
        return self.model.meta.trained_identities if self.model.meta else ()

    @property
    def degradation(self) -> Degradation:
        """What it was trained on; the default where the file does not hold it."""
        return self.model.degradation

    @property
    def name(self) -> str:
        """The file's name without its suffix: `best`."""
        return safe_name(self.model.path.stem)

    @property
    def run_name(self) -> str:
        """A name that distinguishes models: the run folder, or the name of a file outside of a run folder."""
        path = self.model.path
        return safe_name(path.parent.name if path.name in {BEST, LAST} and path.parent.name else path.stem)

    @property
    def experiment_name(self) -> str:
        """`run_name` without the time at the end of a run folder's name."""
        stamped = STAMPED.fullmatch(self.run_name)
        return stamped["experiment"] if stamped else self.run_name

    def experiment(self, mode: str) -> str:
        """A name that distinguishes files that are all called `best`: `rrdb_x2_blurnoise_best`."""
        meta = self.model.meta
        experiment = meta.experiment if meta else f"{self.model.architecture.name}_x{self.scale}_{mode}"
        return self.name if self.name.startswith(experiment) else safe_name(f"{experiment}_{self.name}")


def load_model_under_test(
    reference: str | None,
    *,
    device: str = "auto",
    scale: int | None = None,
    kind: ModelKind = "in plane",
    progress: Progress = SILENT,
) -> ModelUnderTest:
    """Load the model that `reference` names onto a device.

    Args:
        reference: a file, a run folder or a name, see `ctsr.checkpoint.model_lookup.resolve_model`.
        device: see `ctsr.infer.engine.pick_device`.
        scale: the scale that the user expects, if any.
        kind: what it is to make finer.
        progress: receives a note of the file that was chosen.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: the file holds none that can be loaded.
        UsageError: its scale is another one, or there is no such device.
    """
    opened = find_model(reference, scale=scale, kind=kind, progress=progress)
    if scale is not None and scale != opened.scale:
        raise UsageError(
            f"`scale` {scale} does not fit {opened.path}, a network for ×{opened.scale}; "
            "leave `scale` out or name another `model_path`"
        )
    if opened.meta is None:
        progress.note(f"warning: {opened.path} does not say how it was trained; default degradation")
    torch_device = pick_device(device, progress=progress)
    opened.net.to(torch_device)
    return ModelUnderTest(opened, torch_device)


def method_names(models: Sequence[ModelUnderTest]) -> tuple[str, ...]:
    """Names of the models in rows: the family of a single model, the runs or files of several."""
    if len(models) == 1:
        family = models[0].model.architecture.name
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
    interpolated = [by_baseline(pair.lr, scale, baseline) for baseline in baselines]
    super_resolved = [model.super_resolve(pair.lr, told or pair.draw.params) for model in models]
    return torch.cat([*interpolated, *super_resolved])


def by_baseline(lr: Tensor, scale: int, baseline: Baseline) -> Tensor:
    """Enlarge by an interpolation or the linear filter: ``(N, 1, h, w)`` → ``(N, 1, scale·h, scale·w)`` in [-1, 1]."""
    if isinstance(baseline, LinearFilter):
        return torch.stack([torch.from_numpy(baseline(each[0].numpy()))[None] for each in lr]).clamp(-1, 1)
    return interpolate(lr, scale, baseline)


def super_resolvers(
    models: Sequence[ModelUnderTest],
    baselines: Sequence[Baseline],
    fixed: Conditions | None = None,
    measured_mm: float | None = None,
    kind: str = "estimated",
) -> tuple[SuperResolver, ...]:
    """The same methods, in the same order, as functions from LR in HU to SR in HU.

    Args:
        models: of one scale and HU range, at least one.
        baselines: in the order of the rows.
        fixed: what conditional models are told of every image; how it was made when None.
        measured_mm: side of an LR pixel; when given, they are told what is measured in each image.
        kind: with `measured_mm`: `estimated`, or the strength at which `ctsr upscale` tells it.
    """
    scale, hu_range = models[0].scale, models[0].hu_range
    measure = None
    if measured_mm is not None:
        measure = partial(measured_in, pixel_mm=measured_mm, scale=scale, hu_range=hu_range, kind=kind)
    return (
        *(_baseline_resolver(baseline, scale, hu_range) for baseline in baselines),
        *(replace(model.method, fixed=fixed, measure=measure) for model in models),
    )


def _baseline_resolver(baseline: Baseline, scale: int, hu_range: HURange) -> SuperResolver:
    if not isinstance(baseline, LinearFilter):
        return by_interpolation(baseline, scale, hu_range)
    return lambda lr_hu: np.clip(baseline(lr_hu), hu_range.low, hu_range.high)


def told_conditions(
    source: ConditionsSource, stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange
) -> Conditions:
    """Blur and noise that a conditional network is told of one LR slice.

    Where `source` is `estimated` or a strength and all slices of a series share one draw, they are measured once, in a
    few slices of the series, as `ctsr upscale` does; where each slice has its own draw, in that slice.

    Args:
        source: what to tell.
        stored: the series.
        index: of the slice.
        sampler: what its LR is made with.
        hu_range: HU that the network sees as [-1, 1].
    """
    match source.kind:
        case "drawn":
            draw = sampler.draw(stored.patient_id, stored.series_uid, stored.identities[index], index)
            if draw.params.noise_model == "exam":
                return _measured_dose(stored, index, sampler, hu_range)
            return drawn_conditions(draw.params, sampler.degradation.scale)
        case "fixed":
            return Conditions(source.blur_sigma, source.noise_hu / hu_range.hu_per_unit)
        case _:
            whole_series = sampler.sampling == "volume"
            indices = spread_indices(len(stored), SAMPLE_SLICES) if whole_series else (index,)
            return _measured(stored, indices, sampler, hu_range, source.kind)


@lru_cache(maxsize=64)
def _measured_dose(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> Conditions:
    """Noise of an exam at less dose is known when its LR has been made."""
    params = slice_pair(stored, index, sampler, hu_range).draw.params
    return drawn_conditions(params, sampler.degradation.scale)


@lru_cache(maxsize=64)
def _measured(
    stored: StoredSeries, indices: tuple[int, ...], sampler: DegradationSampler, hu_range: HURange, kind: str
) -> Conditions:
    scale = sampler.degradation.scale
    slices = [_lr_pixels(stored, index, sampler, hu_range) for index in indices]
    row_mm, column_mm = stored.pixel_spacing
    return measured_conditions(slices, (scale * row_mm, scale * column_mm), scale, hu_range, kind)


def _lr_pixels(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> SlicePixels:
    """One LR slice as a scanner would deliver it: a pixel is padding where all of its HR pixels are."""
    scale = sampler.degradation.scale
    pair = slice_pair(stored, index, sampler, hu_range)
    lr_hu = hu_range.to_hu(pair.lr[0, 0].numpy()).astype(np.float32, copy=False)
    crop = tuple(centered_crop(size, scale) for size in (stored.rows, stored.columns))
    # Means of 0 and 1: 1 where all are padding.
    whole = block_means(stored.padding(index)[crop].astype(np.float32), scale) == 1
    return SlicePixels(lr_hu, whole if whole.any() else None)


MOST_PATIENTS = 8
"""Most patients of the train part, evenly along its list: more do not improve 80 weights for each phase."""
SLICES_A_PATIENT = 2
LARGEST_SIDE = 256
"""LR pixels: of a larger slice, the middle is taken. It bounds the fit to some seconds."""


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """A fitted filter, and the slices it has seen."""

    filter: LinearFilter
    patients: tuple[str, ...]
    slices: tuple[str, ...]
    """Identities of the slices, as rows have them."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights, float64 in the order of the array."""
        return hashlib.sha256(self.filter.weights.astype("<f8").tobytes()).hexdigest()

    def document(self, shown: Callable[[str], str] = str) -> dict[str, Any]:
        """For `summary.json`, where patients and slices are called what `shown` makes of their names."""
        return {
            "sha256": self.sha256,
            "size": self.filter.size,
            "weights": self.filter.weights.tolist(),
            "patients": [shown(name) for name in self.patients],
            "slices": [shown(identity) for identity in self.slices],
        }


def fit_linear_baseline(
    exams: SplitExams,
    evaluated: Collection[str],
    store: Path,
    sampler: DegradationSampler,
    hu_range: HURange,
    *,
    assume_hu: bool = False,
    progress: Progress = SILENT,
) -> LinearBaseline:
    """Fit the filter to slices of training patients, degraded as those of the evaluation are.

    Args:
        exams: patients and split.
        evaluated: every folder of people in the evaluation: none of them is used, whatever part they belong to.
        store: where decoded series are kept.
        sampler: what LR is made with.
        hu_range: HU that the network sees as [-1, 1].
        assume_hu: read series without a rescale as HU.
        progress: receives notes on the patients and the time.

    Raises:
        UsageError: the train part has no patient, none that is not evaluated, or none whose series can be used.
    """
    started = time.perf_counter()
    usable = [patient for patient in exams.split.part("train") if patient not in set(evaluated)]
    if not usable:
        raise UsageError(
            f"`baselines` linear is fitted on training patients, and the train part of {exams.source} has none that is "
            "not evaluated here; leave linear out, or name a split with `split_json`"
        )
    chosen = [usable[index] for index in spread_indices(len(usable), MOST_PATIENTS)]
    opened = exams.part("train", "evaluate", store, only=chosen, assume_hu=assume_hu, progress=progress)
    slices = list(_chosen_slices(opened.series, chosen))
    if not slices:
        why = next(iter((*opened.failures, *exams.failures)), "none can be read")
        raise UsageError(f"`baselines` linear: no training patient has a series to fit it to: {why}")
    pairs = (_pair(*place, sampler, hu_range) for place in slices)
    fitted = fit_linear_filter(pairs, scale=sampler.degradation.scale)
    patients = tuple(dict.fromkeys(stored.patient_id for stored, _ in slices))
    seconds = time.perf_counter() - started
    progress.note(
        f"linear filter: fitted to {len(slices)} slices of {len(patients)} training patients in {seconds:.1f} s"
    )
    return LinearBaseline(fitted, patients, tuple(stored.identities[index] for stored, index in slices))


def _chosen_slices(series: Sequence[StoredSeries], patients: Sequence[str]) -> Iterator[tuple[StoredSeries, int]]:
    for patient in patients:
        own: list[tuple[StoredSeries, int]] = []
        for stored in series:
            if stored.patient_id == patient:
                own += [(stored, index) for index in range(len(stored))]
        yield from (own[place] for place in spread_indices(len(own), SLICES_A_PATIENT))


def _pair(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> Pair:
    """LR and HR in [-1, 1], at most `LARGEST_SIDE` LR pixels along each side."""
    pair, scale = slice_pair(stored, index, sampler, hu_range), sampler.degradation.scale
    lr, hr = pair.lr[0, 0].numpy(), pair.hr[0, 0].numpy()
    rows, columns = _middle(lr.shape[0]), _middle(lr.shape[1])
    finer = slice(scale * rows.start, scale * rows.stop), slice(scale * columns.start, scale * columns.stop)
    return lr[rows, columns], hr[finer]


def _middle(size: int) -> slice:
    start = max(0, size - LARGEST_SIDE) // 2
    return slice(start, start + min(size, LARGEST_SIDE))
