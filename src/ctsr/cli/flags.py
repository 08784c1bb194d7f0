"""The flags of a command: their descriptions, the help made of them, errors for unknown ones, and files of them."""

import ast
import dataclasses
import difflib
import inspect
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import tyro
import yaml

from ctsr.errors import MissingInputError, UsageError
from ctsr.reporting import one_line

SYNONYMS = (
    ("root", "data_root"),
    ("out_dir", "output_dir", "out"),
    ("patch_size", "patch"),
    ("jobs", "workers", "num_workers"),
    ("model_path", "model"),
)
"""Flags of one meaning. A command understands all names of a row of which it has one."""
FIELD_FLAGS = {"noise_sigma_range": "noise_sigma_range_norm", "mode": "degradation"}
"""Fields of the library whose flag has another name."""
INPUTS = ("source", "folder")
"""Positional arguments that `--root` may replace."""
METAVARS = {Path: "PATH", str: "TEXT", int: "N", float: "VALUE"}

MAX_WIDTH = 100
NAME_WIDTH = 26
"""Columns of the names; descriptions begin after them."""
RARE = frozenset({"assume_hu", "hu_offset", "hu_scale"})
"""Flags for files with wrong headers: last in the help."""
SHORT = 9
"""Commands with no more flags than this have one group."""

COMMAND_LINE_ONLY = frozenset({"config"})
"""Flags that a file cannot have and that it does not know."""
MOST_VALUES = 100_000
"""Most values of one flag in a file."""
SHOWN = 40
"""Characters of a key that a message shows, and digits that a whole number may have."""
SWITCHED = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""Words for a flag without a value, as YAML has them."""


@dataclass(frozen=True)
class Flag:
    """One field of an options dataclass, as the command line shows it."""

    name: str
    kind: Any
    """Its type, without annotations."""
    default: object
    """`dataclasses.MISSING` if the flag is required."""
    text: str
    positional: bool
    metavar: str

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.kind is bool or set(get_args(self.kind)) == {bool, NoneType}


def flags_of(options: type[Any]) -> Iterator[Flag]:
    """All flags of an options dataclass, those of nested groups included, in their order."""
    hints = get_type_hints(options, include_extras=True)
    texts = _field_docstrings(options)
    for field in dataclasses.fields(options):
        kind, metadata, positional = _without_annotations(hints[field.name])
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from flags_of(kind)
        elif tyro.conf.Suppress not in metadata:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            given = [str(item.metavar) for item in metadata if getattr(item, "metavar", None)]
            metavar = given[0] if given else field.name.upper() if positional else _metavar(kind)
            yield Flag(field.name, kind, default, texts.get(field.name, ""), positional, metavar)


def known_name(name: str, known: frozenset[str]) -> str:
    """The command's own name for a flag of one meaning; `name` itself if it has none."""
    if name not in known:
        for row in SYNONYMS:
            if name in row:
                return next((other for other in row if other in known), name)
    return name


def with_flags(message: str, flags: Iterable[Flag]) -> str:
    """Write fields in backticks as the flags of a command; other words in backticks stay as they are.

    `` `assume_hu` `` and `` `assume_hu=True` `` become ``--assume_hu``, `` `limit_noise=False` ``
    ``--no_limit_noise``, `` `format=nifti` `` ``--format nifti``; a positional argument its name in the help.
    """
    known = {flag.name: flag for flag in flags}

    def spelled(match: re.Match[str]) -> str:
        name, value = known_name(FIELD_FLAGS.get(match[1], match[1]), frozenset(known)), match[2]
        if name not in known:
            return match[0]
        if known[name].positional:
            return known[name].metavar
        if value == "False":
            return f"--no_{name}"
        return f"--{name}" if value in {None, "True"} else f"--{name} {value}"

    return re.sub(r"`(\w+)(?:=([^`\s]+))?`", spelled, message)


def canonical(argv: Sequence[str], options: type[Any]) -> list[str]:
    """Arguments with the command's own flag names; roots and folders may be positional or flags.

    Raises:
        UsageError: a flag is unknown; the message names the nearest one.
    """
    flags = list(flags_of(options))
    names = frozenset(flag.name for flag in flags if not flag.positional)
    negated = frozenset(f"no_{flag.name}" for flag in flags if flag.is_switch)
    places = [flag.name for flag in flags if flag.positional]
    words = list(argv)
    leading: list[str] = []
    while words and not words[0].startswith("-"):
        leading.append(words.pop(0))
    if leading and not places and (roots := {"root", "data_root"} & names):
        words, leading = [f"--{next(iter(roots))}", *leading, *words], []
    result: list[str] = []
    moved: dict[str, list[str]] = {}
    target = result
    for word in words:
        if not word.startswith("--") or word == "--":
            target.append(word)
            continue
        given, equals, value = word[2:].partition("=")
        name = known_name(given.replace("-", "_"), names | negated)
        place = _place(name, places) if name not in names | negated | {"help"} else None
        if place is not None:
            target = moved.setdefault(place, [])
            target += [value] if equals else []
            continue
        if name not in names | negated | {"help"}:
            raise UsageError(_unknown(given, names))
        target = result
        result.append(f"--{name}{equals}{value}")
    first = [value for place in places for value in moved.get(place, ()) if place in INPUTS]
    last = [value for place in places for value in moved.get(place, ()) if place not in INPUTS]
    return [*first, *leading, *last, *result]


def help_text(options: type[Any], basic: Sequence[str], prog: str) -> str:
    """What `ctsr COMMAND --help` prints.

    Args:
        options: dataclass whose docstring describes the command, with examples as paragraphs that begin with `ctsr`.
        basic: names of the flags that most users need.
        prog: how the command was called.
    """
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    every = list(flags_of(options))
    flags = [dataclasses.replace(flag, text=with_flags(flag.text, every)) for flag in every]
    arguments = [flag for flag in flags if flag.positional]
    common = [flag for flag in flags if flag.name in {"config", "debug"}]
    own = [flag for flag in flags if flag not in arguments and flag not in common]
    own.sort(key=lambda flag: flag.name in RARE)
    first = [flag for flag in own if flag.name in basic or len(own) <= SHORT]
    first.sort(key=lambda flag: basic.index(flag.name) if flag.name in basic else len(basic))
    paragraphs = [" ".join(part.split()) for part in (inspect.getdoc(options) or "").split("\n\n")]
    examples = [part for part in paragraphs if part.startswith("ctsr ")]
    lines = [f"usage: {_usage(every, prog)}", ""]
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


def usage_error(report: str, options: type[Any], prog: str) -> str:
    """One line for what tyro reports in a box: a value that does not fit, or arguments that are missing.

    Args:
        report: the box as text, of ASCII or of Unicode characters.
        options: the options of the command.
        prog: how the command was called.
    """
    # Below the title, lines begin with a border or, in ASCII, with two blanks; a rule ends the first paragraph.
    lines = [line.strip("│ ") for line in report.splitlines() if line.startswith(("│", "  "))]
    content = list(takewhile(lambda line: set(line) - {"─", "-"}, lines))
    if not content:
        return " ".join(report.split())
    if content[0].startswith("Missing from"):
        return f"{prog}: an argument is missing: {_usage(list(flags_of(options)), prog)}"
    text = " ".join(content)
    return f"{text[0].lower()}{text[1:].rstrip('.')}; `{prog} --help` says more"


def _usage(flags: Sequence[Flag], prog: str) -> str:
    """The line that shows which arguments a command needs, and which it takes."""
    words = [prog]
    for flag in flags:
        needed = flag.default is dataclasses.MISSING
        if flag.positional:
            name = _metavar(flag.kind) if get_origin(flag.kind) is Literal else flag.metavar
            words.append(name if needed else f"[{name}]")
        elif needed:
            words.append(f"--{flag.name} {flag.metavar}")
    return " ".join([*words, "[flags]"])


def _without_annotations(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """A type, the annotations on it and on its members, and whether it is a positional argument."""
    metadata: list[Any] = []
    while hasattr(hint, "__metadata__"):
        metadata += hint.__metadata__
        hint = hint.__origin__
    return hint, tuple(metadata), tyro.conf.Positional in metadata


def _metavar(kind: Any) -> str:
    origin, members = get_origin(kind), get_args(kind)
    if kind is bool:
        return ""
    if origin is Literal:
        return "{" + ",".join(map(str, members)) + "}"
    if origin in {Union, UnionType}:
        return "|".join(_metavar(member) for member in members if member is not NoneType)
    if origin is tuple and members[-1] is Ellipsis:
        return f"{_metavar(members[0])} …"
    if origin is tuple:
        return " ".join(_metavar(member) for member in members)
    return METAVARS.get(kind, "TEXT")


@cache
def _field_docstrings(options: type[Any]) -> dict[str, str]:
    """The string below each field of a dataclass and of its bases; empty where the source is not available."""
    texts: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError):
            continue
        assert isinstance(tree, ast.ClassDef), "the source of a class is one class"
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = _string(following)
                if text is not None:
                    texts[statement.target.id] = " ".join(text.split())
    return texts


def _string(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None


def _place(name: str, places: Sequence[str]) -> str | None:
    """The positional argument that a flag replaces."""
    if name in {"root", "data_root"}:
        return next((place for place in places if place in INPUTS), None)
    if name in {"out", "out_dir", "output_dir"} and "out" in places:
        return "out"
    if name == "model_path" and "model" in places:
        return "model"
    return None


def _unknown(given: str, names: frozenset[str]) -> str:
    others = [name for row in SYNONYMS if names & set(row) for name in row]
    near = difflib.get_close_matches(given.replace("-", "_"), [*names, *others], n=1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
    return f"unknown flag --{given}; {hint}"


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


def config_flags(path: Path, options: type[Any]) -> list[str]:
    """The flags that a YAML file stands for, to be put before those of the command line.

    Raises:
        MissingInputError: no such file.
        UsageError: it is not a mapping; or has a key that is not a flag (the message names the nearest one)
            or that only the command line can give.
    """
    known = {flag.name: flag for flag in flags_of(options) if flag.name not in COMMAND_LINE_ONLY}
    words: list[str] = []
    for key, value in _loaded(path).items():
        name = known_name(str(key).replace("-", "_"), frozenset(known))
        flag = known.get(name)
        if flag is None:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest known one is {near[0]!r}" if near else ""
            raise UsageError(f"--config {path}: unknown key {str(key)!r}{hint}")
        if name == "debug" or (flag.positional and value is not None):
            raise UsageError(f"--config {path}: {str(key)!r} cannot be set in a file; give it on the command line")
        if flag.is_switch and value is not None and str(value).lower() not in SWITCHED:
            raise UsageError(f"--config {path}: {str(key)!r} is true or false, got {str(value)[:SHOWN]!r}")
        words += _as_words(flag, value)
    return words


def _as_words(flag: Flag, value: object) -> list[str]:
    if value is None:
        return []
    if flag.is_switch:
        return [f"--{flag.name}" if SWITCHED[str(value).lower()] else f"--no_{flag.name}"]
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [f"--{flag.name}", *map(str, values)]


class _AsWritten(yaml.SafeLoader):
    """Leaves values the text that they are, as on the command line, and refuses a key that is there twice.

    YAML would take a folder 0117 for 79, slices 10:20 for 620, and of a key that is there twice the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, times in names.items() if times > 1]:
            raise yaml.YAMLError(f"{twice[0][:SHOWN]!r} stands there twice")
        return super().construct_mapping(node, deep)


_AsWritten.yaml_implicit_resolvers = {
    first: list(filter(lambda rule: rule[0].endswith((":null", ":merge")), rules))
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _loaded(path: Path) -> Mapping[object, object]:
    if not path.is_file():
        raise MissingInputError(f"--config {path}: no such file")
    try:
        # Bytes, so that UTF-16, which some editors write, is told by its first two.
        loaded: object = yaml.load(path.read_bytes(), _AsWritten)
    except RecursionError as error:
        raise UsageError(f"--config {path}: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number, by its tag, that is none
        raise UsageError(f"--config {path}: not readable as YAML in UTF-8: {one_line(error)}") from error
    if not isinstance(loaded, Mapping):
        raise UsageError(f"--config {path}: expected lines of `flag: value`")
    for key, value in cast("Mapping[object, object]", loaded).items():
        # Aliases make a few lines of YAML a list of 10⁹ items, which nothing may try to write out.
        values = cast("list[object]", value) if isinstance(value, list) else [value] * (value is not None)
        if len(values) > MOST_VALUES or not all(map(_is_text, values)):
            raise UsageError(
                f"--config {path}: the value of {str(key)[:SHOWN]!r} is neither a value nor a list of some"
            )
    return cast("Mapping[object, object]", loaded)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not (len(value) > SHOWN and value.lstrip("+-").isdigit())
