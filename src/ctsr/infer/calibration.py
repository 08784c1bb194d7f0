"""Images that set the scales of an INT8 network: their activations are what its integers must be able to hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctsr.degrade import Degradation
from ctsr.digests import digest
from ctsr.errors import MissingInputError
from ctsr.exams import read_slice, scan
from ctsr.files import file_state
from ctsr.hu import HURange
from ctsr.infer.trial import pairs_of
from ctsr.series import Series
from ctsr.volume import VoxelsHU

__all__ = ["Calibration", "ExamSlices"]

MOST_SERIES = 12
PLACES = (0.3, 0.7)
"""Where along each series its slices are taken."""


class Calibration(Protocol):
    """Gives the images, where no network calibrated on them is in the cache yet; small and picklable."""

    @property
    def key(self) -> str:
        """Other images, another key."""
        ...

    @property
    def series_uids(self) -> frozenset[str]:
        """The series they are of: a network is not checked on these."""
        ...

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """LR images, ``(1, 1, h, w)`` in [-1, 1]."""
        ...


@dataclass(frozen=True)
class ExamSlices:
    """Slices of real exams, as a model's degradation makes LR of them."""

    series: tuple[Series, ...]
    degradation: Degradation
    hu_range: HURange
    """The model's."""

    @classmethod
    def below(cls, root: Path, degradation: Degradation, hu_range: HURange) -> "ExamSlices":
        """Of the first series of a root.

        Raises:
            MissingInputError: there are none.
        """
        found = tuple(scan(root.absolute()).all_series())[:MOST_SERIES]
        if not found:
            raise MissingInputError(f"{root}: no usable CT series to calibrate int8 on")
        return cls(found, degradation, hu_range)

    @property
    def key(self) -> str:
        """See `Calibration`."""
        states = (f"{one.series_uid} {file_state(one.slices[0].path)}" for one in self.series)
        return digest(repr(self.degradation), repr(self.hu_range), *states).hex()

    @property
    def series_uids(self) -> frozenset[str]:
        """See `Calibration`."""
        return frozenset(one.series_uid for one in self.series)

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """See `Calibration`."""
        return [pair.lr.numpy() for pair in pairs_of(self._slices(), self.degradation, self.hu_range)]

    def _slices(self) -> Iterator[VoxelsHU]:
        for one in self.series:
            for index in sorted({round(share * (len(one.slices) - 1)) for share in PLACES}):
                yield read_slice(one, index, assume_hu=True).hu
