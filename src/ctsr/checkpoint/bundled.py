"""The models that come with the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ctsr
from ctsr.checkpoint.packed import PACKED

__all__ = ["BUNDLED", "BundledModel", "bundled_for"]

FOLDER = Path(ctsr.__file__).parent / "bundled"


@dataclass(frozen=True)
class BundledModel:
    """One model of the package; what it is and was trained on stands in its file."""

    name: str
    scale: int
    licence: str
    """Of the weights; the images they were trained on are not part of the package."""

    @property
    def file(self) -> Path:
        """Where its weights are."""
        return FOLDER / f"{self.name}{PACKED}"


BUNDLED: Mapping[str, BundledModel] = {
    model.name: model
    for model in (
        BundledModel("ctsr-x2", 2, "Apache-2.0"),
        BundledModel("ctsr-x4", 4, "Apache-2.0"),
        BundledModel("ctsr-x2-sharp", 2, "Apache-2.0"),
    )
}
"""By name; the first of its scale is used where no run is found."""


def bundled_for(scale: int | None) -> BundledModel | None:
    """The model that is used where no run is found: the first of that scale, or of all; None where there is none."""
    return next((model for model in BUNDLED.values() if scale in {None, model.scale}), None)
