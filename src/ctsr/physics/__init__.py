"""Resolution, noise and detectability of methods, on phantoms and on slices."""

from ctsr.physics.conditions import PhysicsSettings, conditions
from ctsr.physics.detectability import DiscTask, detectability
from ctsr.physics.on_slices import REFERENCE, NoiseSlice, NoiseStudy, noise_study
from ctsr.physics.phantom import soft_disc
from ctsr.physics.study import DetectabilityAt, NoiseAt, PhysicsStudy, TransferAt, study
from ctsr.physics.transfer import EdgeProfile, TransferFunction, edge_profile, transfer_function
from ctsr.quality.noise_spectrum import NoiseSpectrum, power_map, spectrum_of
from ctsr.quality.regions import Region, homogeneous_regions

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
