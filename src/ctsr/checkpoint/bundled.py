"""The models that come with the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ctsr
from ctsr.checkpoint.packed import PACKED
from ctsr.errors import UsageError

__all__ = ["BUNDLED", "BundledModel", "bundled_for", "check_own_folder"]

FOLDER = Path(ctsr.__file__).parent / "bundled"
IDENTITIES = FOLDER / "identities.json"
"""Hashes of the studies and patients of the training part of every bundled model, as `recipes/identities.py` wrote
them."""


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
    )
}
"""By name; the first of its scale is used where no run is found."""


WITHDRAWN = {"ctsr-x2-sharp": "use ctsr-x2 with --strength strong, which `ctsr upscale` takes"}
"""Models that came with earlier versions, and what takes their place."""


def bundled_for(scale: int | None) -> BundledModel | None:
    """The model that is used where no run is found: the first of that scale, or of all; None where there is none."""
    return next((model for model in BUNDLED.values() if scale in {None, model.scale}), None)


def check_own_folder(model: Path) -> None:
    """Refuse to write beside a bundled model, where nobody named a file: that folder is the installed package's.

    Raises:
        UsageError: the model comes with the package.
    """
    if model.resolve().parent == FOLDER.resolve():
        raise UsageError(
            f"{model.stem} comes with ctsr, whose folder is not for results: name the file to write with --out, or "
            f"work on a copy, which `ctsr export copy{PACKED} --model_path {model.stem}` makes"
        )
