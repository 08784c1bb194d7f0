"""Models: a network ready to use, from a file or by its name.

Also blends of two networks, and in what a series is unlike those that a model was trained on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from torch import nn

from ctsr.checkpoint.files import (
    UNNAMED,
    Checkpoint,
    Meta,
    Plain,
    TrainingCard,
    current_versions,
    load_checkpoint,
    read_container,
    save_checkpoint,
    weights_in,
)
from ctsr.checkpoint.model_lookup import FOLDER, IDENTITIES, Resolved, resolve_model
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError, DomainError, ReadError
from ctsr.hashing import digest
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.models import Architecture, load_state
from ctsr.reporting import SILENT, Progress, listed
from ctsr.series import Series

TOLERANCE = 0.05
"""Share by which a length may lie beyond those of the training and still be like them."""

ModelKind: TypeAlias = Literal["in plane", "between slices", "any"]
"""What a model makes finer."""


@dataclass(frozen=True)
class Blend:
    """Two generators and the share of the second one."""

    first: str
    """Path of the generator at α = 0, usually trained with L1."""
    first_sha256: str
    second: str
    """Path of the generator at α = 1, usually fine-tuned."""
    second_sha256: str
    alpha: float


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, what its file tells about it, and where it is from."""

    net: nn.Module
    """``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)``; float32, evaluation mode, on the CPU."""
    architecture: Architecture
    meta: Meta | None
    """None for files that this program did not write."""
    path: Path
    sha256: str
    """SHA-256 of the file, in hexadecimal; derived images name the model by it."""

    blend: Blend | None = None
    """What it was made of, where it is a mixture of two."""

    @property
    def scale(self) -> int:
        """How many times finer SR is than LR."""
        return self.architecture.scale

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]; the default where the file does not say."""
        return self.meta.hu_range if self.meta else DEFAULT_RANGE

    @property
    def trained_for(self) -> Degradation:
        """What it was trained on; the default where the file does not say."""
        return Degradation.from_dict(self.meta.degradation) if self.meta else Degradation(scale=self.scale)

    @property
    def degradation(self) -> Degradation:
        """What its LR images are made with, where nothing else is asked for.

        That which it was trained on; for a conditional network, which is made for any, the default of its scale.
        """
        return Degradation(scale=self.scale) if self.architecture.conditional else self.trained_for


def find_model(
    reference: str | None, *, scale: int | None = None, kind: ModelKind = "in plane", progress: Progress = SILENT
) -> Model:
    """Load the model that a reference names; None takes the newest run, or the bundled model where there is no run.

    Args:
        reference: a file, a run folder or a name, see `ctsr.checkpoint.model_lookup.resolve_model`.
        scale: of the bundled model that is taken where no run is found.
        kind: the kind of model that is needed.
        progress: receives a note on the file that was chosen, where there was a choice.

    Raises:
        MissingInputError: there is no such model.
        CheckpointError: the file holds none that can be loaded, or one of another kind.
    """
    resolved = resolve_model(reference, scale=scale)
    if resolved.note:
        progress.note(resolved.note)
    return of_kind(load_model(resolved.path), kind)


def of_kind(model: Model, kind: ModelKind) -> Model:
    """The model, where it is of the kind that is needed.

    Raises:
        CheckpointError: it is of the other kind.
    """
    between = model.architecture.is_through_plane
    if between and kind == "in plane":
        raise CheckpointError(f"{model.path}: is a model between slices, not in plane; use it with `slice_spacing`")
    if not between and kind == "between slices":
        raise CheckpointError(
            f"{model.path}: is a model in plane, not between slices; `ctsr train --through_plane` trains those"
        )
    return model


def load_model(path: Path, *, use_ema: bool = True) -> Model:
    """The network in a checkpoint: our own, a bare state dict, one under `model`, or BasicSR's.

    Args:
        path: see `ctsr.checkpoint.model_lookup.resolve_model` for what users write.
        use_ema: take averaged weights where the file has them, otherwise the live ones; False is the other way round.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it cannot be read safely, or its weights fit no known network.
    """
    container = read_container(path)
    try:
        architecture, net = load_state(weights_in(container, use_ema=use_ema))
        meta = _known_patients(path, _meta(container))
        if meta is not None and meta.architecture != architecture:
            raise CheckpointError(f"its meta says {meta.architecture}, its weights are {architecture}")
        if meta is not None and not architecture.is_through_plane:
            _check_degradation(meta)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Model(net, architecture, meta, path, digest)


def blend(first: Model, second: Model, alpha: float) -> Model:
    """``(1 − α)·first + α·second``, weight by weight (network interpolation, ESRGAN section 3.4).

    Meaningful for generators of which one was trained on from the other. The averaged weights are taken where a file
    has them.

    Args:
        first: what α = 0 gives back.
        second: what α = 1 gives back; the blend carries its meta, and counts as trained on the patients of both.
        alpha: in [0, 1].

    Raises:
        DomainError: α lies outside.
        CheckpointError: the two are different networks, or see HU differently.
    """
    if not 0 <= alpha <= 1:
        raise DomainError(f"`alpha` must be in [0, 1], got {alpha:g}")
    if first.architecture != second.architecture:
        raise CheckpointError(
            f"{first.path} ({first.architecture}) and {second.path} ({second.architecture}) are different networks"
        )
    if first.hu_range != second.hu_range:
        raise CheckpointError(f"{first.path} and {second.path} were trained on different HU ranges")
    ours, theirs = first.net.state_dict(), second.net.state_dict()
    # Where α is 0 or 1 the weights come back to the bit.
    state = {key: ours[key].cpu().lerp(theirs[key].cpu(), alpha) for key in ours}
    _, net = load_state(state)
    made_of = Blend(str(first.path), first.sha256, str(second.path), second.sha256, alpha)
    return Model(
        net=net,
        architecture=second.architecture,
        meta=_joined(first, second),
        path=blended_path(second.path, alpha),
        sha256=digest(first.sha256, second.sha256, repr(alpha), size=32).hex(),
        blend=made_of,
    )


def blended_path(second: Path, alpha: float) -> Path:
    """Default path of a blend: beside its second generator."""
    return second.with_name(f"{second.stem}_alpha{alpha:g}.pth")


def save_blend(path: Path, first: Model, second: Model, alpha: float) -> None:
    """Write the blend as a checkpoint that evaluates and is applied like any other, and knows what it was made of.

    Raises:
        CheckpointError: see `blend`; or neither file tells how it was trained.
        DomainError: α lies outside [0, 1].
    """
    blended = blend(first, second, alpha)
    if blended.meta is None or blended.blend is None:
        raise CheckpointError(
            f"{second.path} does not say how it was trained; only files that ctsr wrote can be blended"
        )
    made_of = {"blend": asdict(blended.blend)}
    save_checkpoint(path, Checkpoint(blended.meta, blended.net.state_dict(), training=made_of))


def _known_patients(path: Path, meta: Meta | None) -> Meta | None:
    """The meta of a bundled model whose file is older than hashes of patients, with the hashes that lie beside it."""
    if meta is None or meta.trained_identities or path.resolve().parent != FOLDER.resolve():
        return meta
    return replace(meta, trained_identities=tuple(json.loads(IDENTITIES.read_text(encoding="utf-8"))))


def _meta(container: Mapping[str, Any]) -> Meta | None:
    meta = container.get("meta")
    if not isinstance(meta, Mapping) or "format" not in meta:
        if "training" in container:  # other programs have no such part
            raise CheckpointError("its meta is damaged or missing")
        return None
    return Meta.from_plain(cast("Mapping[str, Any]", meta))


def _check_degradation(meta: Meta) -> None:
    try:
        Degradation.from_dict(meta.degradation)
    except (ReadError, DomainError) as error:
        raise CheckpointError(f"its meta is incomplete or malformed: {error}") from error


def _joined(first: Model, second: Model) -> Meta | None:
    """The second's meta; whoever one of the two was trained on counts as trained on."""
    if second.meta is None or first.meta is None:
        return second.meta
    others = (first.meta.trained_on | second.meta.trained_on) - set(second.meta.split.get("train", ()))
    identities = {*first.meta.trained_identities, *second.meta.trained_identities}
    return replace(
        second.meta,
        also_trained_on=tuple(sorted(others)),
        trained_identities=tuple(sorted(identities)),
        versions=current_versions(),
    )


def unusual(series: Series, meta: Meta | None) -> list[str]:
    """One line for each property unlike the model's training; none where all are alike, one where it is unknown."""
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
            f"{thickness[0]:g} … {thickness[1]:g} mm; compare the result with bicubic interpolation"
        )
    if card.kernels and (series.kernel or UNNAMED) not in card.kernels:
        kernel = series.kernel or "not named"
        known = listed(sorted(set(card.kernels) - {UNNAMED}), 6) or "series that do not name theirs"
        yield (
            f"reconstruction kernel {kernel}: the model was trained on {known}; a sharper "
            "or softer one may come out noisier or smoother: compare the result with bicubic interpolation"
        )


def _within(lengths: tuple[float, ...], low: float, high: float) -> bool:
    return all(low * (1 - TOLERANCE) <= length <= high * (1 + TOLERANCE) for length in lengths)


__all__ = [
    "Checkpoint",
    "Meta",
    "Model",
    "ModelKind",
    "Plain",
    "Resolved",
    "TrainingCard",
    "current_versions",
    "find_model",
    "load_checkpoint",
    "load_model",
    "of_kind",
    "resolve_model",
    "save_checkpoint",
]
