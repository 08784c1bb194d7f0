"""What a checkpoint says about itself, so that others do as training did; and which series are unlike those of it."""

import dataclasses
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import torch

from ctsr import __version__
from ctsr.documents import as_type
from ctsr.errors import CheckpointError, DomainError, ReadError
from ctsr.hashing import pseudonym
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.models.architecture import Architecture
from ctsr.reporting import listed
from ctsr.series import Series

Plain: TypeAlias = "bool | int | float | str | list[Plain] | tuple[Plain, ...] | dict[str, Plain] | None"
"""Values that JSON knows, too (which writes tuples as lists)."""

REQUIRED = {"hu_range", "card", "versions"}
"""Fields that have a default, but that every file has: without them nobody knows what a network sees."""
DEEPEST = 4
"""Levels of what a degradation is described by."""
LARGEST_HU = 1e5
TOLERANCE = 0.05
"""Share by which a length may lie beyond those of the training and still be like them."""
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
    """Hashes of the studies and patients whose images have shaped the weights; see `ctsr.hashing`. Empty in files
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

        Such a model is still refused for the patients it was trained on; see `ctsr.hashing.with_names`.
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
        try:
            version = as_type(plain.get("format"), int, "`format`")
            if version != FORMAT:
                raise CheckpointError(f"its meta has format {version}; this version reads format {FORMAT}")
            # `scale` is that of the architecture, too; later versions of the same format may know more.
            names = {field.name for field in dataclasses.fields(cls)}
            given = {name: value for name, value in plain.items() if name in names}
            if missing := REQUIRED - given.keys():
                raise ReadError(f"meta has no {min(missing)!r}")
            meta = as_type(given | {"degradation": {}}, cls, "meta")
            degradation = as_type(plain.get("degradation"), dict[str, object], "meta.degradation")
            _check_depth(degradation)
        except (ReadError, DomainError) as error:
            raise CheckpointError(f"its meta is incomplete or malformed: {error}") from error
        if max(abs(meta.hu_range.low), abs(meta.hu_range.high)) > LARGEST_HU:
            raise CheckpointError(f"its meta says that the network sees {meta.hu_range}: no CT has such values")
        return dataclasses.replace(meta, degradation=cast("dict[str, Plain]", degradation))


def current_versions() -> dict[str, str]:
    """The software that is running now."""
    return {
        "ctsr": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ReadError("meta.degradation is nested too deeply")
    if isinstance(value, Mapping | list | tuple):
        inner = cast("Mapping[str, object] | list[object]", value)
        for item in inner.values() if isinstance(inner, Mapping) else inner:
            _check_depth(item, depth + 1)


def unusual(series: Series, meta: Meta | None) -> list[str]:
    """One line for each thing that the model has not seen; none where it is at home, one where nobody knows."""
    if meta is None:
        return ["the model does not say what it was trained on: whether this series is like it is unknown"]
    return list(_unusual(series, meta))


def _unusual(series: Series, meta: Meta) -> Iterator[str]:
    card, scale = meta.card, meta.scale
    if card.pixel_spacing_mm is None:
        yield "the model's card names no pixel spacing: whether this series is like its training is unknown"
    else:
        finest, coarsest = card.pixel_spacing_mm
        # A conditional model is told blur and noise in pixels of its input. Series with the pixels of its training
        # images, smaller by the scale than those of the LR made of them, are what its card measures.
        low, high = finest if meta.architecture.conditional else finest * scale, coarsest * scale
        if not _within(series.pixel_spacing, low, high):
            yield (
                f"pixel spacing {max(series.pixel_spacing):.3g} mm: the model was trained for {low:.3g} … {high:.3g} "
                "mm, beyond which it may blur or invent detail; compare the result with bicubic interpolation"
            )
    thickness = card.slice_thickness_mm
    if thickness and series.slice_thickness and not _within((series.slice_thickness,), *thickness):
        yield (
            f"slice thickness {series.slice_thickness:g} mm: the model was trained on "
            f"{thickness[0]:g} … {thickness[1]:g} mm"
        )
    if card.kernels and series.kernel not in card.kernels:
        kernel = series.kernel or "not named"
        yield f"reconstruction kernel {kernel}: the model was trained on {listed(sorted(card.kernels), 6)}"


def _within(lengths: tuple[float, ...], low: float, high: float) -> bool:
    return all(low * (1 - TOLERANCE) <= length <= high * (1 + TOLERANCE) for length in lengths)
