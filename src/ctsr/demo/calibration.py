"""Synthetic slices to set the scales of an INT8 network by: always at hand, and no real patient among them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.degrade import Degradation
from ctsr.demo.exams import make_exams
from ctsr.exams import read_slice, scan
from ctsr.hu import HURange
from ctsr.infer.trial import pairs_of

__all__ = ["SyntheticSlices"]

PATIENTS = 6
"""Every style of scanner there is, an implant among them."""


@dataclass(frozen=True)
class SyntheticSlices:
    """LR images of the synthetic exam set, as a model's degradation makes them; the same on every machine."""

    degradation: Degradation
    hu_range: HURange
    """The model's."""

    @property
    def key(self) -> str:
        """See `ctsr.infer.calibration.Calibration`."""
        return f"synthetic {PATIENTS} {self.degradation!r} {self.hu_range!r}"

    @property
    def series_uids(self) -> frozenset[str]:
        """Of no real series."""
        return frozenset()

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """``(1, 1, h, w)`` in [-1, 1], one for each series."""
        with tempfile.TemporaryDirectory(prefix="ctsr-calibration-") as folder:
            make_exams(Path(folder), patients=PATIENTS, slices=1, workers=1)
            slices = [read_slice(series, 0).hu for series in scan(Path(folder)).all_series()]
        return [pair.lr.numpy() for pair in pairs_of(slices, self.degradation, self.hu_range)]
