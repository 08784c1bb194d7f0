"""What a checkpoint says about itself: all that evaluation and viewers need to do as training did."""

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import torch

from ctsr import __version__
from ctsr.errors import CheckpointError, DomainError
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.identity import pseudonym
from ctsr.models.architecture import Architecture

__all__ = ["FORMAT", "Meta", "Plain", "TrainingCard", "current_versions"]

Plain: TypeAlias = "bool | int | float | str | list[Plain] | tuple[Plain, ...] | dict[str, Plain] | None"
"""Values that JSON knows, too (which writes tuples as lists)."""

FORMAT = 1
"""Version of `Meta` as a file holds it. Its presence is how our own files are told from others with a `meta`."""


@dataclass(frozen=True)
class TrainingCard:
    """What a model was trained on, so that a user can see whether an exam is like it."""

    pixel_spacing_mm: tuple[float, float] | None = None
    """Least and most in-plane spacing of the training part."""
    slice_thickness_mm: tuple[float, float] | None = None
    """Least and most, where the headers told it."""
    kernels: dict[str, int] = field(default_factory=dict[str, int])
    """Slices of the training part by reconstruction kernel."""
    slice_counts: dict[str, int] = field(default_factory=dict[str, int])
    """Slices by part of the split."""


@dataclass(frozen=True)
class Meta:
    """The key `meta` of a checkpoint."""

    experiment: str
    """`rrdb_x2_blurnoise`: what the run folder is called, but for the time."""
    architecture: Architecture
    seed: int
    degradation: dict[str, Plain]
    """Settings of the degradation, as `ctsr.degrade` names them."""
    split: dict[str, tuple[str, ...]]
    """Patient ids by part: train, val, test."""
    also_trained_on: tuple[str, ...] = ()
    """Patients beside the train part whom an earlier stage was trained on: the generator that was fine-tuned, or the
    other half of a blend."""
    trained_identities: tuple[str, ...] = ()
    """Hashes of the studies and patients whose images have shaped the weights; see `ctsr.identity`. Empty in files
    that are older than this field."""
    hu_range: HURange = DEFAULT_RANGE
    """HU that the network sees as [-1, 1]."""
    card: TrainingCard = field(default_factory=TrainingCard)
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """Of the software that trained it; see `current_versions`."""

    @property
    def trained_on(self) -> frozenset[str]:
        """Every patient whose images have shaped the weights."""
        return frozenset((*self.split.get("train", ()), *self.also_trained_on))

    @property
    def scale(self) -> int:
        """The network's."""
        return self.architecture.scale

    def without_names(self) -> "Meta":
        """The same for others: hashes in place of the names of patients' folders, which often tell who they are.

        Such a model is still refused for the patients it was trained on; see `ctsr.identity.with_names`.
        """
        split = {part: tuple(map(pseudonym, names)) for part, names in self.split.items()}
        return dataclasses.replace(self, split=split, also_trained_on=tuple(map(pseudonym, self.also_trained_on)))

    def to_plain(self) -> dict[str, Plain]:
        """Plain values, for the file and for JSON; `from_plain` reads them back."""
        return {"format": FORMAT, "scale": self.scale} | dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Meta":
        """Back from `to_plain`, also by way of JSON.

        Raises:
            CheckpointError: something is missing or malformed, or it was written by a newer version.
        """
        if plain.get("format") != FORMAT:
            raise CheckpointError(f"its meta has format {plain.get('format')!r}; this version reads format {FORMAT}")
        try:
            return cls(
                experiment=str(plain["experiment"]),
                architecture=Architecture(**plain["architecture"]),
                seed=int(plain["seed"]),
                degradation=dict(plain["degradation"]),
                split={str(part): tuple(map(str, ids)) for part, ids in plain["split"].items()},
                also_trained_on=tuple(map(str, plain.get("also_trained_on", ()))),  # younger than the format
                trained_identities=tuple(map(str, plain.get("trained_identities", ()))),  # likewise
                hu_range=HURange(**plain["hu_range"]),
                card=_card(plain["card"]),
                versions=dict(plain["versions"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, DomainError) as error:
            raise CheckpointError(f"its meta is incomplete or malformed: {error}") from error


def current_versions() -> dict[str, str]:
    """The software that is running now."""
    return {
        "ctsr": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def _card(plain: Mapping[str, Any]) -> TrainingCard:
    return TrainingCard(
        pixel_spacing_mm=_pair(plain["pixel_spacing_mm"]),
        slice_thickness_mm=_pair(plain["slice_thickness_mm"]),
        kernels=dict(plain["kernels"]),
        slice_counts=dict(plain["slice_counts"]),
    )


def _pair(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = cast("tuple[float, float]", value)
    return float(low), float(high)
