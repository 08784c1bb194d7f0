"""Calibration on the synthetic exam set: available everywhere, and without data of a patient."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.checkpoint import Model
from ctsr.degrade import Degradation
from ctsr.exams import read_slice, scan
from ctsr.hu import HURange
from ctsr.phantom.exams import make_exams
from ctsr.quantization.acceptance import degraded_pairs, native_pairs

PATIENTS = 6
"""They cover every scanner of the set, and an implant."""


@dataclass(frozen=True)
class SyntheticSlices:
    """LR images of the synthetic exam set, degraded as the model's training data; the same on every machine."""

    degradation: Degradation
    hu_range: HURange
    """The model's."""
    conditional: bool = False
    """Whether the model takes conditions."""

    @classmethod
    def of(cls, model: Model) -> "SyntheticSlices":
        """Images such as a model was trained on."""
        return cls(model.trained_for, model.hu_range, model.architecture.conditional)

    @property
    def key(self) -> str:
        """See `ctsr.quantization.calibration.Calibration`."""
        return f"synthetic {PATIENTS} {self.degradation!r} {self.hu_range!r}"

    @property
    def series_uids(self) -> frozenset[str]:
        """Empty: no real series is used."""
        return frozenset()

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """``(1, 1, h, w)`` in [-1, 1], or ``(1, 3, h, w)`` where conditional: degraded slices, and as they are."""
        with tempfile.TemporaryDirectory(prefix="ctsr-calibration-") as folder:
            make_exams(Path(folder), patients=PATIENTS, slices=1, workers=1)
            found = [(read_slice(series, 0).hu, series.pixel_spacing) for series in scan(Path(folder)).all_series()]
        slices, scale = [hu for hu, _ in found], self.degradation.scale
        pairs = degraded_pairs(slices, self.degradation, self.hu_range, conditional=self.conditional)
        for hu, spacing in found:
            pairs += native_pairs(hu, spacing, scale, self.hu_range, conditional=self.conditional)
        return [pair.lr.numpy() for pair in pairs]
