"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out."""

from ctsr.degrade.apply import degrade, margin_of
from ctsr.degrade.degradation import Degradation, DegradationParams, Mode
from ctsr.degrade.sampling import DegradationSampler, Draw, Sampling, SeedMode

__all__ = [
    "Degradation",
    "DegradationParams",
    "DegradationSampler",
    "Draw",
    "Mode",
    "Sampling",
    "SeedMode",
    "degrade",
    "margin_of",
]
