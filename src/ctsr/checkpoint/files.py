"""Checkpoint files: weights and what they say of themselves, written whole or not at all, read without running code.

Nothing that is in a file is executed.
"""

import dataclasses
import json
import pickle
import platform
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ctsr import __version__
from ctsr.documents import as_type, parse_json
from ctsr.errors import CheckpointError, DomainError, MissingInputError, ReadError
from ctsr.files import atomic_path, clear_leftovers
from ctsr.hashing import pseudonym
from ctsr.hu import DEFAULT_RANGE, HURange
from ctsr.models import Architecture, StateDict, describe

Plain: TypeAlias = "bool | int | float | str | list[Plain] | tuple[Plain, ...] | dict[str, Plain] | None"
"""Values that JSON knows, too (which writes tuples as lists)."""

REQUIRED = {"hu_range", "card", "versions"}
"""Fields that have a default, but that every file has: without them it is unknown what a network sees."""
DEEPEST = 4
"""Most levels of nesting in the description of a degradation."""
LARGEST_HU = 1e5
FORMAT = 1
"""Version of `Meta` as a file holds it. Its presence distinguishes our own files from others with a `meta`."""


UNNAMED = "unknown"
"""Kernel of series that name none, in a card."""


@dataclass(frozen=True)
class TrainingCard:
    """What a model was trained on, for comparison with an exam."""

    pixel_spacing_mm: tuple[float, float] | None = None
    """Least and most in-plane spacing of the training part."""
    slice_thickness_mm: tuple[float, float] | None = None
    """Least and most, where the headers state it."""
    kernels: dict[str, int] = field(default_factory=dict[str, int])
    """Slices of the training part by reconstruction kernel, `UNNAMED` where headers do not say."""
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
    """Patients beside the train part that an earlier stage was trained on: the generator that was fine-tuned, or the
    other half of a blend."""
    trained_identities: tuple[str, ...] = ()
    """Hashes of the studies and patients whose images have shaped the weights; see `ctsr.hashing`. Empty in files
    that are older than this field."""
    hu_range: HURange = DEFAULT_RANGE
    """HU that the network sees as [-1, 1]."""
    card: TrainingCard = field(default_factory=TrainingCard)
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """Versions of the software that trained it; see `current_versions`."""

    @property
    def trained_on(self) -> frozenset[str]:
        """Every patient whose images have shaped the weights."""
        return frozenset((*self.split.get("train", ()), *self.also_trained_on))

    @property
    def scale(self) -> int:
        """The network's."""
        return self.architecture.scale

    def without_names(self) -> "Meta":
        """A copy to pass on: hashes replace the names of patients' folders, which often identify them.

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


EMA_KEYS = ("ema", "params_ema")
"""Where averaged weights are found: our own files, BasicSR's."""
LIVE_KEYS = ("model", "params")
"""Where the weights that were being trained are found: our own files, those of the scripts before ctsr, BasicSR's."""

DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(OSError, RuntimeError, TypeError, ValueError),
)
"""What PyTorch's readers raise on bytes that are not a checkpoint, cut short or altered."""

NEEDS_CODE = re.compile(r"GLOBAL ([\w.]+)|(TorchScript)|(persistent id|reduce|instantiate|[Bb]uild)")
"""What PyTorch's restricted unpickler says where a file asks for more than tensors and plain values."""

PLAIN_PICKLES = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files start that `pickle` wrote by itself: `torch.save` uses protocol 2."""

PACKED = ".safetensors"
"""How the names of such files end."""
LARGEST_WEIGHT = 1e6
"""Thousands of times what networks of this kind have; the products of such weights still are finite numbers."""
META_KEY, CARD_KEY = "ctsr", "card"
"""Words of the header: `Meta` as JSON, and what a reader should know, in Markdown."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything needed to use a model, and to go on training it."""

    meta: Meta
    weights: StateDict
    """The weights being trained; key `model` in the file."""
    ema: StateDict | None = None
    """Their exponential moving average. Never mistaken for the live ones: it has a key of its own."""
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    """Optimiser, scaler, random states, epoch, step, best values, history: tensors and plain values."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file so that at every moment `path` is the old one or the new one, even when the process is killed.

    What a killed save has left beside it is cleared away: a run folder has one writer.

    Raises:
        CheckpointError: something in it could not be loaded again without running code; the message says which.
        OSError: the disk is full or cannot be written. The old file is still there.
    """
    content = {
        "model": dict(checkpoint.weights),
        "ema": None if checkpoint.ema is None else dict(checkpoint.ema),
        "meta": checkpoint.meta.to_plain(),
        "training": checkpoint.training,
    }
    _check_plain(content, "checkpoint")
    clear_leftovers(path.parent, path.name)
    with atomic_path(path) as part, part.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # Where the disk refuses, PyTorch's writer hides that behind a complaint of its own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """One of our own files, in full, its tensors on the CPU.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it cannot be read safely, was not written by this program, or its parts contradict each other.
    """
    container = read_container(path)
    try:
        meta = Meta.from_plain(_mapping(container, "meta"))
        ema = container.get("ema")
        checkpoint = Checkpoint(
            meta=meta,
            weights=_mapping(container, "model"),
            ema=None if ema is None else _mapping(container, "ema"),
            training=dict(_mapping(container, "training")),
        )
        for weights in (checkpoint.weights, checkpoint.ema):
            if weights is not None and not _is_state(weights):
                raise CheckpointError("its weights are not a mapping of names to tensors")
            check_weights(weights or {})
        _check_architecture(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a checkpoint to continue from: {error}") from error
    return checkpoint


def read_container(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, its tensors on the CPU: one written by `torch.save`, or one of safetensors.

    Of the former only tensors, plain containers, numbers and strings are read, and NumPy numbers, which older runs left
    among their statistics. Nothing in the file is executed.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it needs code to load, is damaged, is not a checkpoint, or holds something else.
    """
    if path.suffix == PACKED:
        return read_packed(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such checkpoint file")
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file) and (member := zipfile.ZipFile(file).testzip()):
                # PyTorch does not compare the checksums that it writes.
                raise CheckpointError(f"{path} is damaged: the checksum of {member} is wrong; copy it again")
            file.seek(0)
            content = _load_safely(file)
        except DAMAGED as error:
            file.seek(0)
            raise CheckpointError(f"{path} {_why(error, file.read(2))}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} does not hold named weights, but a {type(content).__name__}")
    return dict(cast("Mapping[str, Any]", content))


def weights_in(container: Mapping[str, Any], *, use_ema: bool) -> dict[str, Tensor]:
    """The generator's weights: under a known key, averaged or live ones first as asked, or the mapping itself.

    Raises:
        CheckpointError: there are none; the message names the keys there are.
    """
    keys = (*EMA_KEYS, *LIVE_KEYS) if use_ema else (*LIVE_KEYS, *EMA_KEYS)
    for candidate in (*(container.get(key) for key in keys), container):
        if _is_state(candidate):
            weights = dict(cast("Mapping[str, Tensor]", candidate))
            check_weights(weights)
            return weights
    there = ", ".join(sorted(map(str, container))[:6]) or "nothing"
    raise CheckpointError(f"holds no weights: expected them at the top or under {', '.join(keys)}, found {there}")


def check_weights(weights: StateDict) -> None:
    """Refuse weights that no training leaves behind, and that give images without a warning.

    Raises:
        CheckpointError: a tensor is sparse, complex or empty, or holds NaN, infinity or values beyond `LARGEST_WEIGHT`.
    """
    for name, value in weights.items():
        if value.layout is not torch.strided or value.is_complex() or value.is_quantized or value.is_meta:
            raise CheckpointError(f"its weights {name} are {value.dtype} in a {value.layout} tensor, not plain numbers")
        if value.is_floating_point() and value.numel():
            largest = float(value.detach().abs().max())  # NaN where one is
            if not largest <= LARGEST_WEIGHT:
                raise CheckpointError(
                    f"its weights {name} reach {largest:g}: the training failed or the file is damaged"
                )


def save_packed(path: Path, meta: Meta, weights: StateDict, card: str = "") -> None:
    """Write a model without what only training needs.

    Args:
        path: ends in `PACKED`; a file that is there is replaced.
        meta: goes into the header.
        weights: float32, of `meta.architecture`.
        card: Markdown; goes into the header.

    Raises:
        OSError: the disk is full or cannot be written. The old file is still there.
    """
    header = {"format": "pt", META_KEY: json.dumps(meta.to_plain()), CARD_KEY: card}
    whole = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    with atomic_path(path) as part:
        save_file(whole, part, metadata=header)


def read_packed(path: Path) -> dict[str, Any]:
    """The weights under `model`, and under `meta` what the file says about them, if anything; as in a checkpoint.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it is damaged, or not a safetensors file.
    """
    weights, header = read_tensors(path)
    try:
        meta = {"meta": parse_json(header[META_KEY])} if META_KEY in header else {}
    except ReadError as error:
        raise CheckpointError(f"{path}: its meta is not readable: {error}") from error
    return {"model": weights, **meta}


def read_card(path: Path) -> str:
    """The card in a file's header; empty where it has none.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it is damaged, or not a safetensors file.
    """
    return read_tensors(path, with_weights=False)[1].get(CARD_KEY, "")


def read_tensors(path: Path, *, with_weights: bool = True) -> tuple[dict[str, Any], Mapping[str, str]]:
    """What a safetensors file holds by name, and the words of its header.

    Raises:
        MissingInputError: no such file.
        CheckpointError: it is damaged, or not a safetensors file.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            # The list of keys, and what a key gives: an extension module's, of which the type checker knows nothing.
            keys = cast("list[str]", list(file.keys())) if with_weights else []
            # Copies: what it gives is the file itself, mapped into memory, and files are written over.
            return {key: cast("Tensor", file.get_tensor(key)).clone() for key in keys}, file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def _mapping(container: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = container.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"it has no {key!r} part")
    return cast("Mapping[str, Any]", value)


def _check_architecture(checkpoint: Checkpoint) -> None:
    for weights in (checkpoint.weights, checkpoint.ema):
        if weights is not None and (found := describe(weights)) != checkpoint.meta.architecture:
            raise CheckpointError(f"its meta says {checkpoint.meta.architecture}, its weights are {found}")


def _check_plain(value: object, where: str) -> None:
    match value:
        case Tensor() | None | bool() | bytes():
            return
        case int() | float() | str() if type(value) in (int, float, str):  # NumPy's float64 is a float, too
            return
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                _check_plain(key, f"a key of {where}")
                _check_plain(item, f"{where}.{key}")
        case list() | tuple():
            for i, item in enumerate(cast("list[object]", value)):
                _check_plain(item, f"{where}.{i}")
        case _:
            raise CheckpointError(
                f"{where} is a {type(value).__name__}: a checkpoint may hold only tensors and plain values"
            )


def _is_state(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(item, Tensor) for item in cast("Mapping[str, object]", value).values())


def _load_safely(file: IO[bytes]) -> object:
    with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats: what cannot be read raises
        return torch.load(file, map_location="cpu", weights_only=True)


def _why(error: Exception, head: bytes) -> str:
    if head in PLAIN_PICKLES:
        return "is a plain pickle, which needs code to load, and is refused; save a state_dict with torch.save"
    needed = NEEDS_CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError | RuntimeError) else None
    if needed is None:
        return "cannot be read as a checkpoint: it is damaged, cut short, or not written by torch.save"
    what = f" ({needed[1] or needed[2]})" if needed[1] or needed[2] else ""
    return f"needs code to load{what} and is refused; save its state_dict alone with torch.save"


def _numpy_numbers() -> list[Any]:
    """What NumPy numbers are pickled with, under the names of NumPy 1 and 2. They make numbers and do nothing else."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
