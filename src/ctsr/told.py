"""Where the conditions of a conditional network come from, when it is given simulated LR images."""

import math
from dataclasses import dataclass
from typing import Literal

from ctsr.errors import UsageError


@dataclass(frozen=True)
class ConditionsSource:
    """What a conditional network is told of LR images whose degradation is known.

    `drawn`: what the degradation drew. `estimated`: noise and sharpness as measured in LR. `fixed`: two values.
    """

    kind: Literal["drawn", "estimated", "fixed"] = "drawn"
    blur_sigma: float = 0.0
    """HR pixels, where `fixed`."""
    noise_hu: float = 0.0
    """Standard deviation, where `fixed`."""

    @classmethod
    def parse(cls, text: str) -> "ConditionsSource":
        """Read `drawn`, `estimated`, or blur and noise as in `0.8,5`.

        Raises:
            UsageError: it is none of these, or a value is negative or not finite.
        """
        if text == "drawn" or text == "estimated":
            return cls(text)
        try:
            blur_sigma, noise_hu = map(float, text.split(","))
        except ValueError as error:
            raise UsageError(
                f"`conditions` {text}: expected drawn, estimated, or blur in HR pixels and noise in HU, such as 0.8,5"
            ) from error
        if not (0 <= blur_sigma < math.inf and 0 <= noise_hu < math.inf):
            raise UsageError(f"`conditions` {text}: blur and noise are not negative and finite")
        return cls("fixed", blur_sigma, noise_hu)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.blur_sigma},{self.noise_hu}" if self.kind == "fixed" else self.kind

    @property
    def sentence(self) -> str:
        """For readers of results."""
        match self.kind:
            case "drawn":
                return "the blur and noise that LR was made with (non-blind)"
            case "estimated":
                return "the blur and noise that were measured in LR"
            case "fixed":
                return f"a blur of σ {self.blur_sigma:g} HR pixels and noise of {self.noise_hu:g} HU, whatever LR has"


DRAWN = ConditionsSource()
"""What LR was made with: non-blind super-resolution."""
