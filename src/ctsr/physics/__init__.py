"""Resolution, noise and detectability of methods, on phantoms and on slices."""

from ctsr.physics.study import (
    REFERENCE,
    DetectabilityAt,
    NoiseAt,
    NoiseSlice,
    NoiseStudy,
    PhysicsSettings,
    PhysicsStudy,
    TransferAt,
    conditions,
    noise_study,
    study,
)
from ctsr.physics.transfer import (
    DiscTask,
    EdgeProfile,
    TransferFunction,
    detectability,
    edge_profile,
    soft_disc,
    transfer_function,
)
from ctsr.quality.noise import NoiseSpectrum, Region, homogeneous_regions, power_map, spectrum_of

__all__ = [
    "REFERENCE",
    "DetectabilityAt",
    "DiscTask",
    "EdgeProfile",
    "NoiseAt",
    "NoiseSlice",
    "NoiseSpectrum",
    "NoiseStudy",
    "PhysicsSettings",
    "PhysicsStudy",
    "Region",
    "TransferAt",
    "TransferFunction",
    "conditions",
    "detectability",
    "edge_profile",
    "homogeneous_regions",
    "noise_study",
    "power_map",
    "soft_disc",
    "spectrum_of",
    "study",
    "transfer_function",
]
