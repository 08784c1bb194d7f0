"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out; `degrade_hu` for one slice in HU."""

from ctsr.degrade.apply import degrade, margin_of
from ctsr.degrade.degradation import Degradation, DegradationParams, Mode
from ctsr.degrade.exam_dose import with_own_noise
from ctsr.degrade.in_hu import degrade_hu
from ctsr.degrade.projected import WholeSlice
from ctsr.degrade.sampling import DegradationSampler, Draw, Sampling, SeedMode

__all__ = [
    "Degradation",
    "DegradationParams",
    "DegradationSampler",
    "Draw",
    "Mode",
    "Sampling",
    "SeedMode",
    "WholeSlice",
    "degrade",
    "degrade_hu",
    "margin_of",
    "with_own_noise",
]
