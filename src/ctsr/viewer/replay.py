"""An evaluation's `summary.json`, read back: the draws it recorded, and the window its numbers were taken in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from ctsr.degrade import Degradation, DegradationParams, DegradationSampler, Draw, Sampling, SeedMode
from ctsr.errors import DomainError, MissingInputError, ReadError
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.hu import Window

__all__ = ["Evaluated", "Recorded", "read_summary"]


@dataclass(frozen=True)
class Recorded(DegradationSampler):
    """A sampler that gives the parameters that were recorded, and draws where nothing was."""

    by_series: Mapping[tuple[str, str], DegradationParams] = field(default_factory=dict)
    """(patient, series) → what all its slices share."""
    by_slice: Mapping[tuple[str, str], DegradationParams] = field(default_factory=dict)
    """(patient, slice identity) → what this slice was degraded with."""

    def draw(self, patient_id: str, series_uid: str, slice_identity: str, slice_index: int) -> Draw:
        """The recorded parameters of one slice; its noise seed is a function of its name, as ever."""
        drawn = super().draw(patient_id, series_uid, slice_identity, slice_index)
        recorded = self._recorded(patient_id, series_uid, slice_identity)
        return Draw(recorded, drawn.noise_seed) if recorded else drawn

    def knows(self, patient_id: str, series_uid: str, slice_identity: str) -> bool:
        """Whether something was recorded for this slice."""
        return self._recorded(patient_id, series_uid, slice_identity) is not None

    def _recorded(self, patient_id: str, series_uid: str, slice_identity: str) -> DegradationParams | None:
        return self.by_slice.get((patient_id, slice_identity)) or self.by_series.get((patient_id, series_uid))


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation says about itself, as far as a viewer repeats it."""

    sampler: Recorded
    patients: tuple[str, ...]
    window: Window
    window_tag: str
    engines: Mapping[str, str]
    """SHA-256 of each model → what ran it: `torch fp32`."""
    device: str
    """Where PyTorch ran it."""
    mask: str = "none"
    """What the evaluation's metrics were confined to; the viewer's are of the whole slice."""

    def departures_of(self, model: ModelUnderTest) -> list[str]:
        """In what a model, as it is run here, is not one that was evaluated; SR may differ in the last digits then."""
        theirs, ours = self.engines.get(model.generator.sha256), model.engine_name
        if theirs is None:
            return ["the evaluation used another model"]
        if theirs != ours:
            return [f"the evaluation ran the network by {theirs}, here {ours} does"]
        if ours.startswith("torch") and self.device != str(model.device):
            return [f"the evaluation ran the network on {self.device}, here it is on {model.device}"]
        return []


def read_summary(path: Path) -> Evaluated:
    """The draws, patients, window and models of an evaluation.

    Raises:
        MissingInputError: there is no such file.
        ReadError: it is no summary of `ctsr evaluate`.
    """
    if not path.is_file():
        raise MissingInputError(f"--eval_summary {path}: there is no such file")
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return Evaluated(
            sampler=_sampler(document),
            patients=tuple(map(str, document["patients"])),
            window=Window(float(document["window"]["center"]), float(document["window"]["width"])),
            window_tag=str(document["window"]["tag"]),
            engines={str(one["sha256"]): str(one["engine"]) for one in document["models"].values()},
            device=str(document["config"]["device"]),
            mask=str(document["mask"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, DomainError) as error:
        raise ReadError(f"--eval_summary {path} is no summary.json of `ctsr evaluate` ({error!r})") from error


def _sampler(document: Mapping[str, Any]) -> Recorded:
    by_series: dict[tuple[str, str], DegradationParams] = {}
    by_slice: dict[tuple[str, str], DegradationParams] = {}
    for patient, drawn in document["patient_to_degradation_sampled"].items():
        for uid, one in drawn["by_series"].items():
            for each in one.get("by_slice", ()):
                by_slice[patient, str(each["sop_instance_uid"])] = _params(each)
            if one["sigma"] is not None and "by_slice" not in one:
                # Rows number the series that share a UID; draws go by the UID itself, and are theirs together.
                by_series[patient, str(uid).split("/")[0]] = _params(one)
    sampling, seed_mode = document["degradation_sampling"], document["deg_seed_mode"]
    if sampling not in get_args(Sampling) or seed_mode not in get_args(SeedMode):
        raise ValueError(f"unknown sampling {sampling!r} or seed mode {seed_mode!r}")
    return Recorded(
        Degradation.from_dict(document["degradation"]),
        cast("Sampling", sampling),
        int(document["deg_seed"]),
        cast("SeedMode", seed_mode),
        by_series,
        by_slice,
    )


def _params(drawn: Mapping[str, Any]) -> DegradationParams:
    return DegradationParams(
        float(drawn["sigma"]), int(drawn["kernel"]), float(drawn["noise_sigma"]), float(drawn["dose"])
    )
