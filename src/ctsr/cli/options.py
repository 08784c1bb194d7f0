"""What every verb's options share: `--config`, `--debug`, and how options become flags and files."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import yaml

from ctsr.errors import MissingInputError, UsageError
from ctsr.paths import native_path

__all__ = ["Common", "config_flags", "flag_names", "gathered", "resolved", "with_native_paths"]


@dataclass(frozen=True)
class Common:
    """Flags that every verb takes."""

    config: Path | None = None
    """YAML file of `flag: value` lines; flags on the command line win over it."""
    debug: bool = False
    """Show the traceback of an error."""


def flag_names(options: type[Any]) -> Iterator[str]:
    """The names of all flags of an options dataclass, those of nested groups among them."""
    hints = get_type_hints(options)
    for field in dataclasses.fields(options):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from flag_names(kind)
        else:
            yield field.name


def config_flags(path: Path, options: type[Any]) -> list[str]:
    """The flags that a YAML file stands for, to be put before those of the command line.

    Raises:
        MissingInputError: there is no such file.
        UsageError: it is not a mapping, or has a key that is no flag; the message names the nearest one.
    """
    if not path.is_file():
        raise MissingInputError(f"--config {path}: there is no such file")
    try:
        loaded: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, Mapping):
        raise UsageError(f"--config {path}: expected lines of `flag: value`")
    known = set(flag_names(options)) - {"config"}
    flags: list[str] = []
    for key, value in cast("Mapping[object, object]", loaded).items():
        name = str(key).replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest known one is {near[0]!r}" if near else ""
            raise UsageError(f"--config {path}: unknown key {str(key)!r}{hint}")
        flags += _as_flag(name, value)
    return flags


def _as_flag(name: str, value: object) -> list[str]:
    match value:
        case None:
            return []
        case bool():
            return [f"--{name}" if value else f"--no_{name}"]
        case list():
            return [f"--{name}", *(str(item) for item in cast("list[object]", value))]
        case _:
            return [f"--{name}", str(value)]


REPEATABLE = "data_root"
"""The flag that takes several values, after one mention of it or after several."""


def gathered(argv: Sequence[str]) -> list[str]:
    """``--data_root a --data_root b`` as ``--data_root a b``: a parser would keep the last one only."""
    rest: list[str] = []
    values: list[str] = []
    taking = False
    for word in argv:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            taking = name[2:].replace("-", "_") == REPEATABLE
            if taking:
                values += [value] if equals else []
                continue
        (values if taking else rest).append(word)
    return [*rest, f"--{REPEATABLE}", *values] if values else rest


T = TypeVar("T")


def with_native_paths(options: T) -> T:
    r"""The same options, every path in this system's spelling: ``runs\x`` → ``runs/x`` where separators are ``/``.

    Raises:
        MissingInputError: a path names a Windows drive, and this is another system.
    """
    return cast("T", _native(options))


def _native(value: object) -> object:
    match value:
        case Path():
            return native_path(value)
        case tuple():
            return tuple(_native(item) for item in cast("tuple[object, ...]", value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            changed = {name: new for name, old in fields.items() if (new := _native(old)) != old}
            return dataclasses.replace(value, **changed) if changed else value
        case _:
            return value


def resolved(options: object) -> dict[str, Any]:
    """An options dataclass as one flat mapping of plain values, as `--config` reads it: what stands beside a result."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", options)):
        value = getattr(options, field.name)
        if isinstance(value, Common):
            continue
        if dataclasses.is_dataclass(value):
            flat |= resolved(value)
        else:
            flat[field.name] = _plain(value)
    return flat


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return value
