"""The range of degradations that a model is made for, and drawing one of it for an image.

A draw is a function of seeds and names, never of order, workers or process.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ctsr.documents import as_type
from ctsr.errors import DomainError
from ctsr.hashing import rng_from, seed_from

Mode: TypeAlias = Literal["clean", "blur", "blurnoise"]
Downsampling: TypeAlias = Literal["bilinear", "area"]
"""`bilinear` samples between the two middle pixels of a cell; `area` is the cell's mean, as a detector takes it."""
AppliedDownsampling: TypeAlias = Literal["bilinear", "area", "triangle"]
"""What an image was made with: `triangle` is the low-pass of `Degradation.antialias`, in place of the other two."""
NoiseModel: TypeAlias = Literal["white", "correlated", "projection", "exam"]
"""`white` has independent pixels; `correlated` the spectrum of CT, a ramp under an apodisation;
`projection` is drawn in projections of a whole slice, see `ctsr.degrade.noise`; `exam` has the strength and
correlation of the slice's own noise, see `ctsr.degrade.noise`."""
WHOLE_SLICE_MODELS: tuple[NoiseModel, ...] = ("projection", "exam")
"""Those that patches cannot have."""
Range: TypeAlias = tuple[float, float]

SCALES = (2, 4)
LARGEST_BLUR = 20.0
"""HR pixels, standard deviation: a larger blur leaves nothing of an image, and costs memory and time."""
LARGEST_KERNEL = 301
"""HR pixels."""
LARGEST_NOISE = 2.0
"""[-1, 1] units, standard deviation: as wide as all values."""
LEAST_BLUR = 0.05
"""HR pixels: below it, neighbours weigh less than 1e-86."""
BLUR_SIGMA: dict[int, Range] = {2: (0.7, 0.9), 4: (1.05, 1.35)}
"""Default blur by scale, HR pixels: 0.8 ± 0.1 at ×2, 1.2 ± 0.15 at ×4."""

Sampling: TypeAlias = Literal["volume", "slice", "det-slice"]
SeedMode: TypeAlias = Literal["per_patient", "global"]


@dataclass(frozen=True)
class DegradationParams:
    """What one LR image was made with; stored next to it, enough to make it again."""

    blur_sigma: float
    """HR pixels; 0 for none."""
    blur_kernel: int
    """HR pixels, odd; 1 for none."""
    noise_sigma: float
    """Standard deviation in [-1, 1] units at full dose; 0 for none. For `exam`, 0 until it is measured in a slice."""
    dose: float
    """Fraction of full dose, in (0, 1]."""
    downsampling: AppliedDownsampling = "bilinear"
    noise_model: NoiseModel = "white"
    noise_cutoff: float = 1.0
    """End of the spectrum of noise that is not white, as a fraction of LR's Nyquist frequency."""

    def __post_init__(self) -> None:
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise DomainError(f"a blur kernel needs an odd number of pixels, got {self.blur_kernel}")
        if self.blur_sigma < 0 or (self.blur_kernel > 1 and self.blur_sigma == 0):
            raise DomainError(f"a blur of {self.blur_kernel} pixels needs a sigma above 0, got {self.blur_sigma:g}")
        if self.noise_sigma < 0 or not 0 < self.dose <= 1:
            raise DomainError(f"noise needs sigma ≥ 0 and dose in (0, 1], got {self.noise_sigma:g} and {self.dose:g}")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the added noise in [-1, 1] units: quantum noise grows as 1/√dose.

        Noise of projections and of exams is what an image with `noise_sigma` of its own lacks to the noise of the
        dose, ``σ·√(1/dose − 1)``; none at full dose.
        """
        if self.noise_model in WHOLE_SLICE_MODELS:
            return self.noise_sigma * math.sqrt(1 / self.dose - 1)
        return self.noise_sigma / math.sqrt(self.dose)

    @property
    def applied_sigma(self) -> float:
        """Standard deviation of the blur, HR pixels; below `blur_sigma` where the kernel cuts the Gaussian off."""
        if self.blur_sigma == 0 or self.blur_kernel >= odd_nearest(6 * self.blur_sigma):
            return self.blur_sigma
        offsets = range(-(self.blur_kernel // 2), self.blur_kernel // 2 + 1)
        weights = {offset: math.exp(-0.5 * (offset / self.blur_sigma) ** 2) for offset in offsets}
        return math.sqrt(sum(offset**2 * weight for offset, weight in weights.items()) / sum(weights.values()))

    def total_blur_sigma(self, scale: int) -> float:
        """The Gaussian that blurs as this blur and this downsampling do together; HR pixels, standard deviation.

        Bilinear downsampling is what it is compared with, and counts as none: at even scales it is the mean of two
        pixels along each side, of variance 3/12, where the mean over an area has ``(scale² − 1)/12``, and a triangle
        ``(2·scale² + 1)/12``.
        """
        match self.downsampling:
            case "bilinear":
                return self.applied_sigma
            case "area":
                wider = max(scale**2 - 4, 0) / 12
            case "triangle":
                wider = (scale**2 - 1) / 6
        return math.sqrt(self.applied_sigma**2 + wider)

    @property
    def has_noise(self) -> bool:
        """Whether noise is added."""
        return self.dose < 1 if self.noise_model == "exam" else self.noise_std > 0

    @property
    def noiseless(self) -> "DegradationParams":
        """The same blur without the noise: what the optics of the degradation do to an image."""
        return replace(self, noise_sigma=0.0, noise_model="white")


@dataclass(frozen=True)
class Degradation:
    """How LR images are made from HR ones: blur → downsample → noise, with ranges to draw from.

    `clean` only downsamples, `blur` adds no noise, `blurnoise` does all three.
    """

    mode: Mode = "blurnoise"
    scale: int = 2
    blur_sigma_range: Range | None = None
    """HR pixels; None takes the default of the scale."""
    blur_kernel: int | None = None
    """HR pixels, odd; None takes the odd number nearest to 6σ."""
    noise_sigma_range: Range = (0.001, 0.003)
    """[-1, 1] units at full dose: 0.003 is 4.5 HU on the default range."""
    dose_factor_range: Range = (0.25, 0.5)
    """Fractions of full dose."""
    antialias_clean: bool = False
    """Downsample `clean` with a low-pass."""
    downsampling: tuple[Downsampling, ...] = ("bilinear",)
    """One of these for each draw, all equally likely."""
    noise_model: tuple[NoiseModel, ...] = ("white",)
    """One of these for each draw, all equally likely."""
    noise_cutoff_range: Range = (0.5, 1.5)
    """End of the spectrum of noise that is not white, as a fraction of LR's Nyquist frequency."""
    noise_skew: float = 1.0
    """The noise is ``low + (high − low)·u^skew`` with u uniform in [0, 1): above 1, low noise is drawn more often."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise DomainError(f"no degradation is called {self.mode!r}; there are {', '.join(get_args(Mode))}")
        if self.scale not in SCALES:
            raise DomainError(f"scale {self.scale} is not supported; choose 2 or 4")
        if self.blur_kernel is not None and (self.blur_kernel < 1 or self.blur_kernel % 2 == 0):
            raise DomainError(f"`blur_kernel` must be an odd number of pixels, got {self.blur_kernel}")
        if self.blur_kernel is not None and self.blur_kernel > LARGEST_KERNEL:
            raise DomainError(f"`blur_kernel` must be at most {LARGEST_KERNEL} HR pixels, got {self.blur_kernel}")
        for name, (low, high), most in (
            ("`blur_sigma_range`", self.sigma_range, LARGEST_BLUR),
            ("`noise_sigma_range`", self.noise_sigma_range, LARGEST_NOISE),
            ("`dose_factor_range`", self.dose_factor_range, math.inf),
        ):
            if not 0 <= low <= high:
                raise DomainError(f"{name} needs 0 ≤ low ≤ high, got {low:g} {high:g}")
            if high > most:
                raise DomainError(f"{name} reaches {high:g}; at most {most:g} makes sense")
        self._check_choices()
        if self.dose_factor_range[0] <= 0 or self.dose_factor_range[1] > 1:
            low, high = self.dose_factor_range
            raise DomainError(f"`dose_factor_range` must lie in (0, 1], got {low:g} {high:g}")

    def _check_choices(self) -> None:
        for name, chosen, known in (
            ("`downsampling`", self.downsampling, get_args(Downsampling)),
            ("`noise_model`", self.noise_model, get_args(NoiseModel)),
        ):
            if not chosen or not set(chosen) <= set(known):
                raise DomainError(f"{name} takes {' and '.join(known)}, got {' '.join(chosen) or 'nothing'}")
        low, high = self.noise_cutoff_range
        if not 0.1 <= low <= high <= 4:
            raise DomainError(f"`noise_cutoff_range` needs 0.1 ≤ low ≤ high ≤ 4, got {low:g} {high:g}")
        if not 0.1 <= self.noise_skew <= 10:
            raise DomainError(f"`noise_skew` must lie between 0.1 and 10, got {self.noise_skew:g}")

    @property
    def sigma_range(self) -> Range:
        """The blur range in force, HR pixels."""
        return self.blur_sigma_range or BLUR_SIGMA[self.scale]

    @property
    def antialias(self) -> bool:
        """Whether downsampling has a low-pass of its own: where there is a blur, the blur is it."""
        return self.mode == "clean" and self.antialias_clean

    @property
    def applied_downsampling(self) -> tuple[AppliedDownsampling, ...]:
        """One of these for each draw; a low-pass takes the place of what was chosen."""
        return ("triangle",) if self.antialias else self.downsampling

    def kernel_for(self, sigma: float) -> int:
        """Width in HR pixels of the blur kernel for `sigma`; 1, no blur, where it has no weight but the middle one."""
        if sigma < LEAST_BLUR:
            return 1
        return self.blur_kernel if self.blur_kernel is not None else odd_nearest(6 * sigma)

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the fields' names; `from_dict` reads them back."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For readers of results."""
        if self.mode == "clean":
            # A triangle is the low-pass of bilinear downsampling, and takes the place of any other.
            how, low_pass = ("bilinear", ", low-passed") if self.antialias else (" or ".join(self.downsampling), "")
            return f"clean: {how} downsampling{low_pass}"
        kernel = "" if self.blur_kernel is None else f" over {self.blur_kernel} pixels"
        parts = [
            f"{self.mode}: Gaussian blur of σ {_span(self.sigma_range)} HR pixels{kernel}",
            f"{' or '.join(self.downsampling)} downsampling",
        ]
        if self.mode == "blurnoise":
            parts.append(
                f"{' or '.join(self.noise_model)} noise of σ {_span(self.noise_sigma_range)} in [-1, 1] at full dose"
            )
            parts.append(f"dose {_span(self.dose_factor_range)}")
            if self.noise_model != ("white",):
                parts.append(f"its spectrum up to {_span(self.noise_cutoff_range)} of LR's Nyquist frequency")
            if self.noise_skew != 1:
                parts.append(f"low noise more often by the power {self.noise_skew:g}")
        return ", ".join(parts)

    def as_flags(self) -> dict[str, Any]:
        """Plain values under the names of the command line's flags, for a configuration that can be run again."""
        return {
            "degradation": self.mode,
            "blur_sigma_range": list(self.sigma_range),
            "blur_kernel": self.blur_kernel,
            "noise_sigma_range_norm": list(self.noise_sigma_range),
            "dose_factor_range": list(self.dose_factor_range),
            "antialias_clean": self.antialias_clean,
            "downsampling": list(self.downsampling),
            "noise_model": list(self.noise_model),
            "noise_cutoff_range": list(self.noise_cutoff_range),
            "noise_skew": self.noise_skew,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Degradation":
        """The inverse of `as_dict`, also by way of JSON, which knows no tuples.

        Raises:
            ReadError: a value is of another type.
            DomainError: it is out of range.
        """
        return as_type(values, cls, "degradation")

    def sample(self, rng: np.random.Generator) -> DegradationParams:
        """Draw blur, noise and dose, one after the other, then what there is a choice of."""
        sigma = _between(self.sigma_range, rng.random())
        noise = _between(self.noise_sigma_range, rng.random() ** self.noise_skew)
        dose = _between(self.dose_factor_range, rng.random())
        # Drawn last, and only where there is something to choose: other draws stay what they were without.
        chosen = self.downsampling[_choice(len(self.downsampling), rng)]
        downsampling: AppliedDownsampling = "triangle" if self.antialias else chosen
        noise_model = self.noise_model[_choice(len(self.noise_model), rng)]
        cutoff = _between(self.noise_cutoff_range, rng.random()) if noise_model != "white" else 1.0
        if self.mode == "clean":
            sigma, noise, dose = 0.0, 0.0, 1.0
        elif self.mode == "blur":
            noise, dose = 0.0, 1.0
        elif noise_model == "exam":
            noise = 0.0  # measured in the slice, see `ctsr.degrade.noise`
        kernel = self.kernel_for(sigma)
        return DegradationParams(sigma if kernel > 1 else 0.0, kernel, noise, dose, downsampling, noise_model, cutoff)


def odd_nearest(width: float) -> int:
    """The odd number nearest to `width`, at least 3."""
    return max(3, 2 * math.floor((width - 1) / 2 + 0.5) + 1)


@dataclass(frozen=True)
class Draw:
    """Everything that is random about one LR slice."""

    params: DegradationParams
    noise_seed: int


@dataclass(frozen=True)
class DegradationSampler:
    """Draws a degradation for each slice.

    `volume`: one set of parameters for a whole series. `slice`: one for each slice, by its identity. `det-slice`:
    one for each slice, by ``seed + slice_index``. The noise field always belongs to the slice.
    """

    degradation: Degradation
    sampling: Sampling = "volume"
    deg_seed: int = 42
    seed_mode: SeedMode = "per_patient"
    """`global` leaves the patient out: every patient's series then share one draw."""

    def patient_seed(self, patient_id: str) -> int:
        """The seed that a patient's draws are made from, 32 bits."""
        return self.deg_seed if self.seed_mode == "global" else seed_from(self.deg_seed, patient_id, bits=32)

    def draw(self, patient_id: str, series_uid: str, slice_identity: str, slice_index: int) -> Draw:
        """The parameters and the noise seed of one slice."""
        seed = self.patient_seed(patient_id)
        if self.seed_mode != "global" and "." not in slice_identity:
            # No UID: the index within a NIfTI volume, which every volume of the patient has.
            slice_identity = f"{series_uid}#{slice_identity}"
        rng = self._rng(seed, series_uid, slice_identity, slice_index)
        return Draw(self.degradation.sample(rng), seed_from(seed, "noise", slice_identity))

    def _rng(self, seed: int, series_uid: str, slice_identity: str, slice_index: int) -> np.random.Generator:
        match self.sampling:
            case "volume":
                return rng_from(seed, "volume", "" if self.seed_mode == "global" else series_uid)
            case "slice":
                return rng_from(seed, "slice", slice_identity)
            case "det-slice":
                # A negative seed is as good a name as any, and no generator takes one.
                return np.random.default_rng((seed + slice_index) % 2**64)


def _span(bounds: Range) -> str:
    low, high = bounds
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"


def _between(bounds: Range, share: float) -> float:
    low, high = bounds
    return low + (high - low) * float(share)


def _choice(count: int, rng: np.random.Generator) -> int:
    return 0 if count == 1 else int(rng.integers(count))
