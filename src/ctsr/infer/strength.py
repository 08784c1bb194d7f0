"""How strongly a conditional network is to denoise and to sharpen, and what it is told for that."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ctsr.errors import DomainError
from ctsr.hu import HURange
from ctsr.models.conditioning import Conditions

StrengthName: TypeAlias = Literal["faithful", "standard", "strong"]

MOST_NOISE = 1.5
"""Times the measured noise: what full denoising tells the network."""
MOST_BLUR = {2: 1.1, 4: 2.0}
"""HR pixels by scale, standard deviation: what full sharpening tells the network."""


@dataclass(frozen=True)
class Strength:
    """What is wanted of a super-resolution; 0 is nothing, 1 is all that makes sense."""

    denoise: float
    """The network is told `denoise`·`MOST_NOISE` times the noise of the series."""
    sharpen: float
    """The network is told a blur of `sharpen`·`MOST_BLUR` HR pixels."""

    def __post_init__(self) -> None:
        for name, value in (("denoise", self.denoise), ("sharpen", self.sharpen)):
            if not 0 <= value <= 1:
                raise DomainError(f"{name} lies between 0 and 1, got {value:g}")

    def conditions(self, noise_hu: float, scale: int, hu_range: HURange) -> Conditions:
        """What to tell the network of a series with this noise, standard deviation in HU."""
        told_hu = self.denoise * MOST_NOISE * noise_hu
        return Conditions(self.sharpen * MOST_BLUR[scale], told_hu / hu_range.hu_per_unit)


STRENGTHS: dict[StrengthName, Strength] = {
    "faithful": Strength(denoise=0.0, sharpen=0.0),
    "standard": Strength(denoise=2 / 3, sharpen=0.25),
    "strong": Strength(denoise=1.0, sharpen=0.8),
}
"""`faithful` resolves what the pixels hold and leaves noise and blur as they are. `standard` removes the noise that was
measured. `strong` removes more than that, and undoes the blur of a soft reconstruction."""
