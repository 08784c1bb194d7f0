"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out; `degrade_hu` for one slice in HU."""

from ctsr import make_callable
from ctsr.degrade.apply import degrade, degrade_hu, margin_of
from ctsr.degrade.degradation import Degradation, DegradationParams, DegradationSampler, Draw, Mode, Sampling, SeedMode
from ctsr.degrade.noise import WholeSlice, with_own_noise

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

make_callable(__name__, "ctsr.api.images:degrade")
