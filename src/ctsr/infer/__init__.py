"""Networks applied to whole slices, by an engine."""

from ctsr.infer.engine import Clocked, Engine, TorchEngine
from ctsr.infer.resolver import SuperResolver, by_interpolation, by_network, telling
from ctsr.infer.slices import super_resolve

__all__ = [
    "Clocked",
    "Engine",
    "SuperResolver",
    "TorchEngine",
    "by_interpolation",
    "by_network",
    "super_resolve",
    "telling",
]
