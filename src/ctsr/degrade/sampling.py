"""Which degradation a slice gets: a function of seeds and names, never of order, workers or process."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ctsr.degrade.degradation import Degradation, DegradationParams
from ctsr.hashing import rng_from, seed_from

Sampling: TypeAlias = Literal["volume", "slice", "det-slice"]
SeedMode: TypeAlias = Literal["per_patient", "global"]


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
                return np.random.default_rng(seed + slice_index)
