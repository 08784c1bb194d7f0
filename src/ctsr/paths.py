"""Paths as people type them: Windows spelling on any system, backslashes a shell ate, a folder named twice."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctsr.errors import MissingInputError, UsageError
from ctsr.reporting import SILENT, Progress

__all__ = ["FoundPath", "check_apart", "check_free", "find_path", "native_path", "resolve_path", "search_path"]

WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:|\\\\")
"""How a path starts that names a drive or a network share."""


@dataclass(frozen=True)
class FoundPath:
    """Something that exists, and what the user should be told about how it was found."""

    path: Path
    note: str = ""
    """One line, empty when the path was taken as it was typed."""


def resolve_path(text: str | Path, *, base: Path = Path(), progress: Progress = SILENT) -> Path:
    """The existing file or folder that `text` means; see `find_path`. A guess is said through `progress`.

    Raises:
        MissingInputError: there is none.
    """
    found = find_path(text, base=base)
    if found.note:
        progress.note(found.note)
    return found.path


def find_path(text: str | Path, *, base: Path = Path()) -> FoundPath:
    r"""The existing file or folder that `text`, relative to `base`, means.

    Tried in this order: the text as it is (``~`` is the home folder); with ``\\`` as separator; without leading folders
    that `base` already lies in (``ESRGAN\splits\x`` inside ``ESRGAN``); with separators put back that a shell ate
    (``finetune_outputsbest.pth``).

    Raises:
        MissingInputError: there is none, several fit, or the path is an absolute one of a Windows machine that this
            is not.
    """
    if found := search_path(text, base=base):
        return found
    places = " or ".join(dict.fromkeys(str(path.absolute()) for path in _spellings(text, base)))
    raise MissingInputError(f"{text}: no such file or folder; looked in {places}")


def search_path(text: str | Path, *, base: Path = Path()) -> FoundPath | None:
    """As `find_path`, but None where there is nothing of that name.

    Raises:
        MissingInputError: several fit, the text is empty, or the path is an absolute one of a Windows machine that
            this is not.
    """
    if not str(text):
        raise MissingInputError("an empty path was given; name a file or a folder")
    literal = base / _at_home(text)
    if literal.exists():
        return FoundPath(literal)
    for path in _spellings(text, base):
        if path.exists():
            return FoundPath(path)
    matches = sorted(_matches_ignoring_separators(native_path(text), base))
    if len(matches) > 1:
        several = ", ".join(map(str, matches))
        raise MissingInputError(f"{text} could be any of {several}; write it with / between the folders")
    if not matches:
        return None
    lost = f"{text} is taken for {matches[0]}: the separators were lost, quote the path to keep them"
    return FoundPath(matches[0], lost)


def native_path(text: str | Path) -> Path:
    r"""The path with this system's separators: ``runs\x`` → ``runs/x``. It need not exist.

    Raises:
        MissingInputError: it names a Windows drive or share, and this is another system.
    """
    spelled = str(text)
    if os.sep == "\\":
        return _at_home(spelled)
    if WINDOWS_ABSOLUTE.match(spelled):
        raise MissingInputError(f"{spelled} is an absolute Windows path; give the path on this machine")
    return _at_home(spelled.replace("\\", "/"))


def _at_home(text: str | Path) -> Path:
    """The path, a leading ``~`` replaced by the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise MissingInputError(f"{text}: this user has no home folder; write the path without ~") from error


def check_apart(source: Path, target: Path) -> None:
    """Refuse an output that lies in its input or around it; neither need exist.

    Raises:
        UsageError: originals and results would mix.
    """
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UsageError(
            f"the output {target} and the input {source} are inside one another: originals and results would mix; "
            "choose a separate folder"
        )


def check_free(target: Path, *models: Path, overwrite: bool = False) -> None:
    """Refuse to write over a model that is read, and over any other file unless that was asked for.

    Args:
        target: the file to write; need not exist.
        models: the files that are read; need not exist.
        overwrite: whether another file may be replaced.

    Raises:
        UsageError: it must stay as it is.
    """
    if not target.exists():
        return
    if any(model.exists() and target.samefile(model) for model in models):
        raise UsageError(f"{target} is the model itself, which would be overwritten; choose another `out`")
    if not overwrite:
        raise UsageError(f"{target} already exists; pass `overwrite=True` to replace it, or choose another `out`")


def _spellings(text: str | Path, base: Path) -> list[Path]:
    """What the text may mean below `base`, its separators taken as they are."""
    native = native_path(text)
    return [base / native, *(base / tail for tail in _tails_inside(native, base))]


def _tails_inside(path: Path, base: Path) -> Iterator[Path]:
    """What is left of `path` when its first folders are the last ones of `base`, longest overlap first."""
    if path.is_absolute():
        return
    here = base.absolute().parts
    for count in range(len(path.parts) - 1, 0, -1):
        if here[-count:] == path.parts[:count]:
            yield Path(*path.parts[count:])


def _matches_ignoring_separators(path: Path, base: Path) -> set[Path]:
    if path.is_absolute():
        return set()
    letters = "".join(path.parts)
    own_name = base.absolute().name
    return {*_descend(base, letters), *_descend(base, letters.removeprefix(own_name))}


def _descend(folder: Path, letters: str) -> Iterator[Path]:
    """Everything below `folder` whose relative path, separators left out, reads `letters`."""
    if not letters or not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.name == letters:
            yield child
        elif letters.startswith(child.name):
            yield from _descend(child, letters.removeprefix(child.name))
