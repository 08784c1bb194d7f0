"""Options that commands share: `--config`, `--debug`, the degradation; which flags were given, and which do nothing."""

import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

import tyro

from ctsr.cli.flags import FIELD_FLAGS
from ctsr.paths import native_path
from ctsr.reporting import Progress

if TYPE_CHECKING:
    from ctsr.degrade import Degradation


@dataclass(frozen=True)
class Common:
    """Flags that every command takes."""

    config: Path | None = None
    """YAML file of `flag: value` lines, values as on the command line, whose flags win over it."""
    cache_dir: Path | None = None
    """Folder for converted networks, decoded series and fetched weights; the variable CTSR_CACHE names it, too."""
    debug: bool = False
    """Show the traceback of an error."""
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """The names of the flags that were given; filled in after parsing."""


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


def given_names(flags: Sequence[str], switches: Container[str] = ()) -> frozenset[str]:
    """The names of the flags among these words, as the fields are spelled.

    Args:
        flags: words of a command line.
        switches: flags without a value: ``--no_augment`` gives `augment`. Without them it is `no_augment`.
    """
    names = [word[2:].partition("=")[0].replace("-", "_") for word in flags if word.startswith("--")]
    return frozenset(
        name.removeprefix("no_") if name not in switches and name.removeprefix("no_") in switches else name
        for name in names
    )


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


def _is_between(values: Values) -> bool:
    """Whether slices between slices are shown."""
    return values["slice_spacing"] is not None or values["isotropic"] is not None


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
            ("degradation", *BLUR, *NOISE, "antialias_clean", "downsampling", *DRAWS, "conditions"),
            "with --native",
            lambda values: values["native"],
        ),
        Rule(
            ("strength", "denoise", "sharpen", "limit_noise"), "without --native", lambda values: not values["native"]
        ),
        Rule(("strength", "limit_noise"), "between slices", _is_between),
        Rule(("slice_profile",), "without --slice_spacing or --isotropic", lambda values: not _is_between(values)),
        Rule(("port", "host", "no_browser"), "with --snapshot", lambda values: values["snapshot"] is not None),
        Rule(("device", "engine", "precision", "conditions"), "with --no_model", lambda values: values["no_model"]),
    ),
    "node": (Rule(("uncertainty", "picture"), "in a node, which sends images only", lambda _: True),),
    "params": (
        Rule(
            ("arch", "scale", "nf", "nb", "gc"),
            "with --model_path",
            lambda values: values["model_path"] is not None,
        ),
        Rule(
            ("gc",),
            "with --arch edsr or plain",
            lambda values: values["arch"] in {"edsr", "plain"} and values["model_path"] is None,
        ),
    ),
    "weights": (
        Rule(("source", "from_file", "force"), "without fetch", lambda values: values["action"] != "fetch"),
        Rule(("source", "force"), "with --from_file", lambda values: values["from_file"] is not None),
    ),
    "cache": (Rule(("unused_days",), "without clean", lambda values: values["action"] != "clean"),),
    "demo": (Rule(("out_dir", "epochs"), "with --make_data", lambda values: values["make_data"] is not None),),
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
        spelled = [each for name in rule.flags for each in (name, f"no_{name}") if each in typed]
        if spelled and rule.applies(values):
            yield from (f"--{each} has no effect {rule.when}" for each in spelled)
