"""Options that commands share: `--config`, `--debug`, the degradation; how options become flags and files."""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, get_type_hints

import tyro
import yaml

from ctsr.cli.flags import FIELD_FLAGS, known_name
from ctsr.errors import MissingInputError, UsageError
from ctsr.paths import native_path
from ctsr.reporting import Progress, one_line

if TYPE_CHECKING:
    from ctsr.degrade import Degradation

MOST_VALUES = 100_000
"""Most values of one flag in a file."""
SHOWN = 40
"""Characters of a key that a message shows, and digits that a whole number may have."""


@dataclass(frozen=True)
class Common:
    """Flags that every command takes."""

    config: Path | None = None
    """YAML file of `flag: value` lines; flags on the command line win over it."""
    cache_dir: Path | None = None
    """Folder for converted networks, decoded series and fetched weights; the variable CTSR_CACHE names it, too."""
    debug: bool = False
    """Show the traceback of an error."""
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """The names of the flags that were given; filled in after parsing."""


COMMAND_LINE_ONLY = frozenset({"config", "given"})
"""Common flags that a configuration file cannot have."""


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
        MissingInputError: no such file.
        UsageError: it is not a mapping; or has a key that is not a flag (the message names the nearest one)
            or that only the command line can give.
    """
    known = set(flag_names(options)) - COMMAND_LINE_ONLY
    words = _positional(options)
    flags: list[str] = []
    for key, value in _loaded(path).items():
        name = known_name(str(key).replace("-", "_"), frozenset(known))
        if name == "debug" or (name in words and value is not None):
            raise UsageError(f"--config {path}: {str(key)!r} cannot be set in a file; give it on the command line")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest known one is {near[0]!r}" if near else ""
            raise UsageError(f"--config {path}: unknown key {str(key)!r}{hint}")
        flags += _as_flag(name, value)
    return flags


class _OnceEach(yaml.SafeLoader):
    """Refuses a key that is there twice, of which the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, times in names.items() if times > 1]:
            raise yaml.YAMLError(f"{twice[0][:SHOWN]!r} stands there twice")
        return super().construct_mapping(node, deep)


def _loaded(path: Path) -> Mapping[object, object]:
    if not path.is_file():
        raise MissingInputError(f"--config {path}: no such file")
    try:
        # Bytes, so that UTF-16, which some editors write, is told by its first two.
        loaded: object = yaml.load(path.read_bytes(), _OnceEach)
    except RecursionError as error:
        raise UsageError(f"--config {path}: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise UsageError(f"--config {path}: not readable as YAML in UTF-8: {one_line(error)}") from error
    if not isinstance(loaded, Mapping):
        raise UsageError(f"--config {path}: expected lines of `flag: value`")
    for key, value in cast("Mapping[object, object]", loaded).items():
        # Aliases make a few lines of YAML a list of 10⁹ items, which nothing may try to write out.
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        if len(values) > MOST_VALUES or any(not _is_scalar(item) for item in values):
            raise UsageError(
                f"--config {path}: the value of {str(key)[:SHOWN]!r} is neither a value nor a list of some"
            )
    return cast("Mapping[object, object]", loaded)


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 10**SHOWN
    return not isinstance(value, Mapping | list | set | tuple | bytes)


def _positional(options: type[Any]) -> frozenset[str]:
    """The options that are words of the command line rather than flags."""
    hints = get_type_hints(options, include_extras=True)
    return frozenset(name for name, kind in hints.items() if tyro.conf.Positional in getattr(kind, "__metadata__", ()))


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


REPEATABLE = frozenset({"allow", "data_root", "model_path", "root"})
"""Flags that may take several values, after one mention or after several."""


def gathered(argv: Sequence[str]) -> list[str]:
    """``--data_root a --data_root b`` as ``--data_root a b``: a parser would keep the last one only."""
    rest: list[str] = []
    values: dict[str, list[str]] = {}
    taking = rest
    for word in argv:
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if not word.startswith("--"):
            taking.append(word)
        elif name in REPEATABLE:
            taking = values.setdefault(name, [])
            taking += [value] if equals else []
        else:
            taking = rest
            rest.append(word)
    return [*rest, *(part for name, several in values.items() for part in (f"--{name}", *several))]


T = TypeVar("T")


def given_names(flags: Sequence[str]) -> frozenset[str]:
    """The names of the flags among these words, as the fields are spelled."""
    return frozenset(word[2:].partition("=")[0].replace("-", "_") for word in flags if word.startswith("--"))


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


@dataclass(frozen=True, kw_only=True)
class DegradationFlags:
    """How LR images are made from HR ones. What is left out comes from the checkpoint, or else is the default."""

    degradation: Literal["clean", "blur", "blurnoise"] | None = None
    """clean: only downsample; blur: blur, then downsample; blurnoise (default): and then add noise."""
    blur_sigma_range: tuple[float, float] | None = None
    """Blur, HR pixels, drawn between two values; default 0.7 0.9 at ×2, 1.05 1.35 at ×4."""
    blur_kernel: int | None = None
    """Width of the blur, HR pixels, odd; default the odd number nearest to 6 σ."""
    noise_sigma_range_norm: tuple[float, float] | None = None
    """Noise at full dose in units of [-1, 1] (0.003 is 4.5 HU), drawn between two values; default 0.001 0.003."""
    dose_factor_range: tuple[float, float] | None = None
    """Fraction of full dose, drawn between two values; noise grows as 1/√dose; default 0.25 0.5."""
    antialias_clean: bool | None = None
    """Downsample `clean` softly, with a low-pass; off unless the checkpoint says otherwise."""
    downsampling: tuple[Literal["bilinear", "area"], ...] | None = None
    """bilinear (default) samples between two pixels, area averages as a detector does; both: one is drawn."""
    noise_model: tuple[Literal["white", "correlated", "projection", "exam"], ...] | None = None
    """white (default), correlated: with the spectrum of CT noise; not for training: projection, drawn in projections of
    the slice, or exam, the slice's own noise as often as --dose_factor_range of the exam's dose has it; of several, one
    is drawn."""
    noise_cutoff_range: tuple[float, float] | None = None
    """Where the spectrum of noise that is not white ends, as a fraction of LR's Nyquist frequency; default 0.5 1.5."""
    noise_skew: float | None = None
    """Above 1, low noise of the range is drawn more often than high noise; default 1."""

    def given(self) -> dict[str, Any]:
        """Those that were given, by the names of `Degradation`."""
        values = {
            "mode": self.degradation,
            "blur_sigma_range": self.blur_sigma_range,
            "blur_kernel": self.blur_kernel,
            "noise_sigma_range": self.noise_sigma_range_norm,
            "dose_factor_range": self.dose_factor_range,
            "antialias_clean": self.antialias_clean,
            "downsampling": self.downsampling,
            "noise_model": self.noise_model,
            "noise_cutoff_range": self.noise_cutoff_range,
            "noise_skew": self.noise_skew,
        }
        return {name: value for name, value in values.items() if value is not None}

    def over(self, base: "Degradation") -> "Degradation":
        """`base`, with the flags that were given in place of its values.

        Raises:
            DomainError: a value outside what the degradation allows.
        """
        return dataclasses.replace(base, **self.given())

    def over_trained(self, base: "Degradation", progress: Progress) -> "Degradation":
        """As `over`, where `base` is what a model was trained on: a flag that says otherwise wins, with a warning."""
        for contradiction in self.contradictions(base):
            progress.note(f"warning: {contradiction}: the flag wins; the model was trained on something else")
        return self.over(base)

    def contradictions(self, base: "Degradation") -> tuple[str, ...]:
        """For each flag that says something else than `base`: which, and what `base` says."""
        theirs = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        theirs["blur_sigma_range"] = base.sigma_range
        return tuple(
            f"--{FIELD_FLAGS.get(name, name)} {_words(value)} (checkpoint: {_words(theirs[name])})"
            for name, value in self.given().items()
            if value != theirs[name]
        )


def _words(value: object) -> str:
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
    return str(value)


# Flags that were typed and do nothing, since another one makes them meaningless


Values: TypeAlias = Mapping[str, Any]
"""All flags of a command with their values."""


def _has_ma(metrics: Sequence[str]) -> bool:
    from ctsr.metrics import choose_metrics  # imports torch

    return "MA" in choose_metrics(metrics)


def _has_global(values: Values) -> bool:
    """Whether some window of an evaluation is the whole of `hu_clip`."""
    asked = [values[name] for name in ("preset", "window_center", "window_width")]
    return "global" in values["windows"] or not (values["windows"] or any(value is not None for value in asked))


@dataclass(frozen=True)
class Rule:
    """When some flags have no effect."""

    flags: tuple[str, ...]
    when: str
    """In words, to follow `has no effect`."""
    applies: Callable[[Values], bool]


NOISE = ("noise_sigma_range_norm", "dose_factor_range", "noise_model", "noise_cutoff_range", "noise_skew")
BLUR = ("blur_sigma_range", "blur_kernel")
DRAWS = ("degradation_sampling", "deg_seed", "deg_seed_mode")
DEGRADATION = (
    Rule((*BLUR, *NOISE), "with --degradation clean", lambda values: values["degradation"] == "clean"),
    Rule(
        ("downsampling",),
        "with --antialias_clean",
        lambda values: values["degradation"] == "clean" and bool(values["antialias_clean"]),
    ),
    Rule(NOISE, "with --degradation blur", lambda values: values["degradation"] == "blur"),
    Rule(
        ("antialias_clean",),
        "without --degradation clean",
        lambda values: values["degradation"] in {"blur", "blurnoise"},
    ),
)
"""Where the mode is typed; where it is a checkpoint's, nothing is known yet."""
IN_PLANE_ONLY = (
    *("conditions", "baselines", "max_slices_per_patient", "slice_sampling", "ma_every", "degradation_sampling"),
    *("deg_seed_mode", "flat_names", "workers", "store", "study_slices"),
)
"""Flags of `evaluate` that are about slices made coarse within themselves."""
RULES: Mapping[str, tuple[Rule, ...]] = {
    "upscale": (
        Rule(("settle",), "without --watch", lambda values: not values["watch"]),
        Rule(("calibration",), "without --precision int8", lambda values: values["precision"] != "int8"),
    ),
    "node": (Rule(("uncertainty", "picture"), "on a node, which sends images alone", lambda _: True),),
    "train": (
        *DEGRADATION,
        Rule(
            (
                *("scale", "arch", "gc", "conditional", "augment", "antialias_clean"),
                *(*BLUR, "downsampling", "noise_model", "noise_cutoff_range"),
            ),
            "with --through_plane",
            lambda values: values["through_plane"],
        ),
        Rule(
            ("gc",),
            "with --arch edsr or plain",
            lambda values: values["arch"] in {"edsr", "plain"} and not values["through_plane"],
        ),
        Rule(
            ("noise_cutoff_range",),
            "with white noise",
            lambda values: list(values["noise_model"] or ["white"]) == ["white"] and values["resume"] is None,
        ),
        Rule(
            ("thickness_range", "distance_range"),
            "without --through_plane",
            lambda values: not values["through_plane"] and values["resume"] is None,
        ),
    ),
    "finetune": (
        *DEGRADATION,
        Rule(
            ("lambda_perc", "perc_layers", "perc_weights"),
            "with --perceptual none",
            lambda values: values["perceptual"] == "none",
        ),
        Rule(
            ("perceptual", "perc_layers", "perc_weights"),
            "with --lambda_perc 0",
            lambda values: values["lambda_perc"] == 0 and values["perceptual"] != "none",
        ),
        Rule(
            ("gan_type", "discriminator", "warmup_g_only", "val_compute_gan"),
            "with --lambda_gan 0",
            lambda values: values["lambda_gan"] == 0,
        ),
        Rule(("runs",), "with --out_dir", lambda values: values["out_dir"] is not None),
    ),
    "evaluate": (
        *DEGRADATION,
        Rule(
            ("thickness", "distance", "planes"), "without --through_plane", lambda values: not values["through_plane"]
        ),
        Rule(IN_PLANE_ONLY, "with --through_plane", lambda values: values["through_plane"]),
        Rule(
            ("study_slices",),
            "without --physics or --hallucination",
            lambda values: not (values["through_plane"] or values["physics"] or values["hallucination"]),
        ),
        Rule(
            ("slice_sampling",),
            "without --max_slices_per_patient",
            lambda values: not values["through_plane"] and values["max_slices_per_patient"] is None,
        ),
        Rule(("split",), "without --split_json", lambda values: values["through_plane"] and not values["split_json"]),
        Rule(
            ("seed",),
            "without --max_slices_per_patient; --deg_seed is the seed of the degradation",
            lambda values: values["seed"] != 42 and values["max_slices_per_patient"] is None,
        ),
        Rule(("hu_clip",), "beside a window that is not global", lambda values: not _has_global(values)),
        Rule(("ma_every",), "without --metrics PI or MA", lambda values: not _has_ma(values["metrics"])),
    ),
    "physics": (Rule(("center",), "with --kind rods or edge", lambda values: values["kind"] in {"rods", "edge"}),),
    "view": (
        *DEGRADATION,
        Rule(
            ("strength", "denoise", "sharpen", "limit_noise", "slice_profile"),
            "without --native",
            lambda values: not values["native"],
        ),
        Rule(
            ("degradation", *BLUR, *NOISE, "antialias_clean", "downsampling", *DRAWS, "conditions"),
            "with --native",
            lambda values: values["native"],
        ),
        Rule(
            ("strength", "limit_noise"),
            "on slices between slices",
            lambda values: bool(values["slice_spacing"] or values["isotropic"]),
        ),
        Rule(("engine", "precision"), "with --no_model", lambda values: values["no_model"]),
    ),
}
"""Of each command; what contradicts itself is an error where the options are checked."""


def idle_flags(command: str, typed: frozenset[str], values: Values) -> Iterator[str]:
    """A line for each flag that was typed and has no effect.

    Args:
        command: its name.
        typed: names of the flags on the command line; a configuration file holds all, with or without effect.
        values: of all flags.
    """
    for rule in RULES.get(command, ()):
        spellings = [spelling for name in rule.flags for spelling in (name, f"no_{name}")]
        if not typed.isdisjoint(spellings) and rule.applies(values):
            yield from (f"--{name} has no effect {rule.when}" for name in spellings if name in typed)
