"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out."""

from ctsr.degrade.apply import degrade, margin_of
from ctsr.degrade.degradation import Degradation, DegradationParams, Mode
from ctsr.degrade.sampling import Draw, Sampler, Sampling, SeedMode

__all__ = [
    "Degradation",
    "DegradationParams",
    "Draw",
    "Mode",
    "Sampler",
    "Sampling",
    "SeedMode",
    "degrade",
    "margin_of",
]
