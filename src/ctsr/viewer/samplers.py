"""What a viewer's images are made with: degradations, recorded or changed on the page, strengths, a model, a cache."""

import sys
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache
from torch import nn

from ctsr.degrade import Degradation, DegradationParams, DegradationSampler, Draw, Mode, Sampling, SeedMode
from ctsr.degrade.degradation import AppliedDownsampling, NoiseModel
from ctsr.documents import as_type, parse_json
from ctsr.errors import CtsrError, DomainError, MissingInputError, ReadError, UsageError
from ctsr.evaluate import DEFAULT_BASELINES, DRAWN, BaselineName, ConditionsSource
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.hashing import pseudonym
from ctsr.hu import FloatArray, Window
from ctsr.models.conditioning import Conditions
from ctsr.models.interpolation import LinearFilter
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.tuning import strength_of

Pixels: TypeAlias = npt.NDArray[np.float32]


class SliceCache:
    """Least recently used cache of computed slices, limited in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        def size(pixels: Pixels) -> int:
            # A slice larger than the cache counts as all of it: it evicts everything else and is kept.
            return min(pixels.nbytes, max_bytes)

        self._slices: LRUCache[Hashable, Pixels] = LRUCache(max_bytes, getsizeof=size)
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return int(self._slices.currsize)

    def get(self, key: Hashable) -> Pixels | None:
        """Return the slice and mark it as used; None where it is not cached."""
        with self._lock:
            return self._slices.get(key)

    def has(self, key: Hashable) -> bool:
        """Whether the slice is cached; does not count as a use."""
        return key in self._slices

    def fits(self, num_bytes: int) -> bool:
        """Whether `num_bytes` more can be held without evicting anything."""
        return self._slices.currsize + num_bytes <= self._slices.maxsize

    def drop(self, is_unwanted: Callable[[Any], bool]) -> None:
        """Forget the slices whose keys are unwanted."""
        with self._lock:
            for key in [key for key in self._slices if is_unwanted(key)]:
                del self._slices[key]

    def put(self, key: Hashable, value: Pixels) -> None:
        """Cache a slice and evict the least recently used ones beyond the limit."""
        with self._lock:
            self._slices[key] = value


MAX_SETTINGS = 32
"""Settings remembered; older ones are computed again if a page returns to them."""
MAX_SIGMA = 20.0
"""Largest blur σ in HR pixels; a larger one leaves nothing of an image and costs memory and time."""
MAX_KERNEL = 301
"""Largest blur kernel in HR pixels."""
MAX_SEED = 2**63 - 1
CHANGEABLE = ("mode", "sigma", "noise", "dose", "deg_seed", "sampling")


@dataclass(frozen=True)
class RecordedSampler(DegradationSampler):
    """A sampler that returns recorded parameters, and draws where none were recorded."""

    # Not hashed: mappings are not hashable, and samplers are keys of caches.
    by_series: Mapping[tuple[str, str], DegradationParams] = field(default_factory=dict, hash=False)
    """(patient, series) → parameters shared by all its slices."""
    by_slice: Mapping[tuple[str, str], DegradationParams] = field(default_factory=dict, hash=False)
    """(patient, slice identity) → parameters of this slice."""

    def draw(self, patient_id: str, series_uid: str, slice_identity: str, slice_index: int) -> Draw:
        """The recorded parameters of one slice; the noise seed is derived from its name, as always."""
        drawn = super().draw(patient_id, series_uid, slice_identity, slice_index)
        recorded = self._recorded(patient_id, series_uid, slice_identity)
        return Draw(recorded, drawn.noise_seed) if recorded else drawn

    def has_record(self, patient_id: str, series_uid: str, slice_identity: str) -> bool:
        """Whether parameters of this slice were recorded."""
        return self._recorded(patient_id, series_uid, slice_identity) is not None

    def _recorded(self, patient_id: str, series_uid: str, slice_identity: str) -> DegradationParams | None:
        for patient, series, slice_ in (
            (patient_id, series_uid, slice_identity),
            # An evaluation without names has recorded hashes.
            (pseudonym(patient_id), pseudonym(series_uid), pseudonym(slice_identity)),
        ):
            if found := self.by_slice.get((patient, slice_)) or self.by_series.get((patient, series)):
                return found
        return None


@dataclass(frozen=True)
class RecordedEvaluation:
    """The part of an evaluation's `summary.json` that the viewer reproduces."""

    sampler: RecordedSampler
    patients: tuple[str, ...]
    window: Window
    window_tag: str
    engines: Mapping[str, str]
    """SHA-256 of each model → engine and precision: `torch fp32`."""
    device: str
    """Device of PyTorch engines."""
    conditions: ConditionsSource = DRAWN
    """What a conditional model was told."""
    mask: str = "none"
    """Region of the evaluation's metrics; the viewer measures the whole slice."""
    baselines: tuple[BaselineName, ...] = DEFAULT_BASELINES
    """What the models were compared with."""
    linear: LinearFilter | None = None
    """With its weights, where it was one of them."""

    def has_patient(self, patient_id: str) -> bool:
        """Whether a patient was evaluated, by name or by hash."""
        return patient_id in self.patients or pseudonym(patient_id) in self.patients

    def departures_of(self, model: ModelUnderTest) -> list[str]:
        """Differences between an evaluated model and this one that may change the last digits of SR."""
        recorded, current = self.engines.get(model.model.sha256), model.engine_name
        if recorded is None:
            return ["the evaluation used another model"]
        if recorded != current:
            return [f"the evaluation used the engine {recorded}, the viewer uses {current}"]
        if current.startswith("torch") and self.device != str(model.device):
            return [f"the evaluation ran on {self.device}, the viewer runs on {model.device}"]
        return []


def read_summary(path: Path) -> RecordedEvaluation:
    """Read draws, patients, window and models of an evaluation.

    Raises:
        MissingInputError: no such file.
        ReadError: it is not a summary of `ctsr evaluate`.
    """
    if not path.is_file():
        raise MissingInputError(f"`eval_summary` {path}: no such file")
    try:
        document: Any = as_type(parse_json(path.read_bytes()), dict[str, object])
        return RecordedEvaluation(
            sampler=_recorded_sampler(document),
            patients=as_type(document["patients"], tuple[str, ...], "patients"),
            window=Window(float(document["window"]["center"]), float(document["window"]["width"])),
            window_tag=str(document["window"]["tag"]),
            engines={str(model["sha256"]): str(model["engine"]) for model in document["models"].values()},
            device=str(document["config"]["device"]),
            conditions=ConditionsSource.parse(str((document.get("conditions") or {}).get("source", str(DRAWN)))),
            mask=str(document["mask"]),
            baselines=_recorded_baselines(document["config"].get("baselines", DEFAULT_BASELINES)),
            linear=_recorded_filter(document.get("linear_filter")),
        )
    except (*(ArithmeticError, LookupError, TypeError, ValueError, AttributeError), CtsrError) as error:
        raise ReadError(f"`eval_summary` {path} is no summary.json of `ctsr evaluate` ({error!r})") from error


def _recorded_baselines(given: object) -> tuple[BaselineName, ...]:
    names = (given,) if isinstance(given, str) else as_type(given, tuple[str, ...], "baselines")
    if unknown := set(names) - set(get_args(BaselineName)):
        raise ValueError(f"unknown baseline {unknown}")
    return cast("tuple[BaselineName, ...]", names)


def _recorded_filter(document: Mapping[str, Any] | None) -> LinearFilter | None:
    """None also for evaluations that recorded a hash of the weights only."""
    if document is None or "weights" not in document:
        return None
    return LinearFilter(np.array(document["weights"], np.float64))


def _recorded_sampler(document: Mapping[str, Any]) -> RecordedSampler:
    by_series: dict[tuple[str, str], DegradationParams] = {}
    by_slice: dict[tuple[str, str], DegradationParams] = {}
    for patient, drawn in document["patient_to_degradation_sampled"].items():
        for uid, series in drawn["by_series"].items():
            for slice_ in series.get("by_slice", ()):
                by_slice[patient, str(slice_["sop_instance_uid"])] = _params(slice_)
            if series["sigma"] is not None and "by_slice" not in series:
                # Series that share a UID are numbered in the summary; draws depend on the UID alone.
                by_series[patient, str(uid).split("/")[0]] = _params(series)
    sampling, seed_mode = document["degradation_sampling"], document["deg_seed_mode"]
    if sampling not in get_args(Sampling) or seed_mode not in get_args(SeedMode):
        raise ValueError(f"unknown sampling {sampling!r} or seed mode {seed_mode!r}")
    return RecordedSampler(
        Degradation.from_dict(document["degradation"]),
        cast("Sampling", sampling),
        int(document["deg_seed"]),
        cast("SeedMode", seed_mode),
        by_series,
        by_slice,
    )


def _params(drawn: Mapping[str, Any]) -> DegradationParams:
    sigma, kernel = float(drawn["sigma"]), int(drawn["kernel"])
    check_blur(sigma, kernel)
    downsampling = drawn.get("downsampling", "bilinear")
    noise_model = drawn.get("noise_model", "white")
    if downsampling not in get_args(AppliedDownsampling) or noise_model not in get_args(NoiseModel):
        raise ValueError(f"unknown downsampling {downsampling!r} or noise model {noise_model!r}")
    return DegradationParams(
        sigma,
        kernel,
        float(drawn["noise_sigma"] or 0.0),  # null where it is measured in each slice
        float(drawn["dose"]),
        cast("AppliedDownsampling", downsampling),
        cast("NoiseModel", noise_model),
        float(drawn.get("noise_cutoff", 1.0)),
    )


def check_blur(sigma: float, kernel: int | None) -> None:
    """Refuse a blur that no image needs.

    Raises:
        DomainError: σ or the kernel is too large.
    """
    if not sigma <= MAX_SIGMA:
        raise DomainError(f"blur sigma must be at most {MAX_SIGMA:g} HR pixels, got {sigma:g}")
    if kernel is not None and kernel > MAX_KERNEL:
        raise DomainError(f"blur kernel must be at most {MAX_KERNEL} HR pixels, got {kernel}")


@dataclass(frozen=True, eq=False)
class Setting:
    """A degradation with the number by which page and cache refer to it; numbers are never reused."""

    number: int
    sampler: DegradationSampler
    strength: UpscaleOptions | None = None
    """What SR of images as they are is made with; None where LR is made by `sampler`."""


class SettingRegistry:
    """Degradations by number; 0 is the initial one. Thread-safe."""

    def __init__(self, base: DegradationSampler, strength: UpscaleOptions | None = None) -> None:
        self._settings = {0: Setting(0, base, strength)}
        self._next_number = 1
        self._lock = Lock()

    @property
    def base(self) -> DegradationSampler:
        """The initial degradation."""
        return self._settings[0].sampler

    @property
    def strength(self) -> UpscaleOptions | None:
        """The initial strength; None where LR is made by degradation."""
        return self._settings[0].strength

    def __getitem__(self, number: int) -> Setting:
        """The degradation with this number.

        Raises:
            UsageError: there is none (any more).
        """
        with self._lock:
            if number not in self._settings:
                raise UsageError(f"unknown degradation {number}; load the page again")
            return self._settings[number]

    def add(self, sampler: DegradationSampler, strength: UpscaleOptions | None = None) -> Setting:
        """Register a sampler, or a strength; an equal one keeps its number."""
        with self._lock:
            for setting in self._settings.values():
                if (setting.sampler, setting.strength) == (sampler, strength):
                    return setting
            setting = Setting(self._next_number, sampler, strength)
            self._settings[setting.number] = setting
            self._next_number += 1
            while len(self._settings) > MAX_SETTINGS:
                del self._settings[sorted(self._settings)[1]]
            return setting


def with_changes(base: DegradationSampler, changes: Mapping[str, Any]) -> DegradationSampler:
    """`base` with other values; what is None or missing stays as it is.

    Args:
        base: the initial sampler; returned itself where no value differs.
        changes: `mode`, `sigma` (HR pixels), `noise` ([-1, 1] units), `dose`, each fixed to one value, `deg_seed`,
            `sampling`.

    Raises:
        DomainError, UsageError: a value out of range, or an unknown name.
    """
    if unknown := set(changes) - set(CHANGEABLE):
        raise UsageError(f"unknown degradation parameter {', '.join(sorted(unknown))}; use {', '.join(CHANGEABLE)}")
    given = {name: value for name, value in changes.items() if value is not None}
    sampling = str(given.get("sampling", base.sampling))
    if sampling not in get_args(Sampling):
        raise DomainError(f"unknown sampling {sampling!r}; use {', '.join(get_args(Sampling))}")
    degradation = _degradation(base.degradation, given)
    seed = _seed(given.get("deg_seed", base.deg_seed))
    if (degradation, sampling, seed) == (base.degradation, base.sampling, base.deg_seed):
        return base
    # Recorded parameters belong to the recorded settings only: a changed sampler draws anew.
    return DegradationSampler(degradation, cast("Sampling", sampling), seed, base.seed_mode)


def with_strength(base: UpscaleOptions, changes: Mapping[str, Any]) -> UpscaleOptions:
    """`base` with another strength; what is None or missing stays as it is.

    Args:
        base: the initial options.
        changes: `denoise` and `sharpen`, each from 0 to 1; `limit_noise`, True or False.

    Raises:
        UsageError: a value out of range, or an unknown name.
    """
    if unknown := set(changes) - {"denoise", "sharpen", "limit_noise"}:
        raise UsageError(f"unknown setting {', '.join(sorted(unknown))}; use denoise, sharpen, limit_noise")
    given = {name: value for name, value in changes.items() if value is not None}
    limit_noise = given.pop("limit_noise", base.limit_noise)
    if not isinstance(limit_noise, bool):
        raise UsageError(f"limit_noise must be true or false, got {limit_noise!r}")
    changed = replace(base, limit_noise=limit_noise, **{name: _number(name, value) for name, value in given.items()})
    if base.wanted_slice_spacing is not None:  # where nothing is removed unless it is asked for
        return base if (changed.denoise or 0.0) == (base.denoise or 0.0) else changed
    is_same = strength_of(changed) == strength_of(base) and changed.limit_noise == base.limit_noise
    return base if is_same else changed


def _degradation(base: Degradation, given: Mapping[str, Any]) -> Degradation:
    names = {"sigma": "blur_sigma_range", "noise": "noise_sigma_range", "dose": "dose_factor_range"}
    ranges = {names[name]: (_number(name, value),) * 2 for name, value in given.items() if name in names}
    mode = str(given.get("mode", base.mode))
    if mode not in get_args(Mode):
        raise DomainError(f"unknown degradation {mode!r}; use {', '.join(get_args(Mode))}")
    if "sigma" in given:
        check_blur(_number("sigma", given["sigma"]), None)
    changed = replace(base, mode=cast("Mode", mode), **ranges)
    is_same = all(getattr(changed, each.name) == getattr(base, each.name) for each in fields(base))
    return base if is_same else changed


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} must be a number, got {value!r}")
    if not abs(value) <= sys.float_info.max:  # also nan, and whole numbers that no float holds
        raise UsageError(f"{name} must be a finite number")
    return float(value)


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise UsageError(f"deg_seed must be a whole number from 0 to {MAX_SEED}")
    return value


class StaleRequestError(Exception):
    """The result is not needed any more: the page shows something else."""


class InterruptibleModel:
    """A model as a function of slices, one at a time.

    PyTorch networks stop before the next layer. Other engines cannot be stopped within a slice.
    """

    def __init__(self, model: ModelUnderTest) -> None:
        self._model = model
        self._lock = Lock()
        self._is_cancelled: Callable[[], bool] = _never
        for module in model.model.net.modules():
            if not any(module.children()):
                module.register_forward_pre_hook(self._before_layer)

    @property
    def conditional(self) -> bool:
        """Whether it is told the blur and noise of LR."""
        return self._model.conditional

    def __call__(
        self, lr: FloatArray, made_with: DegradationParams | Conditions, is_cancelled: Callable[[], bool]
    ) -> FloatArray:
        """SR of one slice, bit-identical to the evaluation's.

        Args:
            lr: (h, w) in [-1, 1].
            made_with: what it was made with, or what a conditional model is to take it for.
            is_cancelled: called before the slice, and before each layer where the engine allows it.

        Returns:
            (scale·h, scale·w) in [-1, 1].

        Raises:
            StaleRequestError: `is_cancelled` returned True.
        """
        with self.running(is_cancelled):
            return self._model.super_resolve(torch.from_numpy(lr)[None, None], made_with)[0, 0].numpy()

    @contextmanager
    def running(self, is_cancelled: Callable[[], bool]) -> Generator[None]:
        """Whatever runs the network inside is ended by `StaleRequestError` once `is_cancelled` returns True."""
        with self._lock:
            self._is_cancelled = is_cancelled
            try:
                self.stop_if_cancelled()
                yield
            finally:
                self._is_cancelled = _never

    def _before_layer(self, _module: nn.Module, _inputs: Any) -> None:
        self.stop_if_cancelled()

    def stop_if_cancelled(self) -> None:
        """Raise `StaleRequestError` where what runs now is not wanted any more."""
        if self._is_cancelled():
            raise StaleRequestError


def _never() -> bool:
    return False
