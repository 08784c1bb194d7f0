"""Images that set the scales of an INT8 network: their activations are what its integers must be able to hold."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctsr.checkpoint import Generator
from ctsr.checkpoint.int8 import read_int8
from ctsr.degrade import Degradation
from ctsr.errors import MissingInputError, ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.files import file_state
from ctsr.hashing import digest
from ctsr.hu import HURange
from ctsr.infer.trial import Pair, pairs_of
from ctsr.phantom.exams import make_exams
from ctsr.series import Series
from ctsr.volume import VoxelsHU

MOST_SERIES = 12
PLACES = (0.3, 0.7)
"""Where along each series its slices are taken."""
TRIAL_PLACES = (0.2, 0.5, 0.8)
"""Where along a series the slices lie that an engine is checked on."""

SYNTHETIC_PATIENTS = 6
"""Every scanner of the synthetic set, and an implant."""


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


def trial_pairs(
    series: Iterable[Series], generator: Generator, calibration: Calibration | None, *, assume_hu: bool = False
) -> list[Pair]:
    """What an engine is checked on: the first series that can be read and has not taught it, as in training.

    Args:
        series: on which the engine is to be used.
        generator: its network.
        calibration: what sets its scales.
        assume_hu: read series without a rescale as HU.

    Returns:
        Slices; none where every series is of patients whom the model's twin has learned from.

    Raises:
        UsageError: there is none, and no twin either that was checked when it was made.
    """
    twin = read_int8(generator)
    taught = set(twin.notes.patients if twin else ())
    known = calibration.series_uids if calibration else frozenset[str]()
    for one in series:
        if one.series_uid in known or one.patient_id in taught:
            continue
        indices = sorted({round(share * (len(one.slices) - 1)) for share in TRIAL_PLACES})
        with suppress(ReadError):  # told when its turn comes; the next one will do
            slices = [read_slice(one, index, assume_hu=assume_hu).hu for index in indices]
            return pairs_of(slices, generator.degradation, generator.hu_range)
    if twin is not None:
        return []
    raise UsageError("int8 must be checked on a patient it was not calibrated on; give --calibration other exams")


@dataclass(frozen=True)
class SyntheticSlices:
    """LR images of the synthetic exam set, as a model's degradation makes them; the same on every machine."""

    degradation: Degradation
    hu_range: HURange
    """The model's."""

    @property
    def key(self) -> str:
        """See `ctsr.infer.calibration.Calibration`."""
        return f"synthetic {SYNTHETIC_PATIENTS} {self.degradation!r} {self.hu_range!r}"

    @property
    def series_uids(self) -> frozenset[str]:
        """Of no real series."""
        return frozenset()

    def __call__(self) -> Sequence[npt.NDArray[np.float32]]:
        """``(1, 1, h, w)`` in [-1, 1], one for each series."""
        with tempfile.TemporaryDirectory(prefix="ctsr-calibration-") as folder:
            make_exams(Path(folder), patients=SYNTHETIC_PATIENTS, slices=1, workers=1)
            slices = [read_slice(series, 0).hu for series in scan(Path(folder)).all_series()]
        return [pair.lr.numpy() for pair in pairs_of(slices, self.degradation, self.hu_range)]
