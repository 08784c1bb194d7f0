"""Flags that were typed and do nothing, since another one makes them meaningless: each is said in one line."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Values: TypeAlias = Mapping[str, Any]
"""All flags of a command with their values."""


@dataclass(frozen=True)
class Rule:
    """When some flags have no effect."""

    flags: tuple[str, ...]
    when: str
    """In words, to follow `has no effect`."""
    applies: Callable[[Values], bool]


NOISE = ("noise_sigma_range_norm", "dose_factor_range", "noise_model", "noise_cutoff_range", "noise_skew")
BLUR = ("blur_sigma_range", "blur_kernel")
DEGRADATION = (
    Rule((*BLUR, *NOISE), "with --degradation clean", lambda values: values["degradation"] == "clean"),
    Rule(NOISE, "with --degradation blur", lambda values: values["degradation"] == "blur"),
    Rule(
        ("antialias_clean",),
        "without --degradation clean",
        lambda values: values["degradation"] in {"blur", "blurnoise"},
    ),
)
"""Where the mode is typed; where it is a checkpoint's, nothing is known yet."""
RULES: Mapping[str, tuple[Rule, ...]] = {
    "upscale": (
        Rule(("settle",), "without --watch", lambda values: not values["watch"]),
        Rule(("calibration",), "without --precision int8", lambda values: values["precision"] != "int8"),
    ),
    "train": (
        *DEGRADATION,
        Rule(
            ("scale", "arch", "gc", "conditional", *BLUR, "downsampling", "noise_model", "noise_cutoff_range"),
            "with --through_plane",
            lambda values: values["through_plane"],
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
        Rule(("runs",), "with --out_dir", lambda values: values["out_dir"] is not None),
    ),
    "evaluate": (
        *DEGRADATION,
        Rule(
            ("thickness", "distance", "planes"), "without --through_plane", lambda values: not values["through_plane"]
        ),
    ),
    "view": DEGRADATION,
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
        if rule.applies(values):
            yield from (f"--{name} has no effect {rule.when}" for name in rule.flags if name in typed)
