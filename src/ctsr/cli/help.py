"""The help of a command, from its options dataclass: basic flags first, the others in a group of their own."""

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ctsr.cli.flags import Flag, flags_of

MAX_WIDTH = 100
NAME_WIDTH = 26
"""Columns of the names; descriptions begin after them."""
SHORT = 9
"""Commands of at most so many flags have one group."""


def help_text(options: type[Any], basic: Sequence[str], prog: str) -> str:
    """What `ctsr COMMAND --help` prints.

    Args:
        options: dataclass whose docstring describes the command, with examples as paragraphs that begin with `ctsr`.
        basic: names of the flags that most users need.
        prog: how the command was called.
    """
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    flags = list(flags_of(options))
    arguments = [flag for flag in flags if flag.positional]
    common = [flag for flag in flags if flag.name in {"config", "debug"}]
    own = [flag for flag in flags if flag not in arguments and flag not in common]
    first = [flag for flag in own if flag.name in basic or len(own) <= SHORT]
    first.sort(key=lambda flag: basic.index(flag.name) if flag.name in basic else len(basic))
    words = [flag.metavar if flag.default is dataclasses.MISSING else f"[{flag.metavar}]" for flag in arguments]
    paragraphs = [" ".join(part.split()) for part in (inspect.getdoc(options) or "").split("\n\n")]
    examples = [part for part in paragraphs if part.startswith("ctsr ")]
    lines = [" ".join(["usage:", prog, *words, "[flags]"]), ""]
    for paragraph in paragraphs:
        if paragraph not in examples:
            lines += [*textwrap.wrap(paragraph, width), ""]
    if examples:
        lines += ["examples:", *(f"  {example}" for example in examples), ""]
    lines += _group("arguments", arguments, width)
    lines += _group("flags", first, width)
    lines += _group("advanced", [flag for flag in own if flag not in first], width)
    lines += _group("every command", common, width)
    lines += ["  -h, --help".ljust(NAME_WIDTH) + "Show this help."]
    return "\n".join(lines)


def _group(title: str, flags: Iterable[Flag], width: int) -> Iterator[str]:
    lines = [line for flag in flags for line in _described(flag, width)]
    if lines:
        yield from (f"{title}:", *lines)
        if title != "every command":
            yield ""


def _described(flag: Flag, width: int) -> Iterator[str]:
    name = f"  {_spelling(flag)}"
    text = textwrap.wrap(f"{flag.text} {_default(flag)}".strip(), max(20, width - NAME_WIDTH))
    if len(name) + 2 > NAME_WIDTH:
        yield name
    else:
        yield name.ljust(NAME_WIDTH) + (text.pop(0) if text else "")
    yield from (" " * NAME_WIDTH + line for line in text)


def _spelling(flag: Flag) -> str:
    if flag.positional:
        return flag.metavar
    if not flag.is_switch:
        return f"--{flag.name} {flag.metavar}"
    return f"--{flag.name}" if flag.default is False else f"--{flag.name}, --no_{flag.name}"


def _default(flag: Flag) -> str:
    """The default, where it says something that the description does not."""
    if flag.default is dataclasses.MISSING:
        return "" if flag.positional else "(required)"
    if flag.default is None or flag.default == () or (flag.is_switch and flag.default is False):
        return ""
    return f"(default: {_plain(flag.default)})"


def _plain(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(_plain(item) for item in cast("tuple[object, ...]", value))
        case float():
            return f"{value:g}"
        case Path():
            return value.as_posix()
        case _:
            return str(value)
