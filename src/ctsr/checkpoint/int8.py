"""A model's twin in 8-bit integers: a file beside it, which says which model it is of and how well it does."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from ctsr.checkpoint.generator import Generator
from ctsr.checkpoint.packed import PACKED, read_tensors
from ctsr.errors import CheckpointError, DomainError
from ctsr.files import atomic_path
from ctsr.models.rounded import rounded_like

__all__ = ["Int8Twin", "TwinNotes", "int8_beside", "read_int8", "save_int8"]

HEADER_KEY = "ctsr_int8"
FORMAT = 1


@dataclass(frozen=True)
class TwinNotes:
    """What the file's header tells."""

    model_sha256: str
    """Of the file of the model it was made from: it is used for no other."""
    patients: tuple[str, ...]
    """Whose images have set its ranges and trained it."""
    steps: int
    """Of training after its ranges were set."""
    loss_db: float
    """PSNR lost to fp32 on slices of patients who are not among `patients`."""
    bias_hu: float
    """By how much their mean differs from that of fp32."""
    num_slices: int
    """On how many that was measured."""


@dataclass(frozen=True, eq=False)
class Int8Twin:
    """The network, and what is known of it."""

    net: nn.Module
    """A rounded network (`ctsr.models.rounded`) on the CPU, in evaluation mode."""
    notes: TwinNotes


def int8_beside(model: Path) -> Path:
    """Where a model's twin lies: `best.pth` → `best.int8.safetensors`."""
    return model.with_name(f"{model.stem}.int8{PACKED}")


def save_int8(path: Path, twin: Int8Twin) -> None:
    """Write a twin whole or not at all; a file that is there is replaced.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    header = {"format": "pt", HEADER_KEY: json.dumps({"format": FORMAT, **asdict(twin.notes)})}
    state = {name: value.detach().cpu().contiguous() for name, value in twin.net.state_dict().items()}
    with atomic_path(path) as part:
        save_file(state, part, metadata=header)


def read_int8(generator: Generator) -> Int8Twin | None:
    """The twin that lies beside a model; None where there is none.

    Raises:
        CheckpointError: it is damaged, or of another model; the message says what to do.
    """
    path = int8_beside(generator.path)
    if not path.is_file():
        return None
    state, header = read_tensors(path)
    try:
        notes = _notes(json.loads(header[HEADER_KEY]))
        if notes.model_sha256 != generator.sha256:
            raise DomainError(f"it was made from another model than {generator.path.name}")
        return Int8Twin(rounded_like(generator.architecture, state), notes)
    except (KeyError, TypeError, ValueError, DomainError) as error:
        raise CheckpointError(
            f"{path} cannot be used ({error}); make it again with `ctsr quantize --overwrite`, or remove it"
        ) from error


def _notes(plain: dict[str, Any]) -> TwinNotes:
    if plain["format"] != FORMAT:
        raise DomainError("it was written by another version")
    return TwinNotes(
        model_sha256=str(plain["model_sha256"]),
        patients=tuple(map(str, plain["patients"])),
        steps=int(plain["steps"]),
        loss_db=float(plain["loss_db"]),
        bias_hu=float(plain["bias_hu"]),
        num_slices=int(plain["num_slices"]),
    )
