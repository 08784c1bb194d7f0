"""What ctsr reads back of its own files: parsed within bounds, and every value of the type that it should have.

A document that was damaged, edited by hand or made to do harm is an error of one line that names the place in it, and
never a traceback, an endless computation or a value of another type in the middle of a run.
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ctsr.errors import ReadError, UsageError
from ctsr.hashing import pseudonym
from ctsr.reporting import one_line, safe_name

LONGEST_NUMBER = 40
"""Characters of a number: enough for every number that is written, too few to take long to parse."""
SHOWN = 40
"""Characters of a wrong value that a message shows."""

PREPROCESSING_LOG = "preprocessing_log.csv"
RESAMPLED_SUFFIX = "pp"
"""What preprocessing adds to a patient's folder name."""

T = TypeVar("T")


def parse_json(content: bytes | str) -> object:
    """Parse JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ReadError: it is not JSON, is nested too deeply, or holds a number with too many digits, NaN or infinity.
    """
    try:
        return json.loads(content, parse_int=_whole, parse_float=_real, parse_constant=_no_number)
    except RecursionError as error:
        raise ReadError("it is nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
        raise ReadError(f"it is not JSON: {one_line(error)}") from error


def as_type(value: object, kind: type[T], where: str = "it") -> T:
    """Return a value that was read, as `kind`.

    Args:
        value: of plain values, as JSON or a checkpoint has them; NumPy's numbers count as Python's.
        kind: `bool`, `int`, `float` (which whole numbers are, too), `str`, `list[…]`, `tuple[…]` (of lists, too),
            `dict[str, …]`, a dataclass of such fields (of mappings; no field may be unknown), or a union of these.
        where: what the value is called in messages.

    Raises:
        ReadError: it is of another type; the message names the place and shows the value.
    """
    return cast("T", _checked(value, kind, where))


def check_words(options: object) -> None:
    """Refuse words that options do not know. The command line knows only those; callers in Python may write others.

    Args:
        options: a dataclass; its fields of a `Literal`, or of tuples, are looked at.

    Raises:
        UsageError: another word, or a single one where several can be given.
    """
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name, None)
        members = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
        takes_several = any(get_origin(member) is tuple for member in members)
        if takes_several and isinstance(value, str):
            raise UsageError(f"`{name}` takes several: give ({value!r},) in place of {value!r}")
        if value is None or not (words := _words(kind)):
            continue
        for word in value if takes_several else (value,):
            if word not in words:
                raise UsageError(f"`{name}` is one of {', '.join(map(str, words))}, got {_shown(word)}")


def _words(kind: Any) -> tuple[object, ...]:
    """Those of a Literal, or of tuples of it, and of a union of either; empty for other types."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in {Union, UnionType, tuple}:
        return tuple(word for member in get_args(kind) for word in _words(member))
    return ()


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    number = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{_shown(text)} is not a finite number")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _shown(value: object) -> str:
    # Of what is nested or long, only the type: showing it could take as long as it likes.
    if isinstance(value, str):
        return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")
    if isinstance(value, bool | float | NoneType) or (isinstance(value, int) and abs(value) < 10**SHOWN):
        return repr(value)
    return f"a {type(value).__name__}"


def _checked(value: object, kind: Any, where: str) -> object:
    item = getattr(value, "item", None)
    if not isinstance(value, int | float) and callable(item) and getattr(value, "ndim", None) == 0:
        value = item()  # a NumPy number
    origin = get_origin(kind)
    if kind in {object, Any}:
        return value
    if origin in {Union, UnionType}:
        return _one_of(value, get_args(kind), where)
    if origin is Literal:
        return _required(value, where, f"one of {', '.join(map(str, get_args(kind)))}", ok=value in get_args(kind))
    if origin in {list, tuple, Sequence}:
        return _items(value, origin, get_args(kind), where)
    if origin in {dict, Mapping}:
        return _mapping(value, get_args(kind)[1], where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _fields(value, kind, where)
    return _plain(value, kind, where)


def _required(value: object, where: str, what: str, *, ok: bool) -> object:
    if not ok:
        raise ReadError(f"{where} is {_shown(value)} where {what} is expected")
    return value


def _plain(value: object, kind: Any, where: str) -> object:
    if kind in {None, NoneType}:
        return _required(value, where, "nothing", ok=value is None)
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(cast("float", _required(value, where, "a number", ok=is_number)))
    if kind is int:
        return _required(value, where, "a whole number", ok=isinstance(value, int) and not isinstance(value, bool))
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [member.value for member in kind]
        return kind(_required(value, where, f"one of {', '.join(map(str, known))}", ok=value in known))
    names: dict[Any, str] = {str: "text", bool: "true or false"}
    return _required(value, where, names.get(kind, str(kind.__name__)), ok=isinstance(value, kind))


def _one_of(value: object, kinds: Sequence[Any], where: str) -> object:
    """As the first kind that fits; the message is that of the last."""
    fitting = [kind for kind in kinds if kind is not NoneType]
    *others, last = fitting
    if value is None and NoneType in kinds:
        return None
    for kind in others:
        try:
            return _checked(value, kind, where)
        except ReadError:
            continue
    return _checked(value, last, where)


def _items(value: object, origin: Any, kinds: Sequence[Any], where: str) -> object:
    items = cast("Sequence[object]", _required(value, where, "a list", ok=isinstance(value, list | tuple)))
    if origin is tuple and kinds[-1] is not Ellipsis:
        _required(value, where, f"a list of {len(kinds)}", ok=len(items) == len(kinds))
        pairs = list(zip(items, kinds, strict=True))
    else:
        pairs = [(item, kinds[0]) for item in items]
    found = [_checked(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(pairs)]
    return tuple(found) if origin is tuple else found


def _mapping(value: object, kind: Any, where: str) -> dict[str, object]:
    items = cast("Mapping[object, object]", _required(value, where, "a mapping", ok=isinstance(value, Mapping)))
    found: dict[str, object] = {}
    for key, item in items.items():
        _required(key, f"a key of {where}", "text", ok=isinstance(key, str))
        found[str(key)] = _checked(item, kind, f"{where}.{_shortened(str(key))}")
    return found


def _fields(value: object, kind: type[Any], where: str) -> object:
    given = _mapping(value, object, where)
    hints, known = get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [name for name in given if name not in known]:
        raise ReadError(f"{where} has an unknown {_shortened(unknown[0])!r}")
    for name, field in known.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in given and not has_default:
            raise ReadError(f"{where} has no {name!r}")
    return kind(**{name: _checked(item, hints[name], f"{where}.{name}") for name, item in given.items()})


def _shortened(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}…"


def resampled_folder(patient_id: str) -> str:
    """Name of a patient's folder after preprocessing; not every system takes the colon of a hash."""
    return (safe_name(patient_id) if pseudonym(patient_id) == patient_id else patient_id) + RESAMPLED_SUFFIX


def patient_names(root: Path) -> dict[str, str]:
    """Folder name → patient id, as the log of a preprocessed root tells; empty for a raw root.

    The log decides, not the ending of a name: the name of a patient called Krupp stays whole.

    Raises:
        ReadError: the log is not one of `ctsr preprocess`.
    """
    rows = _log_rows(root, "patient_id")
    return {resampled_folder(row["patient_id"]): row["patient_id"] for row in rows}


def _log_rows(root: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of the log of a preprocessed root, which has these columns and maybe others; none where there is none.

    Raises:
        ReadError: it is not one of `ctsr preprocess`, or not all of one.
    """
    log = root / PREPROCESSING_LOG
    if not log.is_file():
        return []
    try:
        # Spreadsheets put a mark before the first column.
        lines = csv.DictReader(io.StringIO(log.read_bytes().decode("utf-8-sig"), newline=""))
        rows = list(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _no_log(log, one_line(error)) from error
    if missing := [name for name in columns if name not in (lines.fieldnames or ())]:
        raise _no_log(log, f"it has no column {missing[0]}")
    if any(None in row.values() for row in rows):
        raise _no_log(log, "a line of it was cut off")
    return rows


def _no_log(log: Path, why: str) -> ReadError:
    return ReadError(f"{log} is not a log of `ctsr preprocess` ({why}); run that again, or move the file away")


def _volume_name(source: str) -> str:
    """The file name of what is made of a volume: NIfTI, whatever the source is."""
    return source if source.lower().endswith((".nii", ".nii.gz")) else f"{source}.nii.gz"


def upsampled_series(root: Path) -> dict[str, tuple[float, float]]:
    """Series of a preprocessed root whose pixels were made smaller: UID → mm before and after; empty for a raw root.

    A volume, which has no UID, goes by its NIfTI file below the root.

    Raises:
        ReadError: the log is not one of `ctsr preprocess`.
    """
    found: dict[str, tuple[float, float]] = {}
    columns = ("upsampled", "output", "source", "new_series_uid", "orig_row_mm", "new_row_mm")
    try:
        for row in _log_rows(root, *columns):
            if row["upsampled"] == "true":
                file = f"{row['output']}/{_volume_name(Path(row['source']).name)}"
                found[row["new_series_uid"] or file] = float(row["orig_row_mm"]), float(row["new_row_mm"])
    except ValueError as error:
        raise _no_log(root / PREPROCESSING_LOG, one_line(error)) from error
    return found
