"""The flags of the degradation, the same for every verb that makes LR images."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ctsr.progress import Progress

if TYPE_CHECKING:  # it imports torch, which `--help` need not wait for
    from ctsr.degrade import Degradation

__all__ = ["DegradationFlags"]


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
            f"--{FLAG_NAMES.get(name, name)} {_words(value)} (checkpoint: {_words(theirs[name])})"
            for name, value in self.given().items()
            if value != theirs[name]
        )


FLAG_NAMES = {"mode": "degradation", "noise_sigma_range": "noise_sigma_range_norm"}
"""Fields of `Degradation` whose flag has another name."""


def _words(value: object) -> str:
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
    return str(value)
