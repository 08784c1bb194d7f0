"""The degradations a viewer has shown: the one it began with, and those made of it by the controls of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any, cast, get_args

from ctsr.degrade import Degradation, DegradationSampler, Mode, Sampling
from ctsr.errors import DomainError, UsageError

__all__ = ["Setting", "Settings", "changed"]

KEPT = 32
"""Settings remembered; a page that goes back further makes them anew."""
CHANGEABLE = ("mode", "sigma", "noise", "dose", "deg_seed", "sampling")


@dataclass(frozen=True, eq=False)
class Setting:
    """A degradation under the number that the page and the cache know it by; numbers are never used again."""

    number: int
    sampler: DegradationSampler


class Settings:
    """Degradations by number; 0 is the one that was started with."""

    def __init__(self, base: DegradationSampler) -> None:
        self._known = {0: Setting(0, base)}
        self._count = 1
        self._lock = Lock()

    @property
    def base(self) -> DegradationSampler:
        """What was started with."""
        return self._known[0].sampler

    def __getitem__(self, number: int) -> Setting:
        """The degradation of this number.

        Raises:
            UsageError: it is not known (any more).
        """
        with self._lock:
            if number not in self._known:
                raise UsageError(f"no degradation {number} is known; load the page again")
            return self._known[number]

    def add(self, sampler: DegradationSampler) -> Setting:
        """The degradation of a sampler, under its old number where it is known."""
        with self._lock:
            for known in self._known.values():
                if known.sampler == sampler:
                    return known
            made = Setting(self._count, sampler)
            self._known[made.number] = made
            self._count += 1
            while len(self._known) > KEPT:
                del self._known[sorted(self._known)[1]]
            return made


def changed(base: DegradationSampler, wishes: Mapping[str, Any]) -> DegradationSampler:
    """`base` with other values; what is None or left out stays as it is.

    Args:
        base: the sampler that was started with; where all wishes equal it, it is the result itself.
        wishes: `mode`, `sigma` (HR pixels), `noise` ([-1, 1] units), `dose`, each fixed to one value, `deg_seed`,
            `sampling`.

    Raises:
        DomainError, UsageError: a value that the degradation does not allow, or a name that is none.
    """
    if unknown := set(wishes) - set(CHANGEABLE):
        raise UsageError(f"a degradation has no {', '.join(sorted(unknown))}; there are {', '.join(CHANGEABLE)}")
    given = {name: value for name, value in wishes.items() if value is not None}
    sampling = str(given.get("sampling", base.sampling))
    if sampling not in get_args(Sampling):
        raise DomainError(f"no sampling is called {sampling!r}; there are {', '.join(get_args(Sampling))}")
    degradation = _degradation(base.degradation, given)
    seed = _seed(given.get("deg_seed", base.deg_seed))
    if (degradation, sampling, seed) == (base.degradation, base.sampling, base.deg_seed):
        return base
    # Values that an evaluation recorded hold for its own settings alone: a changed sampler draws.
    return DegradationSampler(degradation, cast("Sampling", sampling), seed, base.seed_mode)


def _degradation(base: Degradation, given: Mapping[str, Any]) -> Degradation:
    names = {"sigma": "blur_sigma_range", "noise": "noise_sigma_range", "dose": "dose_factor_range"}
    points = {names[name]: (_number(name, value),) * 2 for name, value in given.items() if name in names}
    mode = str(given.get("mode", base.mode))
    if mode not in get_args(Mode):
        raise DomainError(f"no degradation is called {mode!r}; there are {', '.join(get_args(Mode))}")
    made = replace(base, mode=cast("Mode", mode), **points)
    same = all(getattr(made, one.name) == getattr(base, one.name) for one in fields(base))
    return base if same else made


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} must be a number, got {value!r}")
    return float(value)


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"a seed is a whole number from 0 on, got {value!r}")
    return value
